"""Learning curves of several runs in one picture, or their final values against a setting.

    python scripts/plot.py runs/a runs/b --output curves.png
    python scripts/plot.py runs/* --by core --column episode_success --output success.png --output success.svg
    python scripts/plot.py runs/* --by core,learning_rate
    python scripts/plot.py runs/* --by core --against corridor_len --column eval_success

A line a group of runs: the interquartile mean over their seeds of the return of evaluations, or of another column
of metrics.csv, with a 95 % interval by stratified bootstrap (Agarwal et al., 2021, arXiv 2108.13264): seeds are
drawn again within each setting, so that a group over several environments keeps its share of each. Values are
pooled as they are, not normalised. With few seeds, say five, such intervals are too narrow; one seed has none.

Seeds that have their values at other steps than the rest are interpolated linearly. A group is drawn where all its
seeds have values; what is left out is said. The format of a picture follows its ending: .png, .svg or .pdf.
"""

import argparse
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from algos import harness
from algos.harness import curve, metrics, pictures, run_dir, statistics
from algos.harness.errors import check_output, writing

# Told apart by those who see few colours, too (Okabe and Ito, 2008); then once more with dashes.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
DASHES = ("-", "--", ":", "-.")
FORMATS = (".png", ".svg", ".pdf")
NAMES = {
    "eval_return": "return of evaluation episodes",
    "episode_return": "return of training episodes",
    "eval_success": "success of evaluation episodes",
    "episode_success": "success of training episodes",
}
SHORT = {"core": "core.name", "environment": "env.id", "env": "env.id"}
NO_SETTING = ("seed", "num_seeds", "total_timesteps", "eval_episodes", "run_dir", "resume", "init_from", "wandb")
MAX_POINTS = 200
LEGEND_WIDTH = 76  # characters


class Run(NamedTuple):
    """A run directory. values: the column [S, N] at `steps` [N], NaN where a seed lacks it; seeds: [S]."""

    path: Path
    config: dict[str, Any]
    seeds: list[int]
    steps: np.ndarray
    values: np.ndarray


class Line(NamedTuple):
    """One seed's curve; stratum tells the settings of a group apart."""

    name: str
    seed: int
    steps: np.ndarray
    values: np.ndarray
    stratum: int


def load(path: Path, column: str) -> Run:
    """Reads a run, and says which of its seeds or rows are not there.

    Raises:
        BadInput: no run, a damaged file, or no value of the column.
    """
    config = run_dir.read_config(path, "RUN_DIR")
    rows = metrics.read(path / run_dir.METRICS)
    steps, values = curve.by_seed(rows, column)
    if not steps.size:
        filled = sorted({name for row in rows for name, value in row.items() if value is not None})
        allowed = ", ".join(filled) or "nothing, it has no rows"
        raise harness.BadInput(f"column={column!r}: {str(path)!r} has no value of it; it has: {allowed}")
    if not (path / run_dir.METRICS).read_bytes().endswith(b"\n"):
        print(f"{path}: the last line of {run_dir.METRICS} is cut off and left out")
    seeds = sorted({int(row["seed"]) for row in rows})
    first, count = config.get("seed"), config.get("num_seeds")
    if type(first) is int and type(count) is int:
        if missing := sorted(set(range(first, first + count)) - set(seeds)):
            print(f"{path}: no rows of seed {', '.join(map(str, missing))}")
    there = ~np.isnan(values).all(axis=1)
    if not there.all():
        without = ", ".join(str(seed) for seed, has in zip(seeds, there, strict=True) if not has)
        print(f"{path}: no {column} of seed {without}, left out")
    return Run(path, config, [seed for seed, has in zip(seeds, there, strict=True) if has], steps, values[there])


def setting(config: dict[str, Any], field: str) -> Any:
    """The value of a field of config.yaml, None if there is none.

    `core` and `environment` stand for their names; options of both are found with and without `core.`, `env.`.
    """
    group, _, name = SHORT.get(field, field).rpartition(".")
    for place in [config[group]] if group in run_dir.NAME_KEYS else [config, config["env"], config["core"]]:
        if name in place:
            return place[name]
    return None


def settings(config: dict[str, Any]) -> dict[str, Any]:
    """Every setting by its name in flags; equal for runs that differ in their seeds only.

    The length of a run is one where something is annealed over it.
    """
    flat = {}
    for name, value in config.items():
        if name in run_dir.NAME_KEYS:
            flat |= {f"{name}.{option}": each for option, each in value.items()}
        elif name not in NO_SETTING:
            flat[name] = value
    if any(value for name, value in config.items() if name.startswith("anneal_")):
        flat["total_timesteps"] = config.get("total_timesteps")  # over which something is annealed
    return flat


def check_field(runs: Sequence[Run], field: str, flag: str) -> None:
    if all(setting(run.config, field) is None for run in runs):
        allowed = sorted({"core", "environment", *(name for run in runs for name in settings(run.config))})
        raise harness.BadInput(f"{flag}={field!r}: no run has this setting; they have: {', '.join(allowed)}")


def group_runs(runs: Sequence[Run], by: Sequence[str]) -> dict[str, list[Run]]:
    """Runs by the name of their group; `by` are fields of config.yaml, none: each run on its own."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        if by:
            values = ((field, setting(run.config, field)) for field in by)
            # Names speak for themselves, numbers do not.
            name = ", ".join(v if isinstance(v, str) else f"{field} {v}" for field, v in values)
        else:
            name = f"{run.config['core']['name']}, {run.config['env']['id']}"
            alike = [
                r for r in runs if all(setting(r.config, x) == setting(run.config, x) for x in ("core", "env"))
            ]
            name += f", {run.path}" if len(alike) > 1 else ""
        groups.setdefault(name, []).append(run)
    return groups


def lines_of(name: str, runs: Sequence[Run]) -> list[Line]:
    """The curves of a group, a seed each; says so if their settings differ."""
    strata = [settings(run.config) for run in runs]
    distinct = [each for index, each in enumerate(strata) if each not in strata[:index]]
    if len(distinct) > 1:
        every = {field for each in distinct for field in each}
        differ = sorted(x for x in every if any(each.get(x) != distinct[0].get(x) for each in distinct))
        print(f"{name}: pools {len(distinct)} settings, values not normalised; they differ in {', '.join(differ)}")
    lines = []
    for run, stratum in zip(runs, strata, strict=True):
        for seed, values in zip(run.seeds, run.values, strict=True):
            there = ~np.isnan(values)
            index = distinct.index(stratum)
            line = Line(f"seed {seed} of {run.path}", seed, run.steps[there], values[there], index)
            if twin := next((each for each in lines if (each.stratum, each.seed) == (index, seed)), None):
                print(f"{name}: {twin.name} and {line.name} have the same settings: one seed counted twice")
            lines.append(line)
    return lines


def align(name: str, lines: Sequence[Line]) -> tuple[np.ndarray, np.ndarray]:
    """(steps [N], values [S, N]) where all curves of a group have values; says what is left out of it.

    Raises:
        BadInput: they have no steps in common.
    """
    last_to_start, first_to_end = max(lines, key=lambda x: x.steps[0]), min(lines, key=lambda x: x.steps[-1])
    start, end = last_to_start.steps[0], first_to_end.steps[-1]
    if start > end:
        reason = f"{last_to_start.name} starts at {start:,.0f}, after {first_to_end.name} ends at {end:,.0f}"
        raise harness.BadInput(f"RUN_DIR: {name}: no steps in common, for {reason}")
    if (longest := max(line.steps[-1] for line in lines)) > end:
        print(f"{name}: mean drawn up to {end:,.0f} of {longest:,.0f} steps, where {first_to_end.name} ends")
    steps = np.unique(np.concatenate([line.steps for line in lines]))
    steps = steps[(steps >= start) & (steps <= end)]
    if len(steps) > MAX_POINTS:
        steps = steps[np.linspace(0, len(steps) - 1, MAX_POINTS).round().astype(int)]
    return steps, np.stack([np.interp(steps, line.steps, line.values) for line in lines])


def interquartile_mean(values: np.ndarray, strata: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Interquartile mean over the leading axis of [S, N] and the ends of its 95 % interval, each [N].

    The interval is that of percentiles of the bootstrap stratified by `strata` [S]; NaN if no stratum has two
    values.
    """
    members = [values[np.asarray(strata) == each].T for each in np.unique(strata)]  # [N, S of the stratum] each
    columns = zip(*members, strict=True)
    intervals = [statistics.stratified_interval(statistics.interquartile_mean, each) for each in columns]
    return statistics.interquartile_mean(members), *np.array(intervals).T


def draw(paths: Sequence[Path], outputs: Path | Sequence[Path], column: str, by: Sequence[str] = (),
         against: str | None = None) -> None:  # fmt: skip
    """Draws the runs into one picture, written in the format of every output."""
    from matplotlib.ticker import EngFormatter

    runs = [load(path, column) for path in paths]
    for field in by:
        check_field(runs, field, "by")
    if against is not None:
        runs = runs_with(runs, against)
    style = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    # Fonts that journals take in PDF; the same bytes in SVG for the same runs.
    style |= {"pdf.fonttype": 42, "svg.hashsalt": "plot"}
    with pictures.own_settings(**style):
        figure = pictures.new_figure(5.5, 3.4)
        axes = figure.add_subplot()
        groups = group_runs(runs, by)
        for index, (name, members) in enumerate(groups.items()):
            look = {"color": COLORS[index % len(COLORS)], "linestyle": DASHES[index // len(COLORS) % len(DASHES)]}
            if against is None:
                draw_curves(axes, name, members, look)
            else:
                draw_final(axes, name, members, look, against, index - (len(groups) - 1) / 2)
        if against is None:
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        else:
            places = sorted({setting(run.config, against) for run in runs})
            margin = 0.1 * (places[-1] - places[0]) or 1
            axes.set_xticks(places)
            axes.set_xlim(places[0] - margin, places[-1] + margin)
        axes.set(xlabel=against or "environment steps (one seed)", ylabel=NAMES.get(column, column))
        if column.endswith("_success"):
            axes.set_ylim(-0.03, 1.03)
        axes.grid(alpha=0.25, linewidth=0.5)
        columns = max(1, 100 // (max(map(len, groups)) + 20))
        handles, labels = axes.get_legend_handles_labels()
        labels = [textwrap.fill(label, LEGEND_WIDTH) for label in labels]  # paths may be longer than the page
        figure.legend(handles, labels, loc="outside upper center", ncols=columns, frameon=False, fontsize=8)
        for output in [outputs] if isinstance(outputs, Path) else outputs:
            metadata = {"Date": None} if output.suffix == ".svg" else None
            with writing(output):
                figure.savefig(output, dpi=300, metadata=metadata)


def draw_curves(axes: Any, name: str, runs: Sequence[Run], look: dict[str, str]) -> None:
    """The curves of a group over environment steps."""
    lines = lines_of(name, runs)
    for line in lines:
        axes.plot(line.steps, line.values, color=look["color"], alpha=0.2, linewidth=0.5)
    steps, values = align(name, lines)
    mean, low, high = interquartile_mean(values, [line.stratum for line in lines])
    label = f"{name} ({len(lines)} seed{'s' if len(lines) > 1 else ''})"
    axes.plot(
        steps, mean, linewidth=1.5, marker="o" if len(steps) <= 20 else None, markersize=3, label=label, **look
    )
    axes.fill_between(steps, low, high, color=look["color"], alpha=0.2, linewidth=0)


def draw_final(
    axes: Any, name: str, runs: Sequence[Run], look: dict[str, str], against: str, place: float
) -> None:
    """The last value of every seed of a group against a setting, moved aside by `place` to keep groups apart."""
    from matplotlib.transforms import ScaledTranslation

    aside = axes.transData + ScaledTranslation(0.05 * place, 0, axes.figure.dpi_scale_trans)  # inches
    points = sorted({setting(run.config, against) for run in runs})
    rows, count = [], 0
    for x in points:
        lines = lines_of(f"{name}, {against} {x}", [run for run in runs if setting(run.config, against) == x])
        ends = [line.steps[-1] for line in lines]
        if min(ends) < max(ends):
            print(f"{name}, {against} {x}: last values are of {min(ends):,.0f} to {max(ends):,.0f} steps")
        final = np.array([[line.values[-1]] for line in lines])
        axes.plot(
            [x] * len(lines), final[:, 0], ".", color=look["color"], alpha=0.3, markersize=4, transform=aside
        )
        rows.append([float(value[0]) for value in interquartile_mean(final, [line.stratum for line in lines])])
        count += len(lines)
    mean, low, high = np.array(rows).T
    label = f"{name} ({count} seed{'s' if count > 1 else ''})"
    axes.plot(points, mean, marker="o", markersize=4, linewidth=1, label=label, transform=aside, **look)
    axes.vlines(points, low, high, color=look["color"], linewidth=1, transform=aside)


def runs_with(runs: Sequence[Run], field: str) -> list[Run]:
    """The runs that have a setting, which must be a number; says which have not."""
    check_field(runs, field, "against")
    kept = []
    for run in runs:
        value = setting(run.config, field)
        if value is None:
            print(f"{run.path}: has no {field}, left out")
        elif type(value) not in (int, float) or not math.isfinite(value):
            found = f"is {value!r} in {str(run.path)!r}"
            raise harness.BadInput(f"against={field!r}: {found}; must be a finite number")
        else:
            kept.append(run)
    return kept


def main() -> None:
    parser = harness.OneLineParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("run_dirs", nargs="+", metavar="RUN_DIR", type=harness.user_path)
    parser.add_argument("--column", default="eval_return", help="of metrics.csv (default: eval_return)")
    parser.add_argument("--by", default="run", help="what a line is: run (default), core, environment or any "
                        "setting, such as learning_rate or core.eta; several are joined by commas")  # fmt: skip
    parser.add_argument("--against", metavar="SETTING", help="last values against a setting instead of curves")
    parser.add_argument("--output", action="append", type=harness.user_path, help=f"{', '.join(FORMATS)}; may be "
                        "given several times (default: curves.png)")  # fmt: skip
    with harness.exit_codes():
        arguments = parser.parse_args()
        outputs = arguments.output or [Path("curves.png")]
        for output in outputs:
            if output.suffix not in FORMATS:
                raise harness.BadInput(f"output={str(output)!r}: must end in {', '.join(FORMATS)}")
            check_output(output)
        by = [] if arguments.by == "run" else arguments.by.split(",")
        draw(arguments.run_dirs, outputs, arguments.column, by, arguments.against)


if __name__ == "__main__":
    main()
