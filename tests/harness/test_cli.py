import dataclasses
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from algos.harness import BadInput, cli
from tests.harness import stub
from tests.harness.conftest import STUB


def parse(*argv):
    return cli.parse(stub.Config, stub.PRESETS, "A stub.", "stub", [str(each) for each in argv]).config


BAD_INPUT = [
    # flags, words of the one line: the field, its value, what is allowed
    (["--seed", "x"], ["--seed", "'x'", "an integer"]),
    (["--num-envs", "1.5"], ["--num-envs", "'1.5'", "an integer"]),
    (["--learning-rate", "fast"], ["--learning-rate", "'fast'", "a number"]),
    (["--learning-rate"], ["--learning-rate", "followed by a value"]),
    (["--learning-rate", "nan"], ["learning_rate=nan", "finite"]),
    (["--learning-rate", "inf"], ["learning_rate=inf", "finite"]),
    (["--env.noise", "nan"], ["env.noise=nan", "finite"]),
    (["--target-kl", "x"], ["--target-kl", "'x'", "None or a number"]),
    (["--wandb", "maybe"], ["--wandb", "'maybe'", "disabled", "offline", "online"]),
    (["--learning-rat", "1"], ["--learning-rat", "did you mean --learning-rate"]),
    (["--env.backendd", "mjx"], ["--env.backendd", "did you mean --env.backend"]),
    (["--core.nu", "4"], ["--core.nu", "unknown flag"]),
    (["--core.name", "gru", "--core.eta", "4"], ["--core.eta", "unknown flag"]),
    (["--anneal", "False"], ["'False' after --anneal"]),
    (["stray"], ["'stray'"]),
    (["--preset", "wid"], ["preset='wid'", "did you mean wide", "default, wide"]),
    (["--preset"], ["--preset", "expected one argument"]),
    (["--config", "nowhere"], ["config='nowhere'", "config.yaml"]),
    (["--config", "nowhere", "--preset", "wide"], ["config='nowhere'", "without --preset"]),
    (["--config", "nowhere", "--resume", "there"], ["config='nowhere'", "without --preset and --resume"]),
    (["--config", ""], ["config=''", "run directory"]),
    (["--preset", "wide", "--resume", "there"], ["preset='wide'", "without --config and --resume"]),
    (["--env.id", "stub/c"], ["env.id='stub/c'", "stub/a, stub/b"]),
    (["--core.name", "lru"], ["core.name='lru'", "arelit, gru"]),
    (["--num-envs", "0"], ["num_envs=0", "at least 1"]),
    (["--num-seeds", "-1"], ["num_seeds=-1", "at least 1"]),
    (["--num-envs", "7"], ["num_envs=7"]),  # refused by make_train
    (["--run-dir", "r\udcff"], ["run_dir='r\\udcff'", "UTF-8"]),
    (["--resume", ""], ["resume=''", "run directory"]),
    (["--resume", "nowhere"], ["resume='nowhere'", "config.yaml"]),
]


@pytest.mark.parametrize("flags, words", BAD_INPUT, ids=[" ".join(flags) for flags, _ in BAD_INPUT])
def test_bad_input_is_one_line_and_exit_code_2(main, tmp_path, monkeypatch, flags, words):
    monkeypatch.chdir(tmp_path)
    code, err = main(*flags)
    assert code == 2
    assert err.startswith("error: ") and err.count("\n") == 1, err
    for word in words:
        assert word in err
    assert list(tmp_path.iterdir()) == []  # nothing was begun


def test_bad_input_and_help_answer_quickly_without_loading_what_training_needs():
    code = f"""
import runpy, sys
try:
    runpy.run_path({str(STUB)!r}, run_name="__main__")
except SystemExit as end:
    heavy = {{"orbax.checkpoint", "matplotlib", "wandb", "imageio", "scipy.stats"}} & set(sys.modules)
    sys.exit(99 if heavy else end.code)
"""
    for flags, expected in ((["--help"], 0), (["--seed", "x"], 2)):
        begin = time.monotonic()
        command = [sys.executable, "-c", code, *flags]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert done.returncode == expected, done.stderr
        assert time.monotonic() - begin < 10


def test_help_lists_presets_environments_cores_and_the_options_of_the_chosen_ones(capsys):
    with pytest.raises(SystemExit) as end:
        parse("--help", "--core.name", "gru", "--env.id", "stub/b")
    assert end.value.code == 0
    out = capsys.readouterr().out
    for word in ("wide", "stub/a", "stub/b", "arelit", "gru", "--env.size", "--core.d-model", "Step size"):
        assert word in out
    assert "--preset" in out and "--config" in out
    assert "--core.eta" not in out
    words = " ".join(out.replace("│", " ").split())  # lines are broken at the terminal's width
    assert "D_model of gru. (default: 6)" in words and "N_layers of gru. (default: 2)" in words


def test_flags_override_the_preset_in_both_spellings():
    assert parse("--preset", "wide").learning_rate == 0.1
    assert parse("--preset=wide", "--learning-rate", "0.5").learning_rate == 0.5
    assert parse("--learning_rate", "0.5", "--preset", "wide").learning_rate == 0.5
    assert parse("--preset", "wide", "--no-anneal", "--target-kl", "0.1").target_kl == 0.1


def test_a_preset_that_names_its_environment_starts_from_that_ones_defaults():
    config = parse("--preset", "wide")
    assert config.env == {"id": "stub/b", "episode_length": 20, "size": 5}
    # It does not name a core: the default Config's, with its own changes.
    assert config.core == {"name": "arelit", "n_layers": 2, "d_model": 32, "eta": 4}


def test_values_of_the_preset_carry_over_to_another_core_and_environment_where_both_have_them():
    config = parse("--preset", "wide", "--core.name", "gru", "--env.id", "stub/a")
    assert config.core == {"name": "gru", "n_layers": 2, "d_model": 32}
    # wide sets neither of these: they are the defaults of stub/a, not those of stub/b.
    assert config.env == {"id": "stub/a", "backend": "spring", "episode_length": 12, "noise": 0.1}
    config = parse("--core.name=gru", "--core.d-model", "5")
    assert config.core == {"name": "gru", "n_layers": 2, "d_model": 5}


def test_a_config_that_leaves_options_out_is_completed():
    short = {"env": {"id": "stub/b"}, "core": {"name": "gru", "d_model": 3}}
    config = cli.preset_config(stub.Config, short)
    assert config.env == {"id": "stub/b", **stub.ENVS["stub/b"]}
    assert config.core == {"name": "gru", "n_layers": 1, "d_model": 3}


def test_a_preset_with_an_unknown_option_is_a_fault_of_the_program():
    with pytest.raises(ValueError, match="sizee"):
        cli.preset_config(stub.Config, {"env": {"id": "stub/b", "sizee": 3}})


@pytest.fixture
def held(tmp_path):
    """A run directory as a run with --learning-rate 0.5 --core.name gru leaves it."""
    config = parse("--learning-rate", "0.5", "--core.name", "gru", "--run-dir", tmp_path / "run")
    from algos.harness import run_dir

    run_dir.create(tmp_path / "run", config, "stub", ["stub.py"])
    return tmp_path / "run"


def test_resume_needs_no_other_flag_and_takes_the_same_ones(held):
    config = parse("--resume", held)
    assert (config.learning_rate, config.core["name"], config.run_dir) == (0.5, "gru", str(held))
    same = ["--learning-rate", "0.5", "--core.name", "gru", "--run-dir", held]
    assert parse("--resume", held, *same) == config
    assert parse("--resume", held, "--wandb", "offline").wandb == "offline"


@pytest.mark.parametrize("name", ["config.yaml", "."])
def test_config_repeats_a_run_and_flags_change_it(held, name):
    original = parse("--resume", held)
    assert parse("--config", held / name) == dataclasses.replace(original, run_dir="", resume="")
    changed = parse("--config", held / name, "--learning-rate", "0.1", "--run-dir", "b", "--core.d-model", "7")
    assert (changed.learning_rate, changed.run_dir, changed.core["d_model"]) == (0.1, "b", 7)
    assert parse("--config", held / name, "--core.name", "arelit").core["d_model"] == original.core["d_model"]


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--learning-rate", "0.1"], ["learning_rate=0.1", "learning_rate=0.5"]),
        (["--core.name", "arelit"], ["core.name='arelit'", "core.name='gru'"]),
        (["--core.d-model", "99"], ["core.d_model=99"]),
        (["--num-seeds", "4"], ["num_seeds=4", "num_seeds=1"]),
        (["--env.id", "stub/b"], ["env.id='stub/b'", "env.id='stub/a'"]),
        (["--run-dir", "elsewhere"], ["run_dir='elsewhere'"]),
    ],
)
def test_resuming_with_another_configuration_names_the_field(held, flags, words):
    with pytest.raises(BadInput) as error:
        parse("--resume", held, *flags)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda stored: stored | {"algo": "other"}, ["algos/other.py"]),
        (lambda stored: stored | {"surprise": 1}, ["surprise"]),
        (lambda stored: {k: v for k, v in stored.items() if k != "num_envs"}, ["lacks", "num_envs"]),
        (lambda stored: stored | {"num_envs": "many"}, ["num_envs='many'", "int"]),
        (lambda stored: stored | {"num_envs": 0}, ["num_envs=0", "at least 1"]),
        (lambda stored: stored | {"num_envs": None}, ["num_envs=None", "int"]),
        (lambda stored: stored | {"wandb": "foo"}, ["wandb='foo'", "'offline'"]),
        (lambda stored: stored | {"env": None}, ["env.id"]),
        (lambda stored: stored | {"env": {"backend": "spring"}}, ["env.id"]),
        (lambda stored: stored | {"core": {"name": 3}}, ["core.name"]),
        (lambda stored: stored | {"env": stored["env"] | {5: 1}}, ["config.yaml", "5 is no name"]),
        (lambda stored: stored | {"env": stored["env"] | {"noise": None}}, ["env.noise=None"]),
        (lambda stored: stored | {"learning_rate": 10**400}, ["too large"]),
        (lambda stored: stored | {1: 2}, ["1 is no name"]),
        (lambda stored: ["no", "mapping"], ["algo"]),
    ],
)
def test_a_config_yaml_that_is_not_this_trainers_is_bad_input(held, change, words):
    file = held / "config.yaml"
    file.write_text(yaml.safe_dump(change(yaml.safe_load(file.read_text()))))
    with pytest.raises(BadInput) as error:
        parse("--resume", held)
    for word in words:
        assert word in str(error.value)


def test_repeating_a_run_whose_environment_lost_an_option_names_it(held):
    file = held / "config.yaml"
    stored = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(stored | {"env": stored["env"] | {"lost": 3}}))
    with pytest.raises(BadInput, match=r"config=.*option of env='lost': not known; allowed: "):
        parse("--config", held)


@pytest.mark.parametrize(
    "content",
    [b"a: 2020-13-45", b"[" * 5000, b"\xff\xfe\xff", b"a: !!int x", b"a: !!bool x", b"a: [1"],
    ids=["date", "depth", "bytes", "int", "bool", "bracket"],
)
def test_a_config_yaml_that_is_damaged_is_bad_input(held, content):
    (held / "config.yaml").write_bytes(content)
    with pytest.raises(BadInput, match="config.yaml cannot be read"):
        parse("--resume", held)


def test_a_terminal_without_utf_8_gets_the_same_messages():
    flags = ["--seed", "x"]
    for encoding in ("ascii", "utf-8"):
        done = subprocess.run(
            [sys.executable, str(STUB), *flags],
            env=os.environ | {"PYTHONIOENCODING": encoding}, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.stderr == "error: --seed='x': must be an integer\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_run_begins_ends_the_process_at_once(number):
    code = f"""
import os
from algos.harness import cli
cli.parse = lambda *_: os.kill(os.getpid(), {int(number)})
cli.main(None, None, doc="", algo="", presets={{}})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (128 + number, "")


def test_config_yaml_cannot_execute_code(held):
    (held / "config.yaml").write_text("!!python/object/apply:os.system ['touch ran']\n")
    with pytest.raises(BadInput, match="cannot be read"):
        parse("--resume", held)
