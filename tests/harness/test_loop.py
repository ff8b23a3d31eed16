"""Whole runs of the stub trainer: what they leave behind, and how they end."""

import logging
import shutil
import signal
import sys
import time

import imageio.v3 as iio
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algos.harness import checkpoint, loop, metrics
from tests.harness import stub
from tests.harness.conftest import assert_same_run, final_arrays, rows_without_clock, start


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A run of two seeds from start to end with its pictures, for comparison."""
    path = tmp_path_factory.mktemp("runs") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        for name, module in stub.MODULES.items():
            patch.setitem(sys.modules, name, module)
        patch.setattr(sys, "argv", ["stub.py", "--num-seeds", "2", "--run-dir", str(path)])
        stub.main()
    return path


TWO_SEEDS = stub.Config(num_seeds=2)


def wait_for(path, timeout=60):
    deadline = time.monotonic() + timeout
    while not path.exists():
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.01)


# What a run leaves


def test_a_run_leaves_all_its_files(uninterrupted):
    names = sorted(each.name for each in uninterrupted.iterdir())
    assert names == ["checkpoints", "config.yaml", "curve.png", "episode.gif", "metrics.csv"]
    assert checkpoint.Checkpoints(uninterrupted / "checkpoints").updates() == [22, 25]
    assert iio.imread(uninterrupted / "curve.png").shape[2] == 4
    assert len(iio.imread(uninterrupted / "episode.gif")) == 13  # states of an episode of 12 steps


def test_metrics_csv_has_a_row_a_seed_and_log_point_and_no_nan(uninterrupted):
    text = (uninterrupted / "metrics.csv").read_text()
    assert "nan" not in text.lower() and "inf" not in text.lower()
    rows = metrics.read(uninterrupted / "metrics.csv")
    assert [(row["seed"], row["update"]) for row in rows] == [(s, u) for u in range(1, 26) for s in (0, 1)]
    for row in rows:
        assert row["env_steps"] == row["update"] * 12
        # In the stub an episode ends in every third update.
        assert (row["episode_return"] is None) == (row["update"] % 3 != 0)
        assert (row["eval_return"] is None) == (row["update"] not in loop.points(25, 10))
        assert row["loss"] > 0 and row["time_elapsed_s"] > 0


def test_points_begin_by_their_share_of_the_run_and_end_with_it():
    for num_updates in (1, 2, 9, 10, 11, 25, 99, 100, 101, 12345):
        save, log = loop.points(num_updates, 10), loop.points(num_updates, 100)
        assert max(save) == max(log) == num_updates
        assert min(save) <= max(1, num_updates / 10) and len(save) <= 10
        assert save <= log


def test_update_and_evaluation_are_compiled_once(main, tmp_path, caplog):
    traces = dict(stub.TRACES)
    jax.config.update("jax_log_compiles", True)  # the context manager of that name is for one thread only
    try:
        with caplog.at_level(logging.WARNING):
            code, _ = main("--run-dir", tmp_path / "run")
    finally:
        jax.config.update("jax_log_compiles", False)
    assert code == 0
    assert {name: stub.TRACES[name] - traces[name] for name in traces} == {"update": 1, "evaluate": 1}
    messages = [record.getMessage() for record in caplog.records]
    compiled = [message for message in messages if message.startswith("Finished XLA compilation")]
    for name in ("init", "update", "evaluate"):
        assert sum(f"jit({name})" in each for each in compiled) == 1, compiled


def test_evaluation_leaves_training_as_it_is(main, tmp_path, uninterrupted, monkeypatch):
    monkeypatch.setattr(loop, "EVALUATION", 1)  # other draws in the evaluations
    assert main("--num-seeds", 2, "--run-dir", tmp_path / "run")[0] == 0
    rows, expected = rows_without_clock(tmp_path / "run"), rows_without_clock(uninterrupted)
    assert [row.pop("eval_return") for row in rows] != [row.pop("eval_return") for row in expected]
    assert rows == expected
    arrays = final_arrays(tmp_path / "run", TWO_SEEDS)
    for name, array in final_arrays(uninterrupted, TWO_SEEDS).items():
        np.testing.assert_array_equal(arrays[name], array)


def test_seed_k_of_several_is_the_run_of_seed_k_alone(main, tmp_path):
    assert main("--seed", 5, "--num-seeds", 4, "--run-dir", tmp_path / "all")[0] == 0
    assert main("--seed", 7, "--run-dir", tmp_path / "one")[0] == 0
    together = final_arrays(tmp_path / "all", stub.Config(num_seeds=4))
    alone = final_arrays(tmp_path / "one")
    np.testing.assert_array_equal(together["key"][2], alone["key"][0])
    for name in alone:
        np.testing.assert_allclose(together[name][2], alone[name][0], rtol=1e-5, atol=1e-6, err_msg=name)
    rows = [row for row in rows_without_clock(tmp_path / "all") if row["seed"] == 7]
    for got, expected in zip(rows, rows_without_clock(tmp_path / "one"), strict=True):
        assert [name for name in got if got[name] is None] == [name for name in got if expected[name] is None]
        filled = {name: value for name, value in expected.items() if value is not None}
        assert {name: got[name] for name in filled} == pytest.approx(filled, rel=1e-5)


def test_a_run_repeated_from_its_config_yaml_is_the_same_run(main, tmp_path):
    main("--seed", 3, "--learning-rate", 0.5, "--core.d-model", 7, "--env.noise", 0.2, "--run-dir", tmp_path / "a")
    (path,) = (tmp_path / "a").glob("config.yaml")
    code, _ = main("--config", path, "--run-dir", tmp_path / "b")
    assert code == 0
    config = stub.Config(core={"name": "arelit", **stub.CORES["arelit"], "d_model": 7})
    assert_same_run(tmp_path / "a", tmp_path / "b", config)


# Kill and resume


@pytest.mark.parametrize(
    "where",
    [
        "to_arrays",  # before anything of the checkpoint is written
        "_digests",  # it has its name, but not the list of its files
        None,  # anywhere
    ],
)
def test_kill_9_and_resume_is_the_same_run_bit_for_bit(tmp_path, main, uninterrupted, where):
    path = tmp_path / "run"
    if where:
        process = start("--num-seeds", 2, "--run-dir", path, STUB_FAULT=f"kill checkpoint {where} 5")
    else:
        process = start("--num-seeds", 2, "--run-dir", path, STUB_SLEEP=0.05)
        wait_for(path / "checkpoints" / "10" / checkpoint.DIGESTS)
        time.sleep(0.07)
        process.kill()
    assert process.wait(60) == -signal.SIGKILL, process.stderr.read()
    process = start("--resume", path)
    assert process.wait(60) == 0, process.stderr.read()
    err = process.stderr.read()
    assert "resuming after update 10" in err or where is None
    assert ("damaged" in err) == (where == "_digests")
    assert_same_run(uninterrupted, path, TWO_SEEDS)


def test_a_run_killed_before_its_first_checkpoint_starts_over(tmp_path, main, uninterrupted):
    path = tmp_path / "run"
    process = start("--num-seeds", 2, "--run-dir", path, STUB_FAULT="kill checkpoint to_arrays 1")
    assert process.wait(60) == -signal.SIGKILL
    assert main("--resume", path)[0] == 0
    assert_same_run(uninterrupted, path, TWO_SEEDS)


def test_a_truncated_newest_checkpoint_is_reported_and_the_one_before_it_used(tmp_path, main, uninterrupted):
    path = tmp_path / "run"
    process = start("--num-seeds", 2, "--run-dir", path, STUB_FAULT="kill checkpoint to_arrays 6")
    assert process.wait(60) == -signal.SIGKILL
    newest = max((path / "checkpoints").iterdir(), key=lambda each: int(each.name))
    assert newest.name == "12"
    files = [each for each in newest.rglob("*") if each.is_file()]
    largest = max(files, key=lambda each: each.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:50])
    code, err = main("--resume", path)
    assert code == 0
    assert "checkpoint of update 12 is damaged" in err and "resuming after update 10" in err
    assert "Traceback" not in err
    assert_same_run(uninterrupted, path, TWO_SEEDS)


def lose_digests(path):
    for each in (path / "checkpoints").iterdir():
        (each / checkpoint.DIGESTS).unlink()


def lose_checkpoints(path):
    shutil.rmtree(path / "checkpoints")


def replace_checkpoints(path):
    lose_checkpoints(path)
    (path / "checkpoints").write_text("")


def change_columns(path):
    rows = path / "metrics.csv"
    rows.write_text(rows.read_text().replace("loss", "los", 1))


@pytest.mark.parametrize(
    "harm, words",
    [
        (lose_digests, "all its checkpoints are damaged"),
        (lose_checkpoints, "its metrics.csv has rows, but its checkpoints/ is gone"),
        (replace_checkpoints, "but its checkpoints/ is gone"),
        (change_columns, "metrics.csv: line 1: must be the columns"),
    ],
)
def test_a_resume_that_is_refused_changes_nothing(tmp_path, main, harm, words):
    path = tmp_path / "run"
    assert main("--run-dir", path)[0] == 0
    harm(path)
    before = {each: each.read_bytes() for each in path.rglob("*") if each.is_file()}
    code, err = main("--resume", path)
    assert code == 2 and words in err.splitlines()[-1], err
    assert {each: each.read_bytes() for each in path.rglob("*") if each.is_file()} == before


def test_resuming_a_finished_run_changes_nothing_but_the_pictures(tmp_path, main):
    path = tmp_path / "run"
    assert main("--run-dir", path)[0] == 0
    before = (path / "metrics.csv").read_text()
    assert main("--resume", path)[0] == 0
    assert (path / "metrics.csv").read_text() == before


# Signals


@pytest.mark.parametrize(
    "number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138), (signal.SIGHUP, 129)]
)
def test_a_signal_saves_and_the_resumed_run_is_the_same(tmp_path, main, uninterrupted, number, code):
    path = tmp_path / "run"
    process = start("--num-seeds", 2, "--run-dir", path, STUB_SLEEP=0.05)
    wait_for(path / "checkpoints" / "10")
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert f"--resume {path}" in err
    saved = checkpoint.Checkpoints(path / "checkpoints")
    assert saved.updates()[-1] < 25 and not saved.damage(saved.updates()[-1])
    assert main("--resume", path)[0] == 0
    assert_same_run(uninterrupted, path, TWO_SEEDS)


def test_a_second_signal_stops_at_once(tmp_path):
    path = tmp_path / "run"
    process = start("--run-dir", path, STUB_SLEEP=5)
    wait_for(path / "metrics.csv")
    time.sleep(0.5)  # inside the first update
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 143
    assert time.monotonic() - begin < 2
    assert "stopped at once" in process.stderr.read()


def test_a_signal_while_nothing_can_be_saved_stops_at_once(tmp_path):
    process = start("--run-dir", tmp_path / "run", STUB_FAULT="hang loop compile_programs 1")
    wait_for(tmp_path / "run" / "config.yaml")
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 143
    assert "--resume" in process.stderr.read()


def test_handlers_are_restored(main, tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert main("--run-dir", tmp_path / "run")[0] == 0
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert signal.set_wakeup_fd(-1) == -1


# Faults


def test_a_loss_of_the_only_seed_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(
    main, tmp_path, monkeypatch
):
    path = tmp_path / "run"
    monkeypatch.setenv("STUB_NAN", "1:11")
    code, err = main("--seed", 1, "--run-dir", path)
    assert code == 1
    line = err.splitlines()[-1]
    assert line.startswith("error: loss=nan") and "seed 1 " in line and "update 11" in line
    assert checkpoint.Checkpoints(path / "checkpoints").newest_whole() == 10
    assert "nan" not in (path / "metrics.csv").read_text()
    monkeypatch.delenv("STUB_NAN")  # as after a repair of the environment
    assert main("--resume", path)[0] == 0


def test_a_seed_that_diverges_stays_as_it_was_and_the_others_go_on(main, tmp_path, monkeypatch):
    assert main("--num-seeds", 3, "--run-dir", tmp_path / "whole")[0] == 0
    monkeypatch.setenv("STUB_NAN", "1:11")
    code, err = main("--num-seeds", 3, "--run-dir", tmp_path / "run")
    assert code == 1
    assert "loss=nan: not finite in seed 1 at update 11; it stays as it was before, the other seeds go on" in err
    assert err.splitlines()[-1].endswith("diverged: seed 1 at update 11; the other seeds are done")
    rows, whole = ([row for row in rows_without_clock(tmp_path / name)] for name in ("run", "whole"))
    kept = [row for row in whole if row["seed"] != 1 or row["update"] < 11]
    assert rows == kept
    config = stub.Config(num_seeds=3)
    arrays, expected = (final_arrays(tmp_path / name, config) for name in ("run", "whole"))
    for name in (name for name in arrays if name.startswith("params")):
        np.testing.assert_array_equal(arrays[name][[0, 2]], expected[name][[0, 2]])
        assert np.isfinite(arrays[name]).all() and (arrays[name][1] != expected[name][1]).any()
    # The parameters of update 10, however often the run is interrupted: nothing of later updates is in them.
    short = stub.Config(seed=1, total_timesteps=12 * 10, anneal=True)
    assert main("--seed", 1, "--total-timesteps", 12 * 10, "--run-dir", tmp_path / "short")[0] == 0
    alone = final_arrays(tmp_path / "short", short)
    np.testing.assert_allclose(arrays["params.w"][1], alone["params.w"][0], rtol=1e-6)


def test_a_diverged_seed_is_remembered_by_a_resumed_run(main, tmp_path, monkeypatch):
    monkeypatch.setenv("STUB_NAN", "1:11")
    code, _ = main("--num-seeds", 3, "--run-dir", tmp_path / "whole")
    process = start("--num-seeds", 3, "--run-dir", tmp_path / "run", STUB_FAULT="kill checkpoint to_arrays 7")
    assert process.wait(300) == -9
    monkeypatch.delenv("STUB_NAN")  # it would go on as the others do
    code, err = main("--resume", tmp_path / "run")
    assert code == 1 and err.splitlines()[-1].endswith("diverged: seed 1 at update 11; the other seeds are done")
    assert rows_without_clock(tmp_path / "run") == rows_without_clock(tmp_path / "whole")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["metric", "parameter"])
def test_an_update_that_is_not_finite_changes_nothing_that_was_learnt(bad, where):
    state = stub.make_train(stub.Config()).init(jax.random.key(0))

    def update(state):
        params = state.params._replace(w=state.params.w + (bad if where == "parameter" else 1.0))
        metrics = {"episodes": jnp.float32(0), "episode_return": jnp.nan, "loss": jnp.float32(1)}
        if where == "metric":
            metrics["loss"] = bad
        return state.replace(params=params, update=state.update + 1), metrics

    after, is_whole, _ = loop.guarded(update)(state, jnp.array(True))
    np.testing.assert_array_equal(after.params.w, state.params.w)
    assert not is_whole and after.update == 1
    healthy = lambda state: (state.replace(params=state.params._replace(w=state.params.w + 1)), {  # noqa: E731
        "episodes": jnp.float32(0), "episode_return": jnp.nan, "loss": jnp.float32(1)})  # fmt: skip
    after, is_whole, _ = loop.guarded(healthy)(state, jnp.array(True))
    assert is_whole and (after.params.w == state.params.w + 1).all()
    after, is_whole, _ = loop.guarded(healthy)(state, jnp.array(False))
    assert not is_whole and (after.params.w == state.params.w).all()


@pytest.mark.parametrize(
    "call, words, whole",
    [
        ("checkpoint to_arrays 5", ["checkpoints/12", "last whole checkpoint is that of update 10"], 10),
        ("metrics MetricsFile.append 13", ["metrics.csv"], 12),
    ],
    ids=["checkpoint", "metrics.csv"],
)
def test_a_disk_that_fills_ends_the_run_and_a_resume_finishes_it(tmp_path, uninterrupted, call, words, whole):
    path = tmp_path / "run"
    process = start("--num-seeds", 2, "--run-dir", path, STUB_FAULT=f"full {call}")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    line = err.splitlines()[-1]
    assert line.startswith("error: ") and all(word in line for word in words), err
    assert checkpoint.Checkpoints(path / "checkpoints").newest_whole() == whole
    process = start("--resume", path)
    assert process.wait(60) == 0, process.stderr.read()
    assert_same_run(uninterrupted, path, TWO_SEEDS)
