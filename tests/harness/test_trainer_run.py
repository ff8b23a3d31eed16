"""The harness around a real trainer, as small as it gets."""

import os
import signal
import subprocess
import sys
import time

import pytest

from algos.harness import BadInput, checkpoint, cli, load_run
from tests.harness.conftest import assert_same_arrays, rows_without_clock

SMALL = """--env.id gymnax/Pendulum-v1 --num-envs 2 --num-steps 16 --sequence-length 8 --num-minibatches 2
--update-epochs 1 --total-timesteps 640 --eval-episodes 2
--core.n-layers 1 --core.d-model 8 --core.d-head 4 --core.d-ffc 8""".split()


@pytest.fixture(autouse=True)
def stub_modules():
    """The real environments and cores, in place of the stub's."""


def start(*flags):
    command = [sys.executable, "-m", "algos.ppo_arelit_continuous", *map(str, flags)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_kill_9_and_resume_is_the_same_run_bit_for_bit(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = start(*SMALL, "--run-dir", killed)
    listing = killed / "checkpoints" / "10" / checkpoint.DIGESTS
    while not listing.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    for process in (start("--resume", killed), start(*SMALL, "--run-dir", whole)):
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    assert rows_without_clock(whole) == rows_without_clock(killed)
    assert_same_arrays(load_run(whole).state, load_run(killed).state)


def parse(*flags):
    from algos import ppo_arelit_continuous as trainer

    return cli.parse(trainer.Config, trainer.PRESETS, trainer.__doc__, "ppo_arelit_continuous", flags).config


def test_every_preset_is_complete_and_can_be_resumed_from_its_yaml(tmp_path):
    import envs
    import networks
    from algos import ppo_arelit_continuous as trainer
    from algos.harness import run_dir

    for name in trainer.PRESETS:
        config = parse("--preset", name)
        assert config.env.keys() == {"id", *envs.options(config.env["id"])}
        assert config.core.keys() == {"name", *networks.hyperparameters(config.core["name"])}
        run_dir.create(tmp_path / name, config, "ppo_arelit_continuous", [])
        assert run_dir.load_config(tmp_path / name, trainer.Config, "ppo_arelit_continuous") == config


@pytest.mark.parametrize(
    "flags, field",
    [
        (["--env.id", "brax/halfcheeta"], "env.id='brax/halfcheeta'"),
        (["--core.name", "arelitt"], "core.name='arelitt'"),
        (["--preset", "hoper"], "preset='hoper'"),
        (["--core.nu", "4"], "--core.nu"),
        (["--num-minibatches", "7"], "num_minibatches=7"),
        (["--learning-rate", "nan"], "learning_rate=nan"),
        (["--gamma", "1.5"], "gamma=1.5"),
        (["--num-envs", "-1"], "num_envs=-1"),
    ],
)
def test_bad_input_names_the_field(flags, field):
    with pytest.raises(BadInput) as error:
        parse(*flags)
    assert field in str(error.value) and "\n" not in str(error.value)
