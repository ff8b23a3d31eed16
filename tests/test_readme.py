"""Every README.md: the commands that the base install can run, links, widths, and the code of the first page.

Commands are those of shell blocks and code spans that begin with `python`. A trainer's command is built and its
start and update are traced; a script's command runs, on a trained agent where it asks for a run that the page's
reader has made. The slow test runs everything, in each page's order, in processes of its own. A command of a kind
that stands nowhere here is a failure: teach the test what to do with it. What runs on two pages runs once,
programs that differ only in numbers are traced once, and a script runs once on the agent that stands in for runs.

What the pages cost, in seconds of one idle core: README.md 20, algos/ 40, envs/ 3, networks/ 0, scripts/ 10,
results/ 2. A trainer's command on Brax is 6 of them, on another environment 2 to 6.
"""

import contextlib
import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import networks
from algos import TRAINERS
from algos.harness import cli, run_dir
from algos.harness.fields import traced_fields
from algos.presets import PRESETS
from scripts import benchmark, diagnose, evaluate, export, plot, sweep

ROOT = Path(__file__).parents[1]
AGENT = "scripts/notebooks/results/TMaze-v2-20/agent"
PAGES = sorted(
    str(path.relative_to(ROOT))
    for folder in ("", "algos", "networks", "envs", "scripts", "tests")
    for path in (ROOT / folder).glob("**/README.md" if folder else "README.md")
)
MOST_LINES, MOST_COMMANDS, WIDEST = 150, 10, 120

SKIPPED = {
    r"python3 -m venv |cd |git clone ": "the shell's, nothing of this repository",
    r"(python -m )?pip install |(sudo )?apt-get ": "needs the network",
    r"python -m pytest|pytest ": "this test runs inside it",
    r"(python -m )?jupyter ": "interactive; tests/scripts/test_notebooks.py executes the notebooks",
    r"python .*\bcraftax": "needs the extra craftax",
    r"(MUJOCO_GL=\w+ )?python .*\bMemoryMaze|python .*\bmemorymaze-": "needs the extra for Memory Maze",
    r"python scripts/leaderboard\.py": "takes minutes to days; tests/scripts/test_leaderboard.py runs it small",
    r"python .*\bmy_package\b": "names a package of the reader's",
    r"python .*--wandb online": "needs the network and an account",
    r"(srun |export JAX_|(JAX_\w+=\S+ )*python scripts/join\.py)": "needs several processes",
}

A2C_SMALL = "--num-envs 2 --num-steps 8 --total-timesteps 16 --eval-episodes 2".split()
PPO_SMALL = [*A2C_SMALL, *"--sequence-length 4 --num-minibatches 2 --update-epochs 1".split()]
SMALL = {name: PPO_SMALL if name.startswith(("ppo", "pqn")) else A2C_SMALL for name in TRAINERS}
# Flags that keep a script small. A sweep compares returns, so an episode must end: T-Maze's do after 1,000 steps.
SCRIPTS = {"evaluate": ["--episodes", "2"], "diagnose": ["--episodes", "16"]}
SCRIPTS |= dict.fromkeys(("plot", "export", "sweep"), [])
MODULES = {"evaluate": evaluate, "diagnose": diagnose, "plot": plot, "export": export, "sweep": sweep}
SLOW_SCRIPTS = {"diagnose", "sweep"}  # their own tests run them small


class Command(NamedTuple):
    """A command: `kind` is "trainer", "script", "benchmark", "unknown" or, with a reason, "skipped"."""

    text: str
    kind: str
    name: str = ""
    flags: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    reason: str = ""


def read(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)


def shell_lines(text: str) -> list[str]:
    """Commands in the page's order: lines of shell blocks, split at &&, and code spans that begin with python."""
    found = []  # (place, line)
    for match in FENCE.finditer(text):
        language, body = match.groups()
        lines = body.replace("\\\n", " ").splitlines()
        if language == "":  # a tree of folders, or output; a command there is one too
            lines = [line for line in lines if line.strip().startswith("python ")]
        if language not in ("python", "bibtex"):
            found += [(match.start(), each) for line in lines for each in line.split(" && ")]
    prose = FENCE.sub(lambda match: " " * len(match[0]), text)
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


def commands(page: str) -> list[Command]:
    return [understand(text) for text in dict.fromkeys(shell_lines(read(page)))]


COMMANDS = {command.text: command for page in PAGES for command in commands(page)}


def of_kind(*kinds: str):
    chosen = [each for each in COMMANDS.values() if each.kind in kinds]
    return pytest.mark.parametrize("command", chosen, ids=[each.text for each in chosen])


def with_small_sizes(command: Command) -> list[str]:
    if command.kind == "trainer":
        is_whole = "--resume" in command.flags or "--help" in command.flags
        return [*command.flags, *([] if is_whole else SMALL[command.name])]
    if command.name == "sweep":
        enough = "--num-steps 512 --total-timesteps 2048".split()
        return [*command.flags, *SMALL[command.flags[0]], *enough]
    return [*command.flags, *SCRIPTS.get(command.name, [])]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A working directory that looks like the reader's, in which nothing written reaches the repository."""
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
    """A trained agent for every run directory that is named and that no command of the page has made."""
    for flag, path in zip(["", *flags], flags, strict=False):
        if path.startswith("runs/") and not flag.startswith("--") and not Path(path).exists():
            shutil.copytree(AGENT, path)


def value_of(flag: str, command: Command) -> str:
    """What follows a flag; empty where it is not given."""
    return dict(zip(command.flags, command.flags[1:], strict=False)).get(flag, "")


def parse(command: Command) -> Any:
    """The Config; for --resume of a directory, that of the first command that makes it."""
    Config, flags = TRAINERS[command.name].Config, with_small_sizes(command)
    if path := value_of("--resume", command):
        maker = next(each for each in COMMANDS.values() if value_of("--run-dir", each) == path)
        assert maker.name == command.name
        run_dir.create(Path(path), parse(maker), command.name, [])
    return cli.parse(Config, PRESETS[command.name], "", command.name, flags).config


def program(name: str, config: Any) -> str:
    """What tells programs apart: settings that are numbers alone give the same one at small sizes."""
    default = type(config)()
    same = {field: getattr(default, field) for field in traced_fields(type(config))}
    env = {option: value for option, value in config.env.items() if type(value) not in (int, float)}
    return name + repr(dataclasses.replace(config, **same, env=env, seed=0, num_seeds=1, run_dir="", resume=""))


TRACED, RUN = set(), set()


@of_kind("trainer")
def test_a_trainers_command_builds_and_traces(command, checkout):
    if "--help" in command.flags:
        with pytest.raises(SystemExit) as end:
            parse(command)
        assert end.value.code == 0
        return
    config = parse(command)
    trainer = TRAINERS[command.name].make_train(config)
    if "--config" in command.flags:  # a run again: its program has run
        return
    if program(command.name, config) not in TRACED:
        state = jax.eval_shape(trainer.init, jax.random.key(0))
        jax.eval_shape(trainer.update, state)
    TRACED.add(program(command.name, config))


@of_kind("script")
def test_a_scripts_command_runs(command, checkout, monkeypatch):
    if command.name in SLOW_SCRIPTS:
        pytest.skip("runs among the slow tests")
    flags = with_small_sizes(command)
    words = (AGENT if flag.startswith("runs/") else flag for flag in flags if not flag.isdecimal())
    same = (command.name, *dict.fromkeys(words))
    if same in RUN:
        return
    RUN.add(same)
    make_missing_runs(flags)
    monkeypatch.setattr(sys, "argv", [f"scripts/{command.name}.py", *flags])
    with contextlib.suppress(SystemExit) if "--help" in flags else contextlib.nullcontext():
        MODULES[command.name].main()


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
    assert [each.text for each in COMMANDS.values() if each.kind == "unknown"] == []


def test_there_are_commands_of_every_kind_and_each_that_is_skipped_has_a_reason():
    kinds = [each.kind for each in COMMANDS.values()]
    assert kinds.count("trainer") >= 15 and kinds.count("script") >= 8 and kinds.count("benchmark") >= 5
    assert "python algos/ppo_arelit_continuous.py" in COMMANDS  # behind && in a block
    assert "python algos/a2c_arelit.py --preset tmazeours-arelit" in COMMANDS  # in a table
    assert all(each.reason for each in COMMANDS.values() if each.kind == "skipped")


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
@pytest.mark.parametrize("page", PAGES)
def test_every_command_runs_in_the_order_of_its_page(page, checkout):
    for command in commands(page):
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


# ------------------------------------------------------------------------------------------------------------
# Form, links, and what pages say of the code


def test_the_first_page_is_short_and_has_few_commands():
    text = read("README.md")
    assert len(text.splitlines()) <= MOST_LINES
    assert (
        sum(len(body.splitlines()) for language, body in FENCE.findall(text) if language == "bash")
        <= MOST_COMMANDS
    )


@pytest.mark.parametrize("page", PAGES)
def test_prose_is_narrow(page):
    prose = FENCE.sub("", read(page)).splitlines()
    wide = [line for line in prose if len(line) > WIDEST and not line.startswith(("|", "!["))]
    assert wide == []


def anchors(text: str) -> set[str]:
    """What links can name of a page, by GitHub's rule."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, ".github/CONTRIBUTING.md"])
def test_links_lead_to_files_and_headings_that_exist(page):
    prose = FENCE.sub("", read(page))
    folder = (ROOT / page).parent
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        path, _, anchor = target.partition("#")
        file = folder / path if path else ROOT / page
        if target.startswith("https://"):
            continue
        if not file.exists() or (anchor and anchor not in anchors(file.read_text("utf-8"))):
            broken.append(target)
    for path in re.findall(r"`((?:algos|networks|envs|scripts|tests|\.github|\.ci)/[\w./-]+)`", prose):
        if not (ROOT / path).exists() and "my_core" not in path:
            broken.append(path)
    assert broken == []


def test_the_core_of_the_first_page_is_one():
    """It acts as it learns, and forgets at a reset."""
    (source,) = [body for language, body in FENCE.findall(read("README.md")) if language == "python"]
    scope: dict[str, Any] = {}
    exec(source, scope)
    core = scope["MyCore"](d_model=8)
    inputs = jax.random.normal(jax.random.key(0), (5, 2, 3))
    resets = jnp.zeros((5, 2), bool).at[2].set(True)
    carry = core.initialize_carry((2,))
    params = core.init(jax.random.key(1), carry, inputs, resets)
    end, outputs = core.apply(params, carry, inputs, resets)
    assert outputs.shape == (5, 2, 8) and bool(jnp.any(outputs[3] != outputs[2]))
    for t in range(5):
        carry, output = core.apply(params, carry, inputs[t : t + 1], resets[t : t + 1])
        np.testing.assert_allclose(output[0], outputs[t], rtol=1e-6)
    np.testing.assert_allclose(carry, end, rtol=1e-6)
    fresh = core.apply(params, core.initialize_carry((2,)), inputs[2:], resets[2:])[1]
    np.testing.assert_allclose(fresh, outputs[2:], rtol=1e-6)


@pytest.mark.parametrize("name", networks.CORES)
def test_every_core_stands_in_the_table_with_its_carry(name):
    (row,) = re.findall(rf"^\| `{name}` \|.*\| ([\d,]+) \|$", read("networks/README.md"), re.MULTILINE)
    carry = networks.make_core(name).initialize_carry(())
    assert int(row.replace(",", "")) == sum(leaf.size for leaf in jax.tree.leaves(carry))
