"""Learning curves of several runs in one picture.

    python scripts/plot.py runs/a runs/b --output curves.png
    python scripts/plot.py runs/a runs/b --column episode_success --output success.png

A line a run: the mean over its seeds of the return of its evaluations, or of another column of metrics.csv, with a
95 % confidence band (Student's t), named by core and environment. The format follows the ending of the output:
.png, .svg or .pdf.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from algos import harness
from algos.harness import curve, metrics, run_dir
from algos.harness.errors import writing

COLORS = ("#3b6fb6", "#d9822b", "#4a9a5b", "#b04a8f", "#7a6a58", "#c0392b")
FORMATS = (".png", ".svg", ".pdf")


def load(path: Path, column: str) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """(config, environment steps [N], values of the column [seeds, N]) of a run directory."""
    config = run_dir.read_config(path, "RUN_DIR")
    rows = metrics.read(path / run_dir.METRICS)
    steps, values = curve.by_seed(rows, column)
    if not steps.size:
        filled = sorted({name for row in rows for name, value in row.items() if value is not None})
        allowed = ", ".join(filled) or "nothing, it has no rows"
        raise harness.BadInput(f"column={column!r}: {str(path)!r} has no value of it; it has: {allowed}")
    return config, steps, values


def draw(paths: list[Path], output: Path, column: str) -> None:
    """Draw the runs' curves into one picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for index, path in enumerate(paths):
        config, steps, values = load(path, column)
        color = COLORS[index % len(COLORS)]
        for seed in values:
            axes.plot(steps, seed, color=color, alpha=0.3, linewidth=0.8)
        seeds = f"{len(values)} seed{'s' if len(values) > 1 else ''}"
        label = f"{config['core']['name']}, {config['env']['id']} ({seeds})"
        curve.mean(axes, steps, values, color, label, "o-" if len(steps) <= 20 else "-")
    names = {"eval_return": "return of evaluation episodes", "episode_return": "return of training episodes"}
    names |= {"eval_success": "success of evaluation episodes", "episode_success": "success of training episodes"}
    axes.set(xlabel="environment steps (one seed)", ylabel=names.get(column, column))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    with writing(output):
        figure.savefig(output, dpi=130)


def main() -> None:
    parser = harness.OneLineParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("run_dirs", nargs="+", metavar="RUN_DIR", type=Path)
    parser.add_argument("--column", default="eval_return", help="of metrics.csv (default: eval_return)")
    parser.add_argument("--output", type=Path, default=Path("curves.png"))
    with harness.exit_codes():
        arguments = parser.parse_args()
        if arguments.output.suffix not in FORMATS:
            raise harness.BadInput(f"output={str(arguments.output)!r}: must end in {', '.join(FORMATS)}")
        if not arguments.output.parent.is_dir() or arguments.output.is_dir():
            raise harness.BadInput(f"output={str(arguments.output)!r}: must be a file in a directory that exists")
        draw(arguments.run_dirs, arguments.output, arguments.column)


if __name__ == "__main__":
    main()
