"""Learning curves of several runs in one picture.

    python scripts/plot.py runs/a runs/b --output curves.png

A line a run: the mean over its seeds of the return of its evaluations, with a 95 % confidence band (Student's t),
named by core and environment. The format follows the ending of the output: .png, .svg or .pdf.
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


def load(path: Path) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """(config, environment steps [N], returns of evaluations [seeds, N]) of a run directory."""
    config = run_dir.read_config(path, "RUN_DIR")
    steps, returns = curve.by_seed(metrics.read(path / run_dir.METRICS), "eval_return")
    if not steps.size:
        raise harness.BadInput(f"RUN_DIR={str(path)!r}: must hold at least one evaluation")
    return config, steps, returns


def draw(paths: list[Path], output: Path) -> None:
    """Draw the runs' curves into one picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for index, path in enumerate(paths):
        config, steps, returns = load(path)
        color = COLORS[index % len(COLORS)]
        for seed in returns:
            axes.plot(steps, seed, color=color, alpha=0.3, linewidth=0.8)
        seeds = f"{len(returns)} seed{'s' if len(returns) > 1 else ''}"
        label = f"{config['core']['name']}, {config['env']['id']} ({seeds})"
        curve.mean(axes, steps, returns, color, label, "o-")
    axes.set(xlabel="environment steps (one seed)", ylabel="return of evaluation episodes")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    with writing(output):
        figure.savefig(output, dpi=130)


def main() -> None:
    parser = harness.OneLineParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("run_dirs", nargs="+", metavar="RUN_DIR", type=Path)
    parser.add_argument("--output", type=Path, default=Path("curves.png"))
    with harness.exit_codes():
        arguments = parser.parse_args()
        if arguments.output.suffix not in FORMATS:
            raise harness.BadInput(f"output={str(arguments.output)!r}: must end in {', '.join(FORMATS)}")
        draw(arguments.run_dirs, arguments.output)


if __name__ == "__main__":
    main()
