import sys
import types

import pytest

from algos.harness import checkpoint


class FakeWandb:
    """Records what is sent; `broken` names the call that fails."""

    def __init__(self, broken=""):
        self.broken, self.started, self.sent, self.finished = broken, [], [], 0
        self.Settings = lambda **settings: settings

    def _call(self, name):
        if self.broken == name:
            raise ConnectionError(f"no\nnetwork in {name}")

    def init(self, **arguments):
        self._call("init")
        self.started.append(arguments)
        return types.SimpleNamespace(log=self.log, finish=self.finish, define_metric=lambda *_, **__: None)

    def log(self, values):
        self._call("log")
        self.sent.append(values)

    def finish(self):
        self._call("finish")
        self.finished += 1


@pytest.fixture
def fake(monkeypatch):
    def install(broken=""):
        wandb = FakeWandb(broken)
        monkeypatch.setitem(sys.modules, "wandb", wandb)
        return wandb

    return install


def test_rows_are_sent_by_seed(main, tmp_path, fake):
    wandb = fake()
    code, _ = main("--seed", 3, "--num-seeds", 2, "--wandb", "offline", "--run-dir", tmp_path / "run")
    assert code == 0 and wandb.finished == 1
    assert (wandb.started[0]["mode"], wandb.started[0]["dir"]) == ("offline", str(tmp_path / "run"))
    assert len(wandb.sent) == 25 and wandb.sent[2]["env_steps"] == 36
    assert {"seed_3/episode_return", "seed_4/episode_return", "seed_3/loss"} <= wandb.sent[2].keys()
    assert "seed_3/episode_return" not in wandb.sent[0]  # no episode had ended
    for name in ("episode_return", "loss"):
        seeds = [wandb.sent[2][f"seed_{seed}/{name}"] for seed in (3, 4)]
        assert wandb.sent[2][f"mean/{name}"] == pytest.approx(sum(seeds) / 2)
    assert "mean/episode_return" not in wandb.sent[0]


def test_a_resumed_run_continues_the_same_wandb_run_and_others_do_not(main, tmp_path, fake):
    wandb = fake()
    for name in ("one", "two"):
        assert main("--wandb", "online", "--run-dir", tmp_path / name)[0] == 0
    assert main("--resume", tmp_path / "one")[0] == 0
    one, two, resumed = (each["id"] for each in wandb.started)
    assert one == resumed != two


def test_disabled_does_not_import_wandb(main, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # importing it is an error
    assert main("--run-dir", tmp_path / "run")[0] == 0
    code, err = main("--run-dir", tmp_path / "other", "--wandb", "offline")
    assert code == 2 and "wandb='offline'" in err


def test_a_wandb_that_cannot_start_is_bad_input_before_training(main, tmp_path, fake):
    fake(broken="init")
    code, err = main("--wandb", "online", "--run-dir", tmp_path / "run")
    assert code == 2
    assert err.startswith("error: wandb='online'") and "no network in init" in err and err.count("\n") == 1
    fake()
    assert main("--wandb", "online", "--run-dir", tmp_path / "run")[0] == 0


@pytest.mark.parametrize("broken", ["log", "finish"])
def test_a_wandb_that_fails_later_does_not_end_the_run(main, tmp_path, fake, broken):
    fake(broken=broken)
    code, err = main("--wandb", "online", "--run-dir", tmp_path / "run")
    assert code == 0
    assert err.count("wandb failed, going on without it") == 1
    assert checkpoint.Checkpoints(tmp_path / "run" / "checkpoints").newest_whole() == 25
