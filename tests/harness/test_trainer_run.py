"""The harness around a real trainer, as small as it gets."""

import importlib
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

import algos
from algos.harness import BadInput, checkpoint, cli, devices, load_run
from algos.presets import PRESETS
from tests.harness.conftest import assert_same_arrays, rows_without_clock
from tests.processes import with_devices

TINY = """--env.id gymnax/Pendulum-v1 --num-envs 2 --num-steps 16 --sequence-length 8 --num-minibatches 2
--update-epochs 1 --total-timesteps 640 --eval-episodes 2 --core.n-layers 1 --core.d-model 8""".split()
SMALL = [*TINY, *"--core.d-head 4 --core.d-ffc 8".split()]


@pytest.fixture(autouse=True)
def stub_modules():
    """The real environments and cores, in place of the stub's."""


def start(*flags, **environment):
    command = [sys.executable, "-m", "algos.ppo_arelit_continuous", *map(str, flags)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | environment)


def test_kill_9_and_resume_is_the_same_run_bit_for_bit(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = start(*SMALL, "--run-dir", killed)
    listing = killed / "checkpoints" / "10" / checkpoint.DIGESTS
    deadline = time.monotonic() + 300
    while not listing.exists():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    for process in (start("--resume", killed), start(*SMALL, "--run-dir", whole)):
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    assert rows_without_clock(whole) == rows_without_clock(killed)
    assert_same_arrays(load_run(whole).state, load_run(killed).state)


@pytest.mark.slow
def test_two_seeds_on_two_devices_are_those_on_one_and_those_of_single_runs(tmp_path):
    from algos import ppo_arelit_continuous as trainer

    # One update, of a core that compiles quickly.
    flags = [*TINY, "--core.name", "gru", "--total-timesteps", 32]
    process = start(
        *(*flags, "--num-seeds", 2, "--run-dir", tmp_path / "run"),
        **with_devices(2),
    )
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0 and "2 seed(s) on 2 of 2" in err, err
    loaded = load_run(tmp_path / "run")
    assert loaded.update == 1

    # The same update on this process's one device, compiled for two seeds and for one.
    made = trainer.make_train(loaded.config)
    run = devices.over_seeds(lambda key: made.update(made.init(key))[0].params, devices.seed_mesh(1))
    run = jax.jit(run)  # keys [S] -> parameters [S, ...]
    together = checkpoint.to_arrays(run(devices.seed_keys(0, 2)))
    alone = [checkpoint.to_arrays(run(devices.seed_keys(seed, 1))) for seed in (0, 1)]
    for name, got in checkpoint.to_arrays(loaded.state.params).items():
        np.testing.assert_allclose(got, together[name], rtol=1e-5, atol=1e-5, err_msg=name)
        for seed in (0, 1):
            np.testing.assert_allclose(got[seed], alone[seed][name][0], rtol=1e-5, atol=1e-5, err_msg=name)


def parse(*flags):
    from algos import ppo_arelit_continuous as trainer

    return cli.parse(
        trainer.Config, PRESETS["ppo_arelit_continuous"], trainer.__doc__, "ppo_arelit_continuous", flags
    ).config


def test_every_preset_is_complete_and_can_be_resumed_from_its_yaml(tmp_path):
    import envs
    import networks
    from algos import ppo_arelit_continuous as trainer
    from algos.harness import run_dir

    for name in PRESETS["ppo_arelit_continuous"]:
        config = parse("--preset", name)
        assert config.env.keys() == {"id", *envs.options(config.env["id"])}
        assert config.core.keys() == {"name", *networks.hyperparameters(config.core["name"])}
        run_dir.create(tmp_path / name, config, "ppo_arelit_continuous", [])
        assert run_dir.load_config(tmp_path / name, trainer.Config, "ppo_arelit_continuous") == config


@pytest.mark.parametrize("algo", algos.TRAINERS)
def test_help_lists_every_preset_environment_and_core(algo, capsys):
    import envs
    import networks

    trainer = algos.TRAINERS[algo]
    with pytest.raises(SystemExit) as end:
        cli.parse(trainer.Config, PRESETS[algo], trainer.__doc__, algo, ["--help"])
    assert end.value.code == 0
    listed = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines() if line.startswith("--"))
    assert listed["--preset"].split(", ") == list(PRESETS[algo])
    assert listed["--env.id"].split(", ") == [*envs.ENV_IDS, *envs.ENV_FAMILIES]
    assert listed["--core.name"].split(", ") == list(networks.CORES)


def test_every_environment_takes_the_options_the_command_line_gives_it():
    import envs

    for env_id in envs.ENV_IDS:
        assert parse("--env.id", env_id).env == {"id": env_id, **envs.options(env_id)}
    options = dict(parse("--env.id", "brax/swimmer").env)
    envs.make(options.pop("id"), **options)


def test_the_sizes_of_the_default_core_carry_over_to_another():
    core, other = parse().core, parse("--core.name", "gtrxl").core
    common = core.keys() & other.keys() - {"name"}
    assert {"n_layers", "d_model", "n_heads"} <= common
    assert {name: other[name] for name in common} == {name: core[name] for name in common}


@pytest.mark.parametrize("algo", ["harness", "nothing", "no.module"])
def test_a_config_yaml_of_no_trainer_is_bad_input(tmp_path, algo):
    (tmp_path / "config.yaml").write_text(f"algo: {algo}\nenv: {{id: x}}\ncore: {{name: x}}\n")
    with pytest.raises(BadInput, match=f"algo='{algo}'"):
        load_run(tmp_path)


PLOT, EVALUATE = ("scripts.plot", "scripts.evaluate")


@pytest.mark.parametrize("script", [PLOT, EVALUATE])
@pytest.mark.parametrize("content", [b"algo: ppo_arelit_continuous\nenv: null\n", b"\xff\xfe\xff", b"[" * 5000])
def test_scripts_answer_a_damaged_config_yaml_with_one_line(tmp_path, monkeypatch, capsys, script, content):
    (tmp_path / "config.yaml").write_bytes(content)
    assert_one_line(script, [tmp_path], 2, "config.yaml", monkeypatch, capsys)


def test_plot_answers_bad_input_with_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "config.yaml").write_text("algo: x\nenv: {id: a}\ncore: {name: b}\n")
    (tmp_path / "metrics.csv").write_text("seed,update,env_steps,eval_return\n0,1,10,2.5\n")
    assert_one_line(PLOT, [tmp_path, "--colour"], 2, "--colour", monkeypatch, capsys)
    picture = tmp_path / "missing" / "curves.png"
    assert_one_line(PLOT, [tmp_path, "--output", picture], 2, str(picture), monkeypatch, capsys)
    (tmp_path / "metrics.csv").write_text("seed,update,env_steps,eval_return\n0,1,x,2.5\n")
    assert_one_line(PLOT, [tmp_path], 2, "metrics.csv: line 2", monkeypatch, capsys)


def assert_one_line(script, flags, code, word, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [script, *map(str, flags)])
    with pytest.raises(SystemExit) as end:
        importlib.import_module(script).main()
    err = capsys.readouterr().err
    assert end.value.code == code and err.startswith("error: ") and err.count("\n") == 1 and word in err, err


@pytest.mark.parametrize(
    "flags, field",
    [
        (["--env.id", "brax/halfcheeta"], "env.id='brax/halfcheeta'"),
        (["--core.name", "arelitt"], "core.name='arelitt'"),
        (["--preset", "hoper"], "preset='hoper'"),
        (["--core.nu", "4"], "--core.nu"),
        (["--num-minibatches", "7"], "num_minibatches=7"),
        (["--learning-rate", "nan"], "learning_rate=nan"),
        (["--encoder-widths", "a"], "--encoder-widths='a': must be integers separated by blanks"),
        (["--gamma", "1.5"], "gamma=1.5"),
        (["--num-envs", "-1"], "num_envs=-1"),
    ],
)
def test_bad_input_names_the_field(flags, field):
    with pytest.raises(BadInput) as error:
        parse(*flags)
    assert field in str(error.value) and "\n" not in str(error.value)
