"""Every command of README.md that the base install can run.

Commands are those of shell blocks and code spans that begin with `python`. A trainer's command is built and its
start and update are traced; a script's command runs, on a trained agent where it asks for a run that README's
reader has made. The slow test runs everything, in README's order, in processes of its own. A command of a kind
that stands nowhere here is a failure: teach the test what to do with it.
"""

import contextlib
import dataclasses
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import pytest

from algos.harness import cli, run_dir
from scripts import benchmark

ROOT = Path(__file__).parents[1]
AGENT = "scripts/notebooks/results/TMaze-v2-20/agent"

SKIPPED = {
    r"python3 -m venv |cd |git clone ": "the shell's, nothing of this repository",
    r"(python -m )?pip install |(sudo )?apt-get ": "needs the network",
    r"python -m pytest|pytest ": "this test runs inside it",
    r"(python -m )?jupyter ": "interactive; tests/scripts/test_notebooks.py executes the notebooks",
    r"python .*\bcraftax": "needs the extra craftax",
    r"(MUJOCO_GL=\w+ )?python .*\bMemoryMaze|python .*\bmemorymaze-": "needs the extra for Memory Maze",
    r"python .*\bmy_package\b": "names a package of the reader's",
    r"python .*--wandb online": "needs the network and an account",
    r"(srun |export JAX_|(JAX_\w+=\S+ )*python scripts/join\.py)": "needs several processes",
}

A2C_SMALL = "--num-envs 2 --num-steps 8 --total-timesteps 16 --eval-episodes 2".split()
PPO_SMALL = [*A2C_SMALL, *"--sequence-length 4 --num-minibatches 2 --update-epochs 1".split()]
TRAINERS = {"a2c_arelit": A2C_SMALL, "ppo_arelit": PPO_SMALL, "ppo_arelit_continuous": PPO_SMALL}
# Flags that keep a script small. A sweep compares returns, so an episode must end: T-Maze's do after 1,000 steps.
SCRIPTS = {"evaluate": ["--episodes", "2"], "diagnose": ["--episodes", "16"]}
SCRIPTS |= dict.fromkeys(("plot", "export", "sweep"), [])
SLOW_SCRIPTS = {"diagnose", "sweep"}  # their own tests run them small


class Command(NamedTuple):
    """A command of README: `kind` is "trainer", "script", "benchmark", "unknown" or, with a reason, "skipped"."""

    text: str
    kind: str
    name: str = ""
    flags: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    reason: str = ""


def shell_lines(readme: str) -> list[str]:
    """Commands in README's order: lines of shell blocks, split at &&, and code spans that begin with python."""
    found = []  # (place, line)
    fence = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
    for match in fence.finditer(readme):
        language, body = match.groups()
        lines = body.replace("\\\n", " ").splitlines()
        if language == "":  # a tree of folders, or output; a command there is one too
            lines = [line for line in lines if line.strip().startswith("python ")]
        if language not in ("python", "bibtex"):
            found += [(match.start(), each) for line in lines for each in line.split(" && ")]
    prose = fence.sub(lambda match: " " * len(match[0]), readme)
    found += [(match.start(), match[1]) for match in re.finditer(r"`(python [^`]+)`", prose)]
    words = [" ".join(shlex.split(line, comments=True)) for _, line in sorted(found, key=lambda each: each[0])]
    return [re.sub(r"^\.venv/bin/(python )?", r"\1", line) for line in words if line]


def understand(text: str) -> Command:
    """What to do with a command; kind "unknown" where nobody has said."""
    for pattern, reason in SKIPPED.items():
        if re.match(pattern, text):
            return Command(text, "skipped", reason=reason)
    words = shlex.split(text)
    environment = []
    while words and re.match(r"[A-Z_]+=", words[0]):
        environment.append(tuple(words.pop(0).split("=", 1)))
    if len(words) > 1 and words[0] == "python":
        folder, _, name = words[1].removesuffix(".py").rpartition("/")
        kinds = {("algos", each): "trainer" for each in TRAINERS} | {("scripts", "benchmark"): "benchmark"}
        kind = (kinds | {("scripts", each): "script" for each in SCRIPTS}).get((folder, name))
        if kind:
            return Command(text, kind, name, tuple(words[2:]), tuple(environment))
    return Command(text, "unknown")


COMMANDS = [understand(text) for text in dict.fromkeys(shell_lines((ROOT / "README.md").read_text("utf-8")))]


def of_kind(*kinds: str):
    chosen = [each for each in COMMANDS if each.kind in kinds]
    return pytest.mark.parametrize("command", chosen, ids=[each.text for each in chosen])


def with_small_sizes(command: Command) -> list[str]:
    if command.kind == "trainer":
        is_whole = "--resume" in command.flags or "--help" in command.flags
        return [*command.flags, *([] if is_whole else TRAINERS[command.name])]
    if command.name == "sweep":
        enough = "--num-steps 512 --total-timesteps 2048".split()
        return [*command.flags, *TRAINERS[command.flags[0]], *enough]
    return [*command.flags, *SCRIPTS.get(command.name, [])]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A working directory that looks like README's, in which nothing written reaches the repository."""
    make_checkout(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_checkout(path: Path) -> None:
    (path / "scripts/notebooks").mkdir(parents=True)
    shutil.copytree(ROOT / "scripts/notebooks/results", path / "scripts/notebooks/results")
    (path / "algos").mkdir()
    for file in [*ROOT.glob("algos/*.py"), *ROOT.glob("scripts/*.py")]:
        (path / file.relative_to(ROOT)).symlink_to(file)


def make_missing_runs(flags: list[str]) -> None:
    """A trained agent for every run directory that is named and that no command of README has made."""
    for flag, path in zip(["", *flags], flags, strict=False):
        if path.startswith("runs/") and not flag.startswith("--") and not Path(path).exists():
            shutil.copytree(AGENT, path)


def parse(command: Command):
    """The Config; for --resume of a directory, that of README's command that makes it."""
    module = importlib.import_module(f"algos.{command.name}")
    flags = with_small_sizes(command)
    if "--resume" in flags:
        path = flags[flags.index("--resume") + 1]
        (maker,) = [each for each in COMMANDS if f"--run-dir {path}" in each.text]
        assert maker.name == command.name
        run_dir.create(Path(path), parse(maker), command.name, [])
    return cli.parse(module.Config, module.PRESETS, "", command.name, flags).config


TRACED = set()


@of_kind("trainer")
def test_a_trainers_command_builds_and_traces(command, checkout):
    if "--help" in command.flags:
        with pytest.raises(SystemExit) as end:
            parse(command)
        assert end.value.code == 0
        return
    config = parse(command)
    trainer = importlib.import_module(f"algos.{command.name}").make_train(config)
    # README shows many commands whose programs are the same at small sizes.
    program = command.name, repr(dataclasses.replace(config, seed=0, num_seeds=1, run_dir="", resume=""))
    if program not in TRACED:
        state = jax.eval_shape(trainer.init, jax.random.key(0))
        jax.eval_shape(trainer.update, state)
    TRACED.add(program)


@of_kind("script")
def test_a_scripts_command_runs(command, checkout, monkeypatch):
    if command.name in SLOW_SCRIPTS:
        pytest.skip("runs among the slow tests")
    flags = with_small_sizes(command)
    make_missing_runs(flags)
    monkeypatch.setattr(sys, "argv", [f"scripts/{command.name}.py", *flags])
    with contextlib.suppress(SystemExit) if "--help" in flags else contextlib.nullcontext():
        importlib.import_module(f"scripts.{command.name}").main()


@of_kind("benchmark")
def test_a_command_of_the_benchmark_names_parts_and_presets_that_exist(command, monkeypatch, capsys):
    """It takes minutes: every part is replaced by one that says its name."""
    monkeypatch.setattr(benchmark, "machine", lambda: {"matrix_product_gflops": 1.0})
    parts = {name: (lambda *args, name=name: {"ran": name}) for name in benchmark.PARTS}
    monkeypatch.setattr(benchmark, "PARTS", parts)
    monkeypatch.setattr(sys, "argv", ["scripts/benchmark.py", *command.flags])
    benchmark.main()
    asked = [flag for flag in command.flags if flag in parts] or ["trainer"]
    out = capsys.readouterr().out
    assert all(re.search(rf"ran\"?:? +\"?{name}", out) for name in asked)


def test_every_command_is_known():
    assert [each.text for each in COMMANDS if each.kind == "unknown"] == []


def test_there_are_commands_of_every_kind_and_each_that_is_skipped_has_a_reason():
    kinds = [each.kind for each in COMMANDS]
    assert kinds.count("trainer") >= 10 and kinds.count("script") >= 3 and "benchmark" in kinds
    assert "python algos/ppo_arelit_continuous.py" in [each.text for each in COMMANDS]  # behind && in a block
    assert "python algos/a2c_arelit.py --num-seeds 5" in [each.text for each in COMMANDS]  # in a table
    assert all(each.reason for each in COMMANDS if each.kind == "skipped")


@pytest.mark.parametrize(
    "text", ["python scripts/new.py", "python algos/new.py", "make", "python -m scripts.plot", "./run.sh"]
)
def test_a_command_of_an_unknown_kind_is_not_passed_over(text):
    for language in ("bash", "sh", "console", *([""] if text.startswith("python") else [])):
        assert shell_lines(f"\n```{language}\n{text}   # comment\n```\n") == [text]
    assert understand(text).kind == "unknown"


def test_lines_are_joined_and_variables_are_set():
    (line,) = shell_lines("```bash\nA=1 python algos/a2c_arelit.py \\\n  --seed 1\n```\n")
    command = understand(line)
    assert (command.name, command.flags, command.environment) == ("a2c_arelit", ("--seed", "1"), (("A", "1"),))


@pytest.mark.slow
def test_every_command_runs_in_the_order_of_the_readme(checkout):
    for command in COMMANDS:
        if command.kind not in ("trainer", "script"):
            continue
        flags = with_small_sizes(command)
        if command.kind == "script":
            make_missing_runs(flags)
        folder = "algos" if command.kind == "trainer" else "scripts"
        done = subprocess.run(
            [sys.executable, f"{folder}/{command.name}.py", *flags],
            env=os.environ | dict(command.environment), capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, f"{command.text}\n{done.stderr[-2000:]}"
