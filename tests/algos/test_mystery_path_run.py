"""A short run of a trainer on Mystery Path: its options are lists too, and its time limit may be none."""

import sys

import pytest

from algos import ppo_arelit
from algos.harness import load_run

SMALL = "--env.id MysteryPath-Grid-Easy-v0 --env.observation symbolic --core.name gru --core.n-layers 1"
SMALL += " --core.d-model 8 --num-envs 2 --num-steps 4 --sequence-length 4 --num-minibatches 1 --eval-episodes 1"
SMALL += " --env.max-steps 6 --total-timesteps 16 --env.cardinal-origin-choice 0 2"


def run(monkeypatch, *flags):
    """The exit code of the trainer."""
    monkeypatch.setattr(sys, "argv", ["ppo_arelit.py", *map(str, flags)])
    try:
        ppo_arelit.main()
    except SystemExit as end:
        return end.code
    return 0


@pytest.mark.slow
def test_a_run_with_a_list_among_its_options_is_loaded_and_resumed(monkeypatch, tmp_path):
    path = tmp_path / "run"
    assert run(monkeypatch, *SMALL.split(), "--run-dir", path) == 0
    loaded = load_run(path)
    assert loaded.config.env["cardinal_origin_choice"] == [0, 2] and loaded.update == 2
    rows = (path / "metrics.csv").read_text()
    assert "eval_success" in rows and "episode_fails" in rows
    assert (path / "episode.gif").exists()
    assert run(monkeypatch, "--resume", path) == 0
    assert (path / "metrics.csv").read_text() == rows


@pytest.mark.slow
def test_the_endless_form_is_trained_without_a_time_limit(monkeypatch, tmp_path):
    path = tmp_path / "run"
    cut = SMALL.index("--core")
    flags = SMALL[cut : SMALL.index("--env.max-steps")].split()
    flags += ["--env.id", "Endless-MysteryPath-v0", "--total-timesteps", "64", "--run-dir", path]
    assert run(monkeypatch, *flags) == 0
    header = (path / "metrics.csv").read_text().partition("\n")[0].split(",")
    assert {"episode_max_x", "eval_tiles_visited", "eval_fails"} <= set(header) and "eval_success" not in header
    assert (path / "episode.gif").exists()


@pytest.mark.parametrize("limit", [0, -1])
def test_episodes_without_an_end_are_refused(monkeypatch, tmp_path, capsys, limit):
    flags = [*SMALL.split(), "--run-dir", tmp_path / "run", "--env.max-steps", limit]
    assert run(monkeypatch, *flags) == 2
    assert f"max steps of an episode={limit}: must be at least 1" in capsys.readouterr().err
