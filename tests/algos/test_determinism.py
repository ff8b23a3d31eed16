"""Same command, same hardware: the same bits, in processes that share nothing.

The same of ppo_arelit_continuous, one of the two runs killed and resumed, is in tests/harness/test_trainer_run.py.
"""

import os
import subprocess
import sys

import pytest

from algos.harness import load_run
from tests.harness.conftest import assert_same_arrays, rows_without_clock

SMALL = """--num-envs 4 --num-steps 16 --total-timesteps 192 --eval-episodes 2 --num-seeds 2
--core.n-layers 1 --core.d-model 8""".split()
FLAGS = {
    "a2c_arelit": "--env.corridor-len 4 --core.d-head 4 --core.d-ffc 8",
    "pqn_arelit": "--env.corridor-len 4 --core.name gru --sequence-length 8 --num-minibatches 2",
    "ppo_arelit": "--core.name gru --sequence-length 8 --num-minibatches 2 --update-epochs 2",
}


def start(algo, run_dir, hash_seed):
    """Python's own order of sets and hashes differs between the two: nothing may depend on it."""
    command = [sys.executable, "-m", f"algos.{algo}", *SMALL, *FLAGS[algo].split(), "--run-dir", str(run_dir)]
    environment = os.environ | {"PYTHONHASHSEED": str(hash_seed)}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


@pytest.mark.slow  # in every test run: a run that is killed and resumed is the one that was not
@pytest.mark.parametrize("algo", FLAGS)
def test_two_runs_of_one_command_are_equal_bit_for_bit(algo, tmp_path):
    paths = (tmp_path / "one", tmp_path / "other")
    for process in [start(algo, path, hash_seed) for hash_seed, path in enumerate(paths, start=1)]:
        _, err = process.communicate(timeout=1500)
        assert process.returncode == 0, err
    one, other = map(rows_without_clock, paths)
    assert len(one) == 2 * 3 and one == other
    one, other = (load_run(path).state for path in paths)
    assert_same_arrays(one, other)
