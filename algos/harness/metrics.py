"""From the metrics of single updates to the rows of metrics.csv.

One row a seed and log point. A value that does not exist (no episode ended, no evaluation at this point) is
an empty cell, never NaN. Only columns that begin with `time_` depend on the clock, so a resumed run writes
the same rows.
"""

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from algos.harness.errors import RunError, writing

Row = dict[str, float | int | None]
Update = Mapping[str, Sequence[float] | np.ndarray]  # the metrics of one update, each [S]

EPISODE = "episode_"
FIRST = ("seed", "update", "env_steps", "episodes", "episode_return", "episode_length")
LAST = ("time_elapsed_s", "time_env_steps_per_s")


def columns(metrics: Iterable[str], evaluation: Iterable[str]) -> list[str]:
    """The header: what identifies the row, the episodes, the losses by name, the evaluation, the clock."""
    episodes, others = [], []
    for name in sorted(metrics):
        (episodes if name.startswith(EPISODE) else others).append(name)
    evaluated = sorted(evaluation_column(name) for name in evaluation)
    return list(dict.fromkeys([*FIRST, *episodes, *others, *evaluated, *LAST]))


def evaluation_column(name: str) -> str:
    """episode_return -> eval_return; success -> eval_success."""
    return f"eval_{name.removeprefix(EPISODE)}"


def check_finite(update: int, seeds: Sequence[int], metrics: Update) -> None:
    """Raises RunError naming the seed, the update and the metric if any is NaN or infinite."""
    for name, values in metrics.items():
        for seed, value in zip(seeds, values, strict=True):
            if not np.isfinite(value):
                raise RunError(f"{name}={value}: not finite in seed {seed} at update {update}; "
                               "stopped, the checkpoints hold the state before it")  # fmt: skip


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
            row[name] = float((values * episodes).sum() / episodes.sum()) if episodes.sum() else None
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

    Raises:
        RunError: the file cannot be written.
    """

    def __init__(self, path: Path, header: Sequence[str], keep_until: int):
        self.path, self._header = path, list(header)
        # The last line may have been cut off, even inside a number: only lines with their line end count.
        lines = path.read_text().splitlines(keepends=True)[1:] if path.exists() else []
        whole = [line for line in lines if line.endswith("\n") and line.count(",") == len(header) - 1]
        index = self._header.index("update")
        kept = [line for line in whole if int(line.split(",")[index]) <= keep_until]
        temporary = path.with_name(f".{path.name}.tmp")
        with writing(path):
            temporary.write_text(",".join(self._header) + "\n" + "".join(kept))
            temporary.rename(path)

    def append(self, rows: Sequence[Row]) -> None:
        """Adds rows; names that a row lacks are empty cells."""
        lines = [",".join(text(row.get(name)) for name in self._header) + "\n" for row in rows]
        with writing(self.path), open(self.path, "a") as file:
            file.write("".join(lines))
            file.flush()
            os.fsync(file.fileno())


def read(path: Path) -> list[Row]:
    """The rows of a metrics.csv, numbers as floats and empty cells as None."""
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        return [{name: float(cell) if cell else None for name, cell in row.items()} for row in reader]
