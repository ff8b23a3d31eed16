"""Two processes on this machine that train one job, by scripts/join.py and the stub trainer."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from algos.harness import BadInput, checkpoint
from scripts import join
from tests.harness import stub
from tests.harness.conftest import STUB, final_arrays, rows_without_clock, start
from tests.processes import with_devices

JOIN = Path(join.__file__)
FLAGS = ("--num-envs", 4)
CONFIG = stub.Config(num_envs=4)
LOST_S = join.HEARTBEAT_S + 30
"""A process that is killed is mostly noticed at once, and one that is silent after join.HEARTBEAT_S."""


def start_two(
    *flags, trainer=STUB, only_in_second=(), devices_each=(1, 1), faults=("", ""), **environment
) -> list[subprocess.Popen]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for index, fault in enumerate(faults):
        variables = {
            "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
            "JAX_NUM_PROCESSES": 2,
            "JAX_PROCESS_ID": index,
            **with_devices(devices_each[index]),
            "STUB_PLAIN": 1,
            **({"STUB_FAULT": fault} if fault else {}),
            **environment,
        }
        more = only_in_second if index == 1 else ()
        processes.append(
            subprocess.Popen(
                [sys.executable, str(JOIN), str(trainer), *map(str, (*flags, *more))],
                env=os.environ | {name: str(value) for name, value in variables.items()},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )  # fmt: skip
        )
    return processes


def outcomes(processes, timeout=300) -> list[tuple[int, str]]:
    """(exit code, what was printed) of each."""
    try:
        ended = []
        for process in processes:
            out, err = process.communicate(timeout=timeout)
            # gloo says on its own that it is connected.
            printed = [line for line in (out + err).splitlines() if not line.startswith("[Gloo]")]
            ended.append((process.returncode, "\n".join(printed)))
        return ended
    finally:
        for process in processes:
            process.kill()


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The same job in one process on one device."""
    path = tmp_path_factory.mktemp("runs") / "alone"
    process = start(*FLAGS, "--run-dir", path)
    assert process.wait(300) == 0, process.stderr.read()
    return path


def assert_same_job(path, expected):
    one, other = final_arrays(expected, CONFIG), final_arrays(path, CONFIG)
    np.testing.assert_array_equal(other["key"], one["key"])
    for name in one:
        np.testing.assert_allclose(other[name], one[name], rtol=1e-5, atol=1e-6, err_msg=name)
    rows, others = rows_without_clock(expected), rows_without_clock(path)
    assert len(rows) == len(others)
    for row, other in zip(rows, others, strict=True):
        assert [name for name in row if row[name] is None] == [name for name in row if other[name] is None]
        filled = {name: value for name, value in row.items() if value is not None}
        assert {name: other[name] for name in filled} == pytest.approx(filled, rel=1e-4)


def test_two_processes_train_one_job_and_the_first_alone_writes_and_prints(tmp_path, alone):
    elsewhere = tmp_path / "second"
    processes = start_two(*FLAGS, "--run-dir", tmp_path / "run", only_in_second=("--run-dir", elsewhere))
    (code, first), (second_code, second) = outcomes(processes)
    assert (code, second_code) == (0, 0), first + second
    assert "1 seed(s) on 2 of 2 device(s) of 2 processes (cpu), the 4 environments of each on 2" in first
    assert "done:" in first and second == "" and not elsewhere.exists()
    assert_same_job(tmp_path / "run", alone)


@pytest.mark.slow
def test_a_lost_process_ends_the_job_which_goes_on_with_other_devices_and_processes(tmp_path, alone):
    path = tmp_path / "run"
    kill = "kill report Report.add 8"
    # The second of two processes goes: the first says so.
    processes = start_two(*FLAGS, "--run-dir", path, faults=("", kill))
    assert processes[1].wait(300) == -signal.SIGKILL
    begin = time.monotonic()
    (code, first), _ = outcomes(processes)
    assert time.monotonic() - begin < LOST_S
    assert code == 1, first
    assert "error: process 0 of 2: another process of this job is gone; the last checkpoint is" in first
    assert f"--resume {path}" in first and "Traceback" not in first
    begun = checkpoint.Checkpoints(path / "checkpoints").newest_whole()
    assert 0 < begun < 8

    # One process of four devices goes on, and is killed too.
    process = start("--resume", path, STUB_FAULT="kill report Report.add 8", **with_devices(4))
    assert process.wait(300) == -signal.SIGKILL
    assert f"resuming after update {begun} of" in process.stderr.read()
    before = checkpoint.Checkpoints(path / "checkpoints").newest_whole()
    assert before > begun

    # Two processes of two devices each bring it to its end.
    (code, first), (second_code, second) = outcomes(start_two("--resume", path, devices_each=(2, 2)))
    assert (code, second_code) == (0, 0), first + second
    assert f"resuming after update {before} of" in first
    assert_same_job(path, alone)


def test_a_lost_first_process_ends_the_others(tmp_path):
    fault = "kill report Report.add 8"
    processes = start_two("--num-seeds", 2, "--run-dir", tmp_path / "run", faults=(fault, ""))
    assert processes[0].wait(300) == -signal.SIGKILL
    begin = time.monotonic()
    _, (code, second) = outcomes(processes)
    assert time.monotonic() - begin < LOST_S
    # Either the exchange between the devices fails first, or the connection to the first process.
    assert code != 0 and ("another process of this job is gone" in second or "another task died" in second)


@pytest.mark.slow
def test_a_real_trainer_on_two_processes_is_that_of_one(tmp_path):
    trainer = JOIN.parents[1] / "algos" / "a2c_arelit.py"
    flags = ["--core.n-layers", 1, "--core.d-model", 16, "--num-envs", 4, "--num-steps", 16]
    flags += ["--total-timesteps", 192, "--eval-episodes", 2]
    alone = [sys.executable, str(trainer), *map(str, flags), "--run-dir", str(tmp_path / "one")]
    assert subprocess.run(alone, capture_output=True, timeout=900).returncode == 0
    ended = outcomes(start_two(*flags, "--run-dir", tmp_path / "two", trainer=trainer), timeout=900)
    assert [code for code, _ in ended] == [0, 0], ended
    for row, other in zip(*(rows_without_clock(tmp_path / name) for name in ("one", "two")), strict=True):
        empty = [name for name, cell in row.items() if cell is None]  # no episode ended, or no evaluation
        assert [name for name, cell in other.items() if cell is None] == empty
        row, other = ({name: x for name, x in each.items() if name not in empty} for each in (row, other))
        assert other == pytest.approx(row, rel=1e-3, abs=1e-5)  # of acting and learning only rounding differs


@pytest.mark.slow
def test_a_process_that_is_silent_ends_the_job(tmp_path):
    """The whole machine may be gone, and nothing closes its connections."""
    processes = start_two(*FLAGS, "--run-dir", tmp_path / "run", faults=("", "hang report Report.add 8"))
    while not (tmp_path / "run" / "checkpoints" / "7" / checkpoint.DIGESTS).exists():
        assert all(process.poll() is None for process in processes)
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGSTOP)
    begin = time.monotonic()
    code, err = processes[0].wait(LOST_S), processes[0].stderr.read()
    processes[1].kill()
    assert time.monotonic() - begin < LOST_S
    assert code != 0 and "another task died" in err


def test_a_signal_to_one_process_stops_all_after_the_same_update(tmp_path):
    path = tmp_path / "run"
    processes = start_two("--num-seeds", 2, "--run-dir", path, STUB_SLEEP=0.2)
    deadline = time.monotonic() + 300
    while not (path / "checkpoints" / "2" / checkpoint.DIGESTS).exists():
        assert time.monotonic() < deadline and processes[1].poll() is None
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGTERM)
    (code, first), (second_code, second) = outcomes(processes)
    assert (code, second_code) == (143, 143), first + second
    assert "stopped; continue with:" in first
    assert 2 < checkpoint.Checkpoints(path / "checkpoints").newest_whole() < stub.NUM_UPDATES


def test_what_the_first_process_refuses_ends_all_with_code_2(tmp_path, alone):
    ended = outcomes(start_two(*FLAGS, "--run-dir", alone))
    assert [code for code, _ in ended] == [2, 2], ended
    assert all("already holds a run" in printed for _, printed in ended)


@pytest.mark.parametrize(
    ("differing", "words"),
    [
        ({"only_in_second": ("--learning-rate", 0.5)}, "learning_rate=0.5: in process 1, but learning_rate=0.01"),
        ({"only_in_second": ("--core.name", "gru")}, "core.name='gru': in process 1, but core.name='arelit'"),
        ({"only_in_second": ("--num-env", 4)}, "--num-env: unknown flag"),
        ({"devices_each": (1, 2)}, "devices of the processes=[1, 2]: must be equally many"),
    ],
)
def test_processes_that_do_not_agree_all_end_with_code_2(tmp_path, differing, words):
    ended = outcomes(start_two(*FLAGS, "--run-dir", tmp_path / "run", **differing))
    assert [code for code, _ in ended] == [2, 2], ended
    assert all(printed.startswith("error: ") and words in printed for _, printed in ended), ended
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"JAX_NUM_PROCESSES": "two", "JAX_COORDINATOR_ADDRESS": "a:1"}, "JAX_NUM_PROCESSES='two': must be"),
        ({"JAX_PROCESS_ID": "-1", "JAX_COORDINATOR_ADDRESS": "a:1"}, "JAX_PROCESS_ID='-1': must be"),
        ({"JAX_PROCESS_ID": "0"}, "JAX_COORDINATOR_ADDRESS: must be set"),
        ({"JAX_COORDINATOR_ADDRESS": "host0"}, "JAX_COORDINATOR_ADDRESS='host0': must be host:port"),
        (
            {"JAX_PROCESS_ID": "2", "JAX_NUM_PROCESSES": "2", "JAX_COORDINATOR_ADDRESS": "a:1"},
            "JAX_PROCESS_ID=2: must be below",
        ),
    ],
)
def test_bad_variables_are_named(environment, words):
    with pytest.raises(BadInput, match=words):
        join.settings(environment)


def test_a_sweep_is_no_job_of_several_processes(tmp_path):
    flags = ("a2c_arelit", "--grid", "gamma=0.9", "--output", tmp_path / "sweep")
    ended = outcomes(start_two(*flags, trainer=JOIN.with_name("sweep.py")))
    assert [code for code, _ in ended] == [2, 2], ended
    assert all("sweep: must be one process" in printed for _, printed in ended)


def test_joining_without_a_job_or_a_trainer_is_bad_input():
    for arguments, words in (((STUB,), "no job of several processes to join"), ((), "must be a trainer's file")):
        done = subprocess.run([sys.executable, JOIN, *arguments], capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize("index", [0, 1])
def test_a_process_does_not_wait_for_ever_for_the_others(index):
    code = "from scripts import join; join.START_S = 3; join.join()"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    variables = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(index)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | variables, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"error: JAX_COORDINATOR_ADDRESS='{address}': not all processes"), done.stderr
