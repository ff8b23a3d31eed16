"""From the metrics of single updates to the rows of metrics.csv.

One row a seed and log point. A value that does not exist (no episode ended, no evaluation at this point) is
an empty cell, never NaN. Only columns that begin with `time_` depend on the clock, so a resumed run writes
the same rows.
"""

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from algos.harness.errors import BadInput, one_line, write_whole, writing

Row = dict[str, float | int | None]
Update = Mapping[str, Sequence[float] | np.ndarray]  # the metrics of one update, each [S]

EPISODE = "episode_"
EVALUATION = "eval_"
IDENTITY = ("seed", "update", "env_steps")
FIRST = (*IDENTITY, "episodes", "episode_return", "episode_length")
LAST = ("time_elapsed_s", "time_env_steps_per_s")


def columns(metrics: Iterable[str], evaluation: Iterable[str]) -> list[str]:
    """The header: what identifies the row, the episodes, the losses by name, the evaluation, the clock."""
    episodes: list[str] = []
    others: list[str] = []
    for name in sorted(metrics):
        (episodes if name.startswith(EPISODE) else others).append(name)
    evaluated = sorted(evaluation_column(name) for name in evaluation)
    return list(dict.fromkeys([*FIRST, *episodes, *others, *evaluated, *LAST]))


def evaluation_column(name: str) -> str:
    """episode_return -> eval_return; success -> eval_success."""
    return f"{EVALUATION}{name.removeprefix(EPISODE)}"


def not_finite(metrics: Update, seed_index: int) -> str:
    """The first metric of a seed that is NaN or infinite, as name=value; empty if all are finite.

    `episode_*` are NaN where no episode ended, and no fault.
    """
    values = {name: float(each[seed_index]) for name, each in metrics.items()}
    if values.get("episodes") == 0:
        values = {name: value for name, value in values.items() if not name.startswith(EPISODE)}
    return next((f"{name}={value}" for name, value in values.items() if not math.isfinite(value)), "")


def reduce(interval: Sequence[Update], seed_index: int) -> Row:
    """One seed's metrics over the updates of an interval.

    `episode_*` are means over the episodes that ended in the interval (None if none did), `episodes` is their
    number, the others are means over the updates.
    """
    stacked = {name: np.array([each[name][seed_index] for each in interval], float) for name in interval[0]}
    episodes = stacked["episodes"]
    row: Row = {}
    for name, values in stacked.items():
        if name == "episodes":
            row[name] = int(episodes.sum())
        elif name.startswith(EPISODE):
            total = (np.where(episodes > 0, values, 0) * episodes).sum()
            row[name] = float(total / episodes.sum()) if episodes.sum() else None
        else:
            row[name] = float(values.mean())
    return row


def text(value: float | int | None) -> str:
    """One cell; nine digits tell any two float32 apart."""
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.9g}"


class MetricsFile:
    """metrics.csv: appended row by row, each append complete on disk before it returns.

    Args:
        path: the file.
        header: its columns.
        keep_until: update count up to which rows of an earlier process stay. Those after it, and a line that
            was cut off, are removed: the resumed run writes them again.
        taken: called once the file there is known to be good, before it is changed.

    Raises:
        BadInput: the file there has other columns, or a line that is no row; it is left as it is.
        RunError: the file cannot be written.
    """

    def __init__(
        self, path: Path, header: Sequence[str], keep_until: int, taken: Callable[[], None] | None = None
    ):
        self.path, self._header = path, list(header)
        lines = [",".join(header)]
        if path.exists():
            there, *earlier = _lines(path)
            if there != lines[0]:
                raise BadInput(f"{path}: line 1: must be the columns of this trainer, {lines[0]}")
            for number, line in enumerate(earlier, start=2):
                if (_row(path, self._header, number, line)["update"] or 0) <= keep_until:
                    lines.append(line)
        if taken is not None:
            taken()
        write_whole(path, "".join(f"{line}\n" for line in lines))

    def append(self, rows: Sequence[Row]) -> None:
        """Adds rows; names that a row lacks are empty cells."""
        lines = [",".join(text(row.get(name)) for name in self._header) + "\n" for row in rows]
        with writing(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write("".join(lines))
            file.flush()
            os.fsync(file.fileno())


def read(path: Path) -> list[Row]:
    """The rows of a metrics.csv, numbers as floats and empty cells as None.

    Raises:
        BadInput: it cannot be read, or a line is no row.
    """
    first, *others = _lines(path)
    header = first.split(",")
    if missing := [name for name in IDENTITY if name not in header]:
        raise BadInput(f"{path}: line 1: lacks the column {missing[0]}")
    return [_row(path, header, number, line) for number, line in enumerate(others, start=2)]


def _lines(path: Path) -> list[str]:
    """The lines without their ends, at least one; what follows the last line end was cut off."""
    try:
        *lines, _ = path.read_bytes().split(b"\n")
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from error
    texts = []
    for number, line in enumerate(lines, start=1):
        try:
            texts.append(line.decode("utf-8").removesuffix("\r"))  # of an editor elsewhere
        except UnicodeDecodeError as error:
            raise BadInput(f"{path}: line {number}: must be UTF-8") from error
    return texts or [""]


def _row(path: Path, header: Sequence[str], number: int, line: str) -> Row:
    try:
        cells = zip(header, line.split(","), strict=True)
        row = {name: float(cell) if cell else None for name, cell in cells}
    except ValueError as error:
        raise BadInput(f"{path}: line {number}: is no row of these columns: {one_line(error)[:200]}") from error
    for name, value in row.items():
        if name in IDENTITY and (value is None or not value.is_integer()):
            raise BadInput(f"{path}: line {number}: {name} must be a whole number")
        if value is not None and not math.isfinite(value):
            raise BadInput(f"{path}: line {number}: {name}={value}: must be a finite number, or empty")
    return row
