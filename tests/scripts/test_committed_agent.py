"""The agent that ships with the repository still loads, and still remembers."""

from pathlib import Path

import pytest

from scripts import evaluate, plot

RESULTS = Path(__file__).parents[2] / "scripts/notebooks/results/TMaze-v2-20"


@pytest.mark.parametrize("deterministic", [True, False])
def test_it_finds_the_cued_arm_of_a_corridor_of_20(deterministic):
    result = evaluate.evaluate(RESULTS / "agent", episodes=200, deterministic=deterministic, seed=1)
    assert result["env"] == "TMaze-v2" and result["core"] == "arelit"
    assert result["all"]["success"]["mean"] > 0.98
    assert result["all"]["length"]["mean"] < 21


def test_committed_curves_are_drawn_by_any_column(tmp_path):
    plot.draw([RESULTS / "arelit", RESULTS / "feedforward"], tmp_path / "a.png", "episode_success")
    assert (tmp_path / "a.png").stat().st_size > 10_000
    with_memory = plot.load(RESULTS / "arelit", "episode_success").values
    without = plot.load(RESULTS / "feedforward", "episode_success").values
    assert with_memory[:, -1].min() >= 0.95 and abs(without[:, -1] - 0.5).max() <= 0.05
