"""curve.png: the learning curve of a run, every seed and their mean with a confidence band."""

from pathlib import Path

import numpy as np

from algos.harness import metrics, pictures
from algos.harness.errors import writing
from algos.harness.statistics import confidence_interval

BLUE, ORANGE = "#3b6fb6", "#d9822b"


def draw(csv_path: Path, png_path: Path, title: str) -> None:
    """Draws the episode returns of training as lines and the evaluations as points over environment steps.

    Raises:
        RunError: the picture cannot be written.
    """
    with pictures.own_settings():
        _draw(metrics.read(csv_path), png_path, title)


def _draw(rows: list[metrics.Row], png_path: Path, title: str) -> None:
    figure = pictures.new_figure(7, 4.2)
    axes = figure.add_subplot()
    steps, training = by_seed(rows, "episode_return")
    at, evaluation = by_seed(rows, "eval_return")
    for curve in training:
        axes.plot(steps[~np.isnan(curve)], curve[~np.isnan(curve)], color=BLUE, alpha=0.35, linewidth=0.8)
    for curve in evaluation:
        axes.plot(at, curve, ".", color=ORANGE, alpha=0.35, markersize=4)
    seeds = len(training)
    suffix = f", mean of {seeds} seeds, 95 % confidence" if seeds > 1 else ""
    mean(axes, steps, training, BLUE, f"training{suffix}", "-")
    mean(axes, at, evaluation, ORANGE, f"evaluation{suffix}", "o--")
    axes.set(title=title, xlabel="environment steps (one seed)", ylabel="episode return (undiscounted)")
    axes.grid(alpha=0.25)
    if axes.has_data():
        axes.legend(frameon=False, fontsize=9)
    with writing(png_path):
        figure.savefig(png_path, dpi=130, format="png")


def by_seed(rows: list[metrics.Row], column: str) -> tuple[np.ndarray, np.ndarray]:
    """Environment steps [N] at which any seed has the column; its values [S, N], NaN where one lacks it."""
    seeds = sorted({float(row["seed"] or 0) for row in rows})
    steps = sorted({float(row["env_steps"] or 0) for row in rows if row.get(column) is not None})
    values = np.full((len(seeds), len(steps)), np.nan)
    place = {step: index for index, step in enumerate(steps)}
    for row in rows:
        if row.get(column) is not None:
            values[seeds.index(float(row["seed"] or 0)), place[float(row["env_steps"] or 0)]] = row[column]
    return np.array(steps), values


def mean(axes, steps: np.ndarray, values: np.ndarray, color: str, label: str, style: str) -> None:
    """Draws the mean over seeds of values [S, N] and its 95 % confidence band."""
    if not steps.size:
        return
    mean, half = confidence_interval(values)
    axes.plot(steps, mean, style, color=color, linewidth=1.8, markersize=4, label=label)
    axes.fill_between(steps, mean - half, mean + half, color=color, alpha=0.18, linewidth=0)
