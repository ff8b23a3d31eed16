"""Runs whose environments are in worker processes: signals, resume, and a worker that fails."""

import signal
import subprocess
import sys
import time

import pytest

from algos.harness import checkpoint, load_run
from tests.processes import children, gone, wait_until

MODULE = "tests.envs.host_environments"
SMALL = """--num-envs 2 --num-steps 8 --sequence-length 8 --num-minibatches 1 --update-epochs 1 --eval-episodes 2
--core.name gru --core.n-layers 1 --core.d-model 8 --env.max-steps-in-episode 6 --env.workers 2""".split()


@pytest.fixture(autouse=True)
def stub_modules():
    """The real environments and cores, in place of the stub's."""


def start(*flags):
    command = [sys.executable, "-m", "algos.ppo_arelit", *map(str, flags)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_for_checkpoint(run, update, process):
    listing = run / "checkpoints" / str(update) / checkpoint.DIGESTS
    wait_until(lambda: listing.exists() or process.poll() is not None, seconds=200)
    assert listing.exists(), process.stderr.read()


@pytest.mark.slow
def test_a_signal_stops_at_once_with_the_last_checkpoint_whole_and_a_resume_goes_on(tmp_path):
    """A step takes 0.1 s here and an update most of a second, evaluations more."""
    run = tmp_path / "run"
    process = start("--env.id", f"host/{MODULE}:slow", "--total-timesteps", 160, "--run-dir", run, *SMALL)
    for number, code, update in ((signal.SIGINT, 130, 1), (signal.SIGTERM, 143, 2)):
        wait_for_checkpoint(run, update, process)
        time.sleep(0.3)  # in the next rollout
        workers = children(process.pid)
        assert len(workers) == 2
        process.send_signal(number)
        begin = time.monotonic()
        assert process.wait(30) == code
        assert time.monotonic() - begin < 1
        err = process.stderr.read()
        assert f"the last checkpoint is {run}/checkpoints/{update}" in err and f"--resume {run}" in err
        wait_until(lambda workers=workers: all(gone(pid) for pid in workers))
        loaded = load_run(run, pytest.fail)
        assert loaded.update == update
        loaded.trainer.env.workers.close()
        process = start("--resume", run)
    wait_for_checkpoint(run, 3, process)
    process.kill()
    assert "resuming after update 2 of 10" in process.communicate()[1]


def test_a_worker_that_raises_ends_the_run_with_its_traceback_and_how_to_go_on(tmp_path):
    run = tmp_path / "run"
    process = start("--env.id", f"host/{MODULE}:raises_late", "--total-timesteps", 1600, "--run-dir", run, *SMALL)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 1
    assert 'raise EOFError("the ball is gone")' in err
    *_, last = err.splitlines()
    assert last.startswith(f"error: env.id='host/{MODULE}:raises_late': worker ")
    assert f"raised EOFError: the ball is gone; the last checkpoint is {run}/checkpoints/" in last
    assert last.endswith(f"--resume {run}")
