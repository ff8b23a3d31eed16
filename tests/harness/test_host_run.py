"""Runs whose environments are in worker processes: signals, resume, and a worker that fails."""

import os
import signal
import subprocess
import sys
import time

import pytest

from algos.harness import checkpoint, load_run

MODULE = "tests.envs.host_environments"
SMALL = """--num-envs 2 --num-steps 8 --sequence-length 8 --num-minibatches 1 --update-epochs 1 --eval-episodes 2
--core.name gru --core.n-layers 1 --core.d-model 8 --env.max-steps-in-episode 6 --env.workers 2""".split()


@pytest.fixture(autouse=True)
def stub_modules():
    """The real environments and cores, in place of the stub's."""


def start(*flags):
    command = [sys.executable, "-m", "algos.ppo_arelit", *map(str, flags)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def children(process) -> list[int]:
    with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
        found = [int(word) for word in file.read().split()]
    for thread in os.listdir(f"/proc/{process.pid}/task"):  # workers may be started by any thread
        with open(f"/proc/{process.pid}/task/{thread}/children") as file:
            found += [int(word) for word in file.read().split()]
    return sorted(set(found))


def wait_for(path, process):
    deadline = time.monotonic() + 200
    while not path.exists():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)


def test_a_signal_stops_at_once_with_the_last_checkpoint_whole_and_a_resume_goes_on(tmp_path):
    """A step takes 0.2 s here and an update 1.6 s: finishing it would take longer than allowed."""
    run = tmp_path / "run"
    process = start("--env.id", f"host/{MODULE}:slow", "--total-timesteps", 160, "--run-dir", run, *SMALL)
    for number, code, update in ((signal.SIGINT, 130, 1), (signal.SIGTERM, 143, 2)):
        wait_for(run / "checkpoints" / str(update) / checkpoint.DIGESTS, process)
        time.sleep(0.3)  # in the next rollout
        workers = children(process)
        assert len(workers) == 2
        process.send_signal(number)
        begin = time.monotonic()
        assert process.wait(30) == code
        assert time.monotonic() - begin < 1
        err = process.stderr.read()
        assert f"the last checkpoint is {run}/checkpoints/{update}" in err and f"--resume {run}" in err
        for pid in workers:
            with pytest.raises(ProcessLookupError):
                for _ in range(100):
                    os.kill(pid, 0)
                    time.sleep(0.01)
        loaded = load_run(run, pytest.fail)
        assert loaded.update == update
        loaded.trainer.env.pool.close()
        process = start("--resume", run)
    wait_for(run / "checkpoints" / "3" / checkpoint.DIGESTS, process)
    process.kill()
    assert "resuming after update 2 of 10" in process.communicate()[1]


def test_a_worker_that_raises_ends_the_run_with_its_traceback_and_how_to_go_on(tmp_path):
    run = tmp_path / "run"
    process = start("--env.id", f"host/{MODULE}:raises_late", "--total-timesteps", 1600, "--run-dir", run, *SMALL)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 1
    assert 'raise ZeroDivisionError("the ball is gone")' in err
    *_, last = err.splitlines()
    assert last.startswith(f"error: env.id='host/{MODULE}:raises_late': worker ")
    assert "raised ZeroDivisionError: the ball is gone; continue with: " in last and f"--resume {run}" in last
