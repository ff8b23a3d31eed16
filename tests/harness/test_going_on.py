"""A run directory has one writer, and what was learnt in one run can be gone on from in another."""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from algos import a2c_arelit
from algos.harness import BadInput, checkpoint, cli, curve, loop, run_dir
from tests.harness import stub
from tests.harness.conftest import STUB, final_arrays, rows_without_clock, start
from tests.processes import wait_until


def running(path, *flags):
    """A run that takes long, once it has begun to write."""
    process = start("--run-dir", path, *flags, STUB_SLEEP=5)
    wait_until((path / "metrics.csv").exists, 60)
    return process


def test_a_second_writer_is_refused_and_a_killed_one_is_none(main, tmp_path):
    first = running(tmp_path / "run")
    before = (tmp_path / "run" / "config.yaml").read_bytes()
    try:
        second = start("--resume", tmp_path / "run")
        _, err = second.communicate(timeout=60)
        assert second.returncode == 2 and err.count("\n") == 1
        assert f"is being written by process {first.pid} on " in err
        assert (tmp_path / "run" / "config.yaml").read_bytes() == before
    finally:
        first.kill()
        first.wait()
    assert main("--resume", tmp_path / "run")[0] == 0
    assert not (tmp_path / "run" / run_dir.LOCK).exists()


def test_a_lock_belongs_to_the_process_that_took_it(tmp_path):
    code = f"""
from pathlib import Path
from algos.harness import BadInput, run_dir
try:
    with run_dir.locked(Path({str(tmp_path)!r}), "output"):
        print("mine")
except BadInput as error:
    print(error)
"""

    def other() -> str:
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    with run_dir.locked(tmp_path, "output"):
        assert other().startswith(f"output={str(tmp_path)!r}: is being written by process {os.getpid()} on")
    assert other() == "mine\n" and list(tmp_path.iterdir()) == []


def test_a_picture_that_cannot_be_drawn_ends_nothing(main, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("latex was not found")

    monkeypatch.setattr(loop.curve, "draw", fail)
    monkeypatch.setattr(loop.episode, "record", fail)
    code, err = main("--run-dir", tmp_path / "run")
    assert code == 0 and "curve.png: left out: RuntimeError: latex was not found" in err
    assert "episode.gif: left out: RuntimeError" in err
    assert checkpoint.Checkpoints(tmp_path / "run" / "checkpoints").newest_whole() == stub.NUM_UPDATES


def test_pictures_are_drawn_with_settings_of_their_own(tmp_path):
    import matplotlib

    (tmp_path / "m.csv").write_text("seed,update,env_steps,episode_return\n0,1,10,1.0\n0,2,20,2.0\n")
    with matplotlib.rc_context({"text.usetex": True, "font.family": "no such font"}):
        curve.draw(tmp_path / "m.csv", tmp_path / "curve.png", "costs $5 and 5^$")
    assert (tmp_path / "curve.png").stat().st_size > 1000


# Going on


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    """A run of seeds 0 to 2."""
    path = tmp_path_factory.mktemp("runs") / "parent"
    process = start("--num-seeds", 3, "--run-dir", path)
    assert process.wait(120) == 0, process.stderr.read()
    return path


def started_from(main, path, parent, *flags):
    """What the last checkpoint of a run of no steps to speak of holds."""
    code, err = main("--init-from", parent, "--run-dir", path, "--learning-rate", 0, *flags)
    assert code == 0, err
    return final_arrays(path, stub.Config(num_seeds=int(flags[-1]) if flags else 1))


def test_a_new_run_starts_from_the_parameters_of_the_same_seeds(main, tmp_path, parent):
    learnt = final_arrays(parent, stub.Config(num_seeds=3))
    arrays = started_from(main, tmp_path / "run", parent, "--seed", 1, "--num-seeds", 2)
    np.testing.assert_array_equal(arrays["params.w"], learnt["params.w"][1:])
    one = started_from(main, tmp_path / "one", parent, "--seed", 2, "--num-seeds", 1)
    np.testing.assert_array_equal(one["params.w"][0], learnt["params.w"][2])
    all_of_one = started_from(main, tmp_path / "all", tmp_path / "one", "--seed", 7, "--num-seeds", 2)
    np.testing.assert_array_equal(all_of_one["params.w"], np.stack([learnt["params.w"][2]] * 2))


def test_what_does_not_fit_is_one_line_before_anything_is_compiled(main, tmp_path, parent):
    for flags, words in (
        (["--seed", 2, "--num-seeds", 2], "holds seeds 0 to 2, not seed 3"),
        (["--core.d-model", 9], "has (6, 2) for params.w, this run (9, 2)"),
        (["--init-from", tmp_path / "none"], "holds no run"),
    ):
        code, err = main("--init-from", parent, "--run-dir", tmp_path / "run", *flags)
        assert code == 2 and words in err and "compiled" not in err, err
        assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize(
    "line, other, words",
    [
        ("seed: 0", "seed: abc", "config.yaml: seed='abc': must be an integer from 0 to"),
        ("seed: 0", "seed: -1", "config.yaml: seed=-1: must be an integer from 0 to"),
        ("seed: 0", "seed: [1]", "config.yaml: seed=[1]: must be an integer from 0 to"),
        ("num_seeds: 3", "num_seeds: true", "config.yaml: num_seeds=True: must be an integer from 1 to"),
        ("num_seeds: 3", f"num_seeds: {10**30}", f"config.yaml: num_seeds={10**30}: must be an integer from 1"),
        ("num_seeds: 3\n", "", "config.yaml lacks the field num_seeds"),
        ("num_seeds: 3", "num_seeds: 4", "config.yaml: num_seeds=4: must be as in its checkpoint"),
    ],
)
def test_a_parent_with_a_bad_configuration_is_one_line(main, tmp_path, parent, line, other, words):
    shutil.copytree(parent, tmp_path / "parent")
    config = tmp_path / "parent" / "config.yaml"
    assert config.read_text().count(f"\n{line}") == 1
    config.write_text(config.read_text().replace(f"\n{line}", f"\n{other}"))
    code, err = main("--init-from", tmp_path / "parent", "--run-dir", tmp_path / "run")
    last = err.splitlines()[-1]
    assert code == 2 and last.startswith("error: init_from=") and words in last, err
    assert "compiled" not in err and "Traceback" not in err


def test_a_run_goes_on_for_longer_where_nothing_is_annealed(main, tmp_path, monkeypatch):
    whole, short = tmp_path / "whole", tmp_path / "short"
    assert main("--no-anneal", "--total-timesteps", 480, "--run-dir", whole)[0] == 0
    assert main("--no-anneal", "--total-timesteps", 240, "--run-dir", short)[0] == 0
    code, err = main("--resume", short, "--total-timesteps", 480)
    assert code == 0, err
    config = stub.Config(total_timesteps=480)
    for name, array in final_arrays(whole, config).items():
        np.testing.assert_array_equal(final_arrays(short, config)[name], array)
    assert rows_without_clock(short)[-1] == rows_without_clock(whole)[-1]
    text = (short / "config.yaml").read_text()
    assert "total_timesteps: 480" in text and "# resumed, command: " in text and "# started: " in text
    assert main("--resume", short, "--total-timesteps", 240)[0] == 2


def test_a_run_that_anneals_over_its_length_says_what_to_do_instead(tmp_path):
    @dataclass(frozen=True)
    class Config(stub.Config):
        anneal_learning_rate: bool = True

    with pytest.raises(BadInput, match="total_timesteps=600: .* anneal_learning_rate .*--init-from"):
        cli._continued(Config(), Config(total_timesteps=600), tmp_path)


# What is written as it is meant


def test_numbers_paths_and_line_ends_are_taken_as_meant(main, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main("--run-dir=~/run", "--total-timesteps", "0.3e3", "--num-envs=3e0")[0] == 0
    config = tmp_path / "run" / "config.yaml"
    text = config.read_text()
    assert "total_timesteps: 300\n" in text and "num_envs: 3\n" in text
    config.write_text(text.replace("learning_rate: 0.01", "learning_rate: 1e-2").replace(": 300\n", ": 3e2\n"))
    stored = run_dir.load_config(tmp_path / "run", stub.Config, "stub")
    assert stored.learning_rate == 0.01 and stored.total_timesteps == 300
    metrics_file = tmp_path / "run" / "metrics.csv"
    metrics_file.write_bytes(metrics_file.read_bytes().replace(b"\n", b"\r\n"))
    assert main("--resume", "~/run")[0] == 0
    code, err = main("--total-timesteps", "1.5", "--run-dir", tmp_path / "other")
    assert code == 2 and "must be an integer" in err


def test_the_header_says_what_can_change_a_number(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_DEFAULT_MATMUL_PRECISION", "highest")
    monkeypatch.setenv("GIT_DIR", str(tmp_path))  # another checkout's
    header = run_dir.header(["python"])
    assert "JAX_DEFAULT_MATMUL_PRECISION=highest" in header and "XLA_FLAGS" in header
    for package in ("jaxlib", "brax", "mujoco", "gymnax", "gymnasium", "distrax", "numpy"):
        assert f"{package} " in header
    monkeypatch.delenv("GIT_DIR")
    without = run_dir.header(["python"])
    assert [line for line in header.splitlines() if "commit" in line] == [
        line for line in without.splitlines() if "commit" in line
    ]


def test_a_copied_directory_is_another_wandb_run(tmp_path, monkeypatch):
    import types

    from algos.harness.wandb_log import WandbLog

    ids = []

    def init(**arguments):
        ids.append(arguments["id"])
        return types.SimpleNamespace(define_metric=lambda *_, **__: None)

    fake = types.SimpleNamespace(init=init, Settings=dict)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    original, copy = tmp_path / "original", tmp_path / "copy"
    original.mkdir()
    (original / "config.yaml").write_text("# started: now\nalgo: stub\n")
    shutil.copytree(original, copy)
    for path in (original, copy, original):
        WandbLog("offline", path, {})
    assert ids[0] == ids[2] != ids[1]


def test_a_stderr_that_is_gone_ends_nothing(tmp_path):
    environment = os.environ | {"STUB_PLAIN": "1"}
    command = f"exec {sys.executable} {STUB} --run-dir {tmp_path / 'run'} 2>&-"
    assert subprocess.run(["sh", "-c", command], env=environment, timeout=120).returncode == 0
    assert checkpoint.Checkpoints(tmp_path / "run" / "checkpoints").newest_whole() == stub.NUM_UPDATES


def test_a_reader_that_has_enough_is_no_fault():
    code = """from algos.harness import exit_codes
with exit_codes():
    for _ in range(10**5):
        print('x' * 100)"""
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {sys.executable} -c \"$CODE\" | head -1"],
        env=os.environ | {"CODE": code}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("variable, value", [("JAX_PLATFORMS", "cuda"), ("JAX_ENABLE_X64", "1")])
def test_what_variables_ask_for_and_cannot_be_is_one_line(tmp_path, variable, value):
    process = start("--run-dir", tmp_path / "run", **{variable: value})
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2 and err.startswith(f"error: {variable}=") and err.count("\n") == 1, err
    assert not (tmp_path / "run").exists()


REPOSITORY = Path(__file__).parents[2]
# A real trainer and scripts: gymnax starts the backend, and JAX reads variables, when they are imported.
PROGRAMS = {
    "trainer": ["algos/a2c_arelit.py", "--run-dir", "run"],
    "module": ["-m", "algos.pqn_arelit", "--run-dir", "run"],
    "evaluate": ["scripts/evaluate.py", "parent"],
    "leaderboard": ["scripts/leaderboard.py", "--smoke", "--output", "run"],
}


@pytest.mark.parametrize(
    "program, variable, value",
    [
        *((name, "JAX_PLATFORMS", "cuda") for name in PROGRAMS),
        ("trainer", "JAX_PLATFORMS", "foo"),
        ("trainer", "JAX_ENABLE_X64", "maybe"),
        ("trainer", "JAX_DEFAULT_MATMUL_PRECISION", "foo"),
        ("leaderboard", "JAX_ENABLE_X64", "maybe"),
    ],
)
def test_what_jax_refuses_while_a_program_is_imported_is_one_line(tmp_path, program, variable, value):
    (tmp_path / "parent").mkdir()
    run_dir.create(tmp_path / "parent", a2c_arelit.Config(), "a2c_arelit", [])
    first, *flags = PROGRAMS[program]
    command = [sys.executable, str(REPOSITORY / first) if first.endswith(".py") else first, *flags]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), variable: value}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"error: {variable}={value!r}: must "), done.stderr
    assert not (tmp_path / "run").exists()


def test_a_program_that_only_imports_the_package_gets_the_error_itself():
    done = subprocess.run(
        [sys.executable, "-c", "from algos import a2c_arelit"], cwd=REPOSITORY,
        env=os.environ | {"JAX_PLATFORMS": "foo"}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1 and "RuntimeError" in done.stderr


def test_the_second_start_compiles_nothing_and_computes_the_same(tmp_path):
    def run(name, **variables):
        on = {"JAX_ENABLE_COMPILATION_CACHE": 1, "XDG_CACHE_HOME": tmp_path / "cache"}
        process = start("--run-dir", tmp_path / name, **on | variables)
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        return {file for file in (tmp_path / "cache").rglob("*") if file.name.endswith("-cache")}

    first = run("first")
    assert len(first) >= 3  # start, update, evaluation
    begin = time.time()
    assert run("second") == first
    assert all(file.stat().st_mtime < begin for file in first)
    run("without", JAX_ENABLE_COMPILATION_CACHE=0)
    assert rows_without_clock(tmp_path / "first") == rows_without_clock(tmp_path / "second")
    assert rows_without_clock(tmp_path / "first") == rows_without_clock(tmp_path / "without")
