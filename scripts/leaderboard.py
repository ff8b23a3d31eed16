"""Which memory is worth its cost: every core on every task, equal in size, settings and steps, as one table.

    python scripts/leaderboard.py --smoke                              # all parts in minutes; numbers mean nothing
    python scripts/leaderboard.py --cores gru arelit feedforward --tasks tmaze-passive-250 cartpole-p
    python scripts/leaderboard.py --budget-scale 10 --output runs/tenfold  # ten times the steps, all cores alike
    python scripts/leaderboard.py --print-jobs                             # a command per job, for SLURM or wandb
    python scripts/leaderboard.py --job arelit tmaze-passive-250           # one of them

A job is a core on a task. It chooses the learning rate, trains all seeds in one program by the trainer's own
command, and evaluates them. Jobs run one after the other; what is done is skipped, what was interrupted goes on
from its last checkpoint, and a job that fails leaves the others alone. The output directory gets:

    leaderboard.yaml           what holds for all jobs, the first command, commit, versions, hardware
    results.csv                a row per core, task and seed of all jobs that are done
    leaderboard.md             the tables, and how the comparison was made
    leaderboard.png            memory scores, and score against cost
    jobs/TASK/CORE/            search.csv (the choice of the learning rate), run/ (the trainer's run), result.csv

Jobs may run at once on several machines that share the directory; then a call without --job writes the tables.
"""

import dataclasses
import math
import os
import shlex
import statistics
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

import algos
import envs
import networks
from algos.harness import (
    BadInput,
    OneLineParser,
    RunError,
    cli,
    compilation_cache,
    exit_codes,
    metrics,
    pictures,
    processes,
    run_dir,
    signals,
)  # fmt: skip
from algos.harness.errors import one_line, write_whole, writing
from algos.harness.statistics import (
    confidence_interval,
    interquartile_mean,
    probability_of_improvement,
    stratified_interval,
)
from algos.presets import PRESETS

# ------------------------------------------------------------------------------------------------------------
# What is compared


class Task(NamedTuple):
    """A row of the comparison; flags hold for every core."""

    trainer: str
    budget: int  # environment steps per seed
    flags: str
    without_memory: float | None = None  # in place of envs.reference's, where the agent sees its last action


# One encoder and one width of heads, so that what differs is the core.
AROUND = "--encoder-widths 64 --actor-hidden 64 --critic-hidden 64"
# Two CPUs lose most time in small minibatches: these have eight sequences.
FAST = f"{AROUND} --num-envs 32 --num-minibatches 4 --update-epochs 2 --ent-coef 0.01"
PPO = f"{FAST} --num-steps 128 --sequence-length 128"
# Episodes of 252 steps, with the cue at their start: a sequence holds a whole one.
LONG = f"{FAST} --num-steps 256 --sequence-length 256"
# Without their last action agents that draw actions cannot know what the answer was to.
LAST_ACTION = "--previous-action-reward"
MYSTERY_PATH = "--env.id MysteryPath-Grid-Easy-v0 --env.observation symbolic --update-epochs 3"

# Budgets that two CPUs can pay, but for MiniGrid, Mystery Path and the pendulum; --budget-scale multiplies them.
TASKS = {
    "tmaze-v2-40": Task(
        "a2c_arelit", 1_500_000, f"--env.id TMaze-v2 --env.corridor-len 40 {AROUND} --num-steps 128"
    ),
    "tmaze-passive-250": Task(
        "ppo_arelit", 1_500_000, f"--env.id TMaze-Passive --env.corridor-len 250 {LONG} --gamma 0.995"
    ),
    "minigrid-memory-s11": Task(
        "ppo_arelit", 10_000_000, f"--env.id MiniGrid-MemoryS11-v0 --env.agent-view-size 3 {PPO}"
    ),
    "repeat-first-medium": Task("ppo_arelit", 1_000_000, f"--env.id popgym/RepeatFirstMedium {PPO}"),
    "repeat-previous-medium": Task("ppo_arelit", 1_000_000, f"--env.id popgym/RepeatPreviousMedium {PPO}"),
    "count-recall-easy": Task("ppo_arelit", 1_000_000, f"--env.id popgym/CountRecallEasy {PPO}"),
    "autoencode-easy": Task("ppo_arelit", 1_000_000, f"--env.id popgym/AutoencodeEasy {PPO}"),
    # Both from the notes of envs.reference: row by row, and the same arm after a win, else the next.
    "battleship-easy": Task(
        "ppo_arelit", 1_000_000, f"--env.id popgym/BattleshipEasy {PPO} {LAST_ACTION}", without_memory=0.17
    ),
    "bandit-easy": Task(
        "ppo_arelit", 1_000_000, f"--env.id popgym/MultiarmedBanditEasy {PPO} {LAST_ACTION}", without_memory=0.465
    ),
    "cartpole-p": Task("ppo_arelit", 500_000, f"--env.id gymnax/CartPole-v1-P {PPO}"),
    "double-pendulum-p": Task(
        "ppo_arelit_continuous", 1_000_000, f"--env.id brax/inverted_double_pendulum-P {AROUND}"
    ),
    "mystery-path-easy": Task("ppo_arelit", 20_000_000, f"{PPO} {MYSTERY_PATH} --encoder-widths 128"),
}

PARAMETERS = 150_000
"""Of the whole agent: the size class. The width of a core, its d_model, follows from it."""
TOLERANCE = 0.024
"""Share by which an agent may miss it, so that any two are within 5 % of each other."""

# What does not follow from the width: few layers, for many narrow ones cost time and no parameters. Cores that are
# not named here keep their defaults.
INNER = {
    "arelit": {"n_layers": 2, "d_head": 32, "d_ffc": 64, "n_heads": 2},
    "relit": {"n_layers": 2, "d_head": 32, "d_ffc": 64, "n_heads": 2},
    "gtrxl": {"n_layers": 2, "d_head": 32, "n_heads": 2},
    "mingru": {"n_layers": 2, "d_inner": 96, "d_ffc": 128},
    "lru": {"n_layers": 2, "d_state": 64},
    "s5": {"n_layers": 2, "d_state": 64},
    "rtu": {"n_layers": 2, "d_state": 64, "d_ffc": 128},
    "mamba2": {"n_layers": 2, "n_heads": 2},
    "gated_deltanet": {"n_layers": 2, "n_heads": 2},
    "mlstm": {"n_layers": 2, "n_heads": 2},
}

RATES = (2e-4, 6e-4, 2e-3)
"""Learning rates to choose from, the same for all cores and tasks."""
SEARCH_SEEDS = range(1_000_000, 1_000_002)
"""Seeds of the choice, none of which is reported."""
SEARCH_SHARE = 0.25
"""Share of a job's steps that each run of the choice takes."""
MOST_SEEDS = 1000
MOST_SCALE = 100
BASELINE = "arelit"
"""The core that the others are compared with."""


class Settings(NamedTuple):
    """What holds for all jobs of an output directory."""

    num_seeds: int
    budget_scale: float
    episodes: int  # of an evaluation, per seed
    smoke: bool


FULL = Settings(num_seeds=5, budget_scale=1.0, episodes=128, smoke=False)
SMOKE = Settings(num_seeds=2, budget_scale=1e-6, episodes=4, smoke=True)
"""One small update per run: enough to see that every part works."""
SMOKE_CORES = ("gru", "feedforward")
# A2C and PPO, with and without the last action, a score and pictures. Not the pendulum, whose physics take two to
# three minutes per core to compile and play.
SMOKE_TASKS = ("tmaze-v2-40", "minigrid-memory-s11", "bandit-easy", "mystery-path-easy")
SMOKE_FLAGS = {
    "a2c_arelit": "--num-envs 4 --eval-episodes 4",
    "ppo_arelit": "--num-envs 4 --num-minibatches 2 --update-epochs 1 --eval-episodes 4",
    "ppo_arelit_continuous": "--num-envs 4 --num-minibatches 2 --update-epochs 1 --eval-episodes 4",
}
"""By trainer, after the task's."""

LEADERBOARD, RESULTS, TABLES, PICTURE = "leaderboard.yaml", "results.csv", "leaderboard.md", "leaderboard.png"
JOBS, SEARCH, RUN, RESULT = "jobs", "search.csv", "run", "result.csv"
SHOWN = ("core", "task", "memory_score_drawn", "memory_score_mode", "return_drawn", "return_mode", "success_drawn",
         "success_mode", "env_steps", "parameters", "carry_bytes", "time_acting_steps_per_s",
         "time_learning_steps_per_s", "time_training_steps_per_s")  # fmt: skip
"""Columns of a result.csv that the tables and the picture show."""

# ------------------------------------------------------------------------------------------------------------
# Jobs


class Job(NamedTuple):
    """A core on a task. path: its directory."""

    core: str
    task: str
    settings: Settings
    path: Path

    @property
    def trainer(self) -> str:
        return TASKS[self.task].trainer

    @property
    def flags(self) -> list[str]:
        """Those that hold for every core."""
        smoke = SMOKE_FLAGS[self.trainer] if self.settings.smoke else ""
        return [*TASKS[self.task].flags.split(), *smoke.split()]

    @property
    def budget(self) -> int:
        return max(1, round(TASKS[self.task].budget * self.settings.budget_scale))

    @property
    def is_done(self) -> bool:
        return (self.path / RESULT).exists()

    def parse(self, flags: Sequence[str]) -> Any:
        """The Config of the task's flags and these."""
        module, words = algos.TRAINERS[self.trainer], [*self.flags, *flags]
        return cli.parse(module.Config, PRESETS[self.trainer], module.__doc__, self.trainer, words).config


def sized_flags(job: Job) -> list[str]:
    """The flags of the job's core, as wide as the size class allows.

    Raises:
        RunError: no width comes near enough.
    """
    inner = INNER.get(job.core, {})
    flags = ["--core.name", job.core, *core_flags(inner)]
    by_name = job.parse(flags)
    hyperparameters = networks.hyperparameters(job.core) | inner
    agent = _AgentSizes(by_name)

    def parameters(width: int) -> int:
        return agent.parameters({"name": job.core, **hyperparameters, "d_model": width})

    low, high = 1, 2048
    while high - low > 1:  # more width is more parameters
        middle = (low + high) // 2
        low, high = (middle, high) if parameters(middle) <= PARAMETERS else (low, middle)
    width = min((low, high), key=lambda width: abs(parameters(width) - PARAMETERS))
    found = parameters(width)
    if abs(found - PARAMETERS) > TOLERANCE * PARAMETERS:
        raise RunError(f"has {found} parameters at d_model={width}, the width nearest to {PARAMETERS}; must be "
                       f"within {TOLERANCE:.1%} of it")  # fmt: skip
    # What the trainer's own default core would set otherwise is among them.
    wanted = hyperparameters | {"d_model": width}
    return flags + core_flags({name: value for name, value in wanted.items() if by_name.core[name] != value})


def core_flags(hyperparameters: dict[str, Any]) -> list[str]:
    pairs = [(f"--core.{name.replace('_', '-')}", str(value)) for name, value in hyperparameters.items()]
    return [word for pair in pairs for word in pair]


class _AgentSizes:
    """Counts of agents that differ in their core alone; nothing is computed."""

    def __init__(self, config: Any):
        from algos.harness.trainer import make_env

        env, env_params, _ = make_env(config)
        self._config = config
        self._spaces = env.observation_space(env_params), env.action_space(env_params)

    def _agent(self, core: dict[str, Any]) -> Any:
        from networks.agent import make_agent

        return make_agent(dataclasses.replace(self._config, core=core), *self._spaces)

    def parameters(self, core: dict[str, Any]) -> int:
        import jax

        agent, space = self._agent(core), self._spaces[0]
        carry = jax.eval_shape(lambda: agent.initialize_carry((1,)))
        obs = jax.ShapeDtypeStruct((1, 1, *space.shape), space.dtype)
        reset = jax.ShapeDtypeStruct((1, 1), bool)
        return sum(
            leaf.size for leaf in jax.tree.leaves(jax.eval_shape(agent.init, jax.random.key(0), carry, obs, reset))
        )

    def carry_bytes(self, core: dict[str, Any]) -> int:
        """Of one environment."""
        import jax

        carry = jax.eval_shape(lambda: self._agent(core).initialize_carry((1,)))
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(carry))


def reference_of(task: str) -> dict[str, dict[str, Any] | None]:
    """What is known of a task's returns; "without_memory" is that of an agent that sees what ours see."""
    found = Job("feedforward", task, FULL, Path()).parse([]).env
    options = {name: value for name, value in found.items() if name != "id"}
    known = dict(envs.reference(found["id"], **options) or {})
    if (value := TASKS[task].without_memory) is not None:
        known["without_memory"] = {"value": value, "mark": "computed", "note": "with the last action as input"}
    return known


def memory_score(task: str, returns: float) -> float | None:
    """0: the best return without memory, 1: the best with it; None where one of the two is not known."""
    known = reference_of(task)
    without, best = (known.get(name) for name in ("without_memory", "with_memory"))
    if without is None or best is None:
        return None
    return (returns - without["value"]) / (best["value"] - without["value"])


# ------------------------------------------------------------------------------------------------------------
# Choosing the learning rate


class Search(NamedTuple):
    """The runs by which a job's learning rate is chosen, side by side in one program."""

    config: Any
    rates: np.ndarray  # [M], of every run
    seeds: np.ndarray  # [M]
    values: dict[str, Any]  # the same rates on the devices
    keys: Any  # [M]
    mesh: Any
    programs: Any

    @property
    def steps_per_update(self) -> int:
        return len(self.rates) * self.config.num_envs * self.config.num_steps


def compile_search(job: Job, flags: Sequence[str]) -> Search:
    """The programs of the choice; `flags` are those of the core."""
    import jax

    from algos.harness import devices
    from scripts import sweep

    steps = max(1, round(SEARCH_SHARE * job.budget))
    seeds = len(SEARCH_SEEDS)
    config = job.parse([*flags, "--seed", str(SEARCH_SEEDS[0]), "--num-seeds", str(seeds),
                        "--total-timesteps", str(steps)])  # fmt: skip
    mesh = devices.seed_mesh(len(RATES) * seeds)
    rates = np.repeat(np.array(RATES, np.float32), seeds)
    order = np.tile(np.arange(seeds), len(RATES))
    keys = devices.seed_keys(SEARCH_SEEDS[0], seeds)[order]
    values, keys = jax.device_put(({"learning_rate": rates}, keys), devices.seed_sharding(mesh))
    module = algos.TRAINERS[job.trainer]
    programs = sweep.compile_programs(module, config, values, keys, mesh, "episode_return")
    return Search(config, np.repeat(RATES, seeds), np.array(SEARCH_SEEDS)[order], values, keys, mesh, programs)


def choose_rate(job: Job, flags: Sequence[str]) -> float:
    """The learning rate with the best mean return, drawn from the policy, over the seeds of the choice.

    Raises:
        RunError: all runs of every rate have diverged.
    """
    import pandas

    path = job.path / SEARCH
    if not path.exists():
        rows = search_rows(job, flags)
        write_whole(path, pandas.DataFrame(rows).to_csv(index=False, lineterminator="\n"))
    table = pandas.read_csv(path)
    # A rate with which any run diverges is not chosen.
    means = table.groupby("learning_rate")["return_drawn"].agg(lambda found: found.mean(skipna=False)).dropna()
    if means.empty:
        raise RunError(f"diverged at every learning rate of {', '.join(map(str, RATES))}")
    return float(means.idxmax())


def search_rows(job: Job, flags: Sequence[str]) -> list[dict[str, Any]]:
    """Trains every learning rate with every seed of the choice and evaluates the last policies."""
    import jax
    from tqdm import tqdm

    from algos.harness import devices, loop
    from scripts import sweep

    search = compile_search(job, flags)
    module, config = algos.TRAINERS[job.trainer], search.config
    with signals.Interrupts():  # nothing of it is kept: the next time it begins again
        state = search.programs.init(search.values, search.keys)
        finite = np.ones(len(search.rates), bool)
        bar = tqdm(total=config.num_updates * search.steps_per_update, unit=" env steps", unit_scale=True,
                   dynamic_ncols=True, leave=False, desc="learning rate",
                   mininterval=0.2 if sys.stderr.isatty() else 30.0)  # fmt: skip
        with bar:
            for _ in range(config.num_updates):
                state, found = search.programs.update(search.values, state)
                finite &= np.isfinite(jax.device_get(found["loss"]))
                bar.update(search.steps_per_update)

        for leaf in jax.tree.leaves(jax.device_get(state.params)):  # the loss is that of before the last change
            finite &= np.isfinite(leaf).reshape(len(leaf), -1).all(axis=1)

        def evaluate(values: Any, state: Any, key: Any) -> Any:
            trainer = module.make_train(sweep.with_values(config, values))
            return trainer.evaluate(state, key, deterministic=False, num_episodes=job.settings.episodes)

        keys = jax.device_put(loop.evaluation_keys(search.keys, config.num_updates), search.keys.sharding)
        play = jax.jit(devices.over_seeds(evaluate, search.mesh)).lower(search.values, state, keys)
        returns = jax.device_get(play.compile(loop.evaluation_options())(search.values, state, keys))
    scores = returns["episode_return"].mean(axis=1, dtype=float)
    scores[~finite] = np.nan
    return [
        {"core": job.core, "task": job.task, "learning_rate": rate, "seed": seed, "return_drawn": score,
         "env_steps": config.num_updates * config.num_envs * config.num_steps}
        for rate, seed, score in zip(search.rates, search.seeds, scores, strict=True)
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------------------
# Training and evaluating


def run_job(job: Job) -> None:
    """All of a job that is not done yet.

    Raises:
        BadInput: another process has the job.
        RunError: it cannot come to its end.
        SystemExit: 128 + the number of the signal that stopped it; it goes on from there the next time.
    """
    import pandas

    with run_dir.locked(job.path, "output"):
        if job.is_done:  # by another process, meanwhile
            return
        core = sized_flags(job)
        rate = choose_rate(job, core)
        path = job.path / RUN
        flags = [*core, "--learning-rate", repr(rate), "--total-timesteps",
                 str(job.budget), "--num-seeds", str(job.settings.num_seeds), "--run-dir", str(path)]  # fmt: skip
        train(job, flags, path)
        rows = result_rows(job, rate, path)
        write_whole(job.path / RESULT, pandas.DataFrame(rows).to_csv(index=False, lineterminator="\n"))


def train(job: Job, flags: list[str], path: Path) -> None:
    """Runs the trainer's command in this process, or goes on with the run that is in `path`."""
    module, config = algos.TRAINERS[job.trainer], job.parse(flags)
    if (path / run_dir.CONFIG).exists():
        stored = run_dir.load_config(path, module.Config, job.trainer, "output")
        for field in dataclasses.fields(module.Config):
            then, now = getattr(stored, field.name), getattr(config, field.name)
            if field.name not in ("run_dir", "resume") and then != now:
                raise RunError(f"{path}: was begun with {field.name}={then}, and the task's row now says {now}; "
                               "remove the job's directory to begin again")  # fmt: skip
        command = ["--resume", str(path)]
    else:
        command = [*job.flags, *flags]
    if is_trained(path, config.num_updates):  # it was stopped while it was evaluated
        return
    before, sys.argv = sys.argv, [f"algos/{job.trainer}.py", *command]
    try:
        module.main()
    except SystemExit as end:
        if end.code in signals.STOPPED:
            raise
        # A seed that diverged ends a whole run with an error; it is reported as it was before that.
        if end.code and not is_trained(path, config.num_updates):
            raise RunError(f"{path}: the trainer ended with exit code {end.code}") from end
    finally:
        sys.argv = before


def is_trained(path: Path, num_updates: int) -> bool:
    from algos.harness.checkpoint import Checkpoints

    return Checkpoints(path / run_dir.CHECKPOINTS).newest_whole() == num_updates


def result_rows(job: Job, rate: float, path: Path) -> list[dict[str, Any]]:
    """What a trained run is worth and what it costs, a row per seed."""
    from scripts import evaluate

    with signals.Interrupts():
        drawn, by_mode = (evaluate.evaluate(path, job.settings.episodes, mode, seed=0) for mode in (False, True))
        costs = measure_run(path)
    logged = metrics.read(path / run_dir.METRICS)
    about = header_of(path / run_dir.CONFIG)
    rows = []
    for one, other in zip(drawn["seeds"], by_mode["seeds"], strict=True):
        last = max((int(row["update"]) for row in logged if row["seed"] == one["seed"]), default=0)
        rows.append({
            "core": job.core,
            "task": job.task,
            "seed": one["seed"],
            "memory_score_drawn": memory_score(job.task, one["mean"]),
            "memory_score_mode": memory_score(job.task, other["mean"]),
            "return_drawn": one["mean"],
            "return_mode": other["mean"],
            "success_drawn": one.get("success", {}).get("mean"),
            "success_mode": other.get("success", {}).get("mean"),
            "episodes": job.settings.episodes,
            "env_steps": drawn["env_steps"],
            "diverged_after_update": None if last == drawn["update"] else last,
            "learning_rate": rate,
            **costs,
            "trainer": job.trainer,
            "command": about["command"],
            "commit": about.get("commit"),
            "hardware": about["hardware"],
        })  # fmt: skip
    return rows


def header_of(config: Path) -> dict[str, str]:
    """The comments at the top of a config.yaml by their names; those of all sittings where a run was resumed."""
    found: dict[str, dict[str, None]] = {}
    for line in config.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            name, _, text = line[2:].removeprefix("resumed, ").partition(": ")
            found.setdefault(name, {})[text] = None
    return {name: " | ".join(texts) for name, texts in found.items()}


def measure_run(path: Path) -> dict[str, Any]:
    """Sizes and rates of a trained run; rates are of all its seeds together.

    Learning is what training takes beside acting.
    """
    import jax

    from algos.harness import devices, load_run

    loaded = load_run(path)
    config, trainer = loaded.config, loaded.trainer
    mesh = devices.seed_mesh(config.num_seeds)
    keys = devices.seed_keys(config.seed, config.num_seeds)
    state, keys = jax.device_put((loaded.state, keys), devices.seed_sharding(mesh))
    collect = jax.jit(devices.over_seeds(trainer.collect, mesh)).lower(state, keys).compile()
    seconds = []
    for _ in range(4):
        begin = time.monotonic()
        jax.block_until_ready(collect(state, keys))
        seconds.append(time.monotonic() - begin)
    steps = config.num_seeds * config.num_envs * config.num_steps
    acting = steps / statistics.median(seconds[1:])  # the first call is slower
    rates = [row.get("time_env_steps_per_s") for row in metrics.read(path / run_dir.METRICS)]
    training = statistics.median([rate for rate in rates if rate is not None])
    rest = 1 / training - 1 / acting
    sizes = _AgentSizes(config)
    return {
        "parameters": sizes.parameters(config.core),
        "d_model": config.core["d_model"],
        "carry_bytes": sizes.carry_bytes(config.core),
        "time_training_steps_per_s": round(training),
        "time_acting_steps_per_s": round(acting),
        "time_learning_steps_per_s": round(1 / rest) if rest > 0 else None,
    }


# ------------------------------------------------------------------------------------------------------------
# How long it will take


def estimate(jobs: Sequence[Job]) -> float:
    """Seconds that the jobs will take, from two updates of every core on its first task."""
    import jax

    from algos.harness.report import say

    measured: dict[str, tuple[float, float]] = {}
    for job in jobs:
        if job.core not in measured:
            begin = time.monotonic()
            try:
                search = compile_search(job, sized_flags(job))
                state, _ = search.programs.update(search.values, search.programs.init(search.values, search.keys))
                jax.block_until_ready(state)
            except Exception as error:  # the job itself will end with it; others can be measured
                say(f"{job.core} on {job.task}: not measured: {one_line(error)[:300]}")
                continue
            started = time.monotonic() - begin
            begin = time.monotonic()
            jax.block_until_ready(search.programs.update(search.values, state))
            measured[job.core] = started, (time.monotonic() - begin) / search.steps_per_update
            say(f"{job.core}: {1 / measured[job.core][1]:,.0f} env steps/s on {job.task}")
    # The choice, the run and its evaluations are compiled.
    known = [job for job in jobs if job.core in measured]
    return sum(3 * measured[job.core][0] + steps_of(job) * measured[job.core][1] for job in known)


def steps_of(job: Job) -> float:
    """Environment steps of a job, those of the choice included."""
    return job.budget * (job.settings.num_seeds + SEARCH_SHARE * len(RATES) * len(SEARCH_SEEDS))


def duration(seconds: float) -> str:
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.0f} h"


# ------------------------------------------------------------------------------------------------------------
# Results


def write_results(path: Path, settings: Settings, failed: Sequence[str]) -> None:
    """results.csv, leaderboard.md and leaderboard.png of all jobs that are done; nothing where none is.

    Raises:
        RunError: a result.csv is damaged.
    """
    import pandas

    files = [file for task in TASKS for file in sorted((path / JOBS / task).glob(f"*/{RESULT}"))]
    if not files:
        return
    table = pandas.concat([read_result(file) for file in files], ignore_index=True)
    write_whole(path / RESULTS, table.to_csv(index=False, lineterminator="\n"))
    write_whole(path / TABLES, describe(table, settings, failed))
    with writing(path / PICTURE):
        temporary = path / f".{PICTURE}.tmp"
        draw(table, temporary)
        temporary.rename(path / PICTURE)


def read_result(file: Path) -> Any:
    """The rows of a job that is done."""
    import pandas

    try:
        rows = pandas.read_csv(file)
    except (OSError, ValueError) as error:
        raise RunError(
            f"{file}: cannot be read: {one_line(error)[:200]}; remove it to run the job again"
        ) from error
    lacking = [name for name in SHOWN if name not in rows]
    if lacking or rows.empty:
        raise RunError(f"{file}: lacks {lacking[0] if lacking else 'rows'}; remove it to run the job again")
    return rows


class Ranked(NamedTuple):
    """A core over all tasks that have a memory score; NaN where it lacks one of them or few seeds tell nothing."""

    core: str
    score: tuple[float, float, float]  # interquartile mean and its interval, drawn
    by_mode: float
    improvement: tuple[float, float, float]  # probability over the baseline and its interval


def scores_of(table: Any, core: str, column: str, tasks: Sequence[str]) -> list[np.ndarray] | None:
    """The column's values of a core, an array per task; None where it lacks one."""
    found = [table.loc[(table.core == core) & (table.task == task), column].to_numpy(float) for task in tasks]
    return found if found and all(len(each) for each in found) else None


def rank(table: Any) -> list[Ranked]:
    """The cores of a results.csv, the best first, those without all tasks last."""
    tasks = sorted(table.dropna(subset="memory_score_drawn").task.unique())
    theirs = scores_of(table, BASELINE, "memory_score_drawn", tasks)
    nothing, ranked = (math.nan,) * 3, []
    for core in table.core.unique():
        ours = scores_of(table, core, "memory_score_drawn", tasks)
        if ours is None:
            ranked.append(Ranked(core, nothing, math.nan, nothing))
            continue
        by_mode = scores_of(table, core, "memory_score_mode", tasks)
        improvement = nothing
        if theirs is not None and core != BASELINE:
            improvement = (float(probability_of_improvement(ours, theirs)),
                           *stratified_interval(probability_of_improvement, ours, theirs))  # fmt: skip
        score = float(interquartile_mean(ours)), *stratified_interval(interquartile_mean, ours)
        ranked.append(Ranked(core, score, float(interquartile_mean(by_mode)), improvement))
    return sorted(ranked, key=lambda each: (math.isnan(each.score[0]), -np.nan_to_num(each.score[0]), each.core))


def with_interval(mean: float, low: float, high: float) -> str:
    if math.isnan(mean):
        return ""
    return f"{mean:.2f}" if math.isnan(low) else f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def cell(table: Any, core: str, task: str, column: str) -> tuple[float, float, float]:
    """Mean over the seeds and Student's 95 % interval."""
    values = table.loc[(table.core == core) & (table.task == task), column].to_numpy(float)
    if not np.isfinite(values).any():
        return (math.nan,) * 3
    mean, half = (float(each) for each in confidence_interval(values))
    if column.startswith("success") and not math.isnan(half):  # a proportion
        return mean, max(0.0, mean - half), min(1.0, mean + half)
    return mean, mean - half, mean + half


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table; the first row is its head."""
    head, *others = rows
    lines = [head, ["---"] * len(head), *others]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


def describe(table: Any, settings: Settings, failed: Sequence[str]) -> str:
    """leaderboard.md."""
    ranked = rank(table)
    cores = [each.core for each in ranked]
    tasks = [task for task in TASKS if task in set(table.task)]
    text = "# Which memory is worth its cost\n\n"
    if settings.budget_scale != 1:
        text += f"Every core had {settings.budget_scale:g} times the steps of every task.\n\n"
    if settings.smoke:
        text += "**This is a trial of the script, one update per run: its numbers mean nothing.**\n\n"
    for line in failed:
        text += f"Failed: {line}\n\n"
    text += "".join(
        f"Diverged: seed {row.seed} of {row.core} on {row.task}, last logged at update "
        f"{row.diverged_after_update:.0f}; it stands in the tables with the parameters from before\n\n"
        for row in table.dropna(subset="diverged_after_update").itertuples()
    )

    def median(core: str, column: str) -> str:
        value = table.loc[table.core == core, column].median()
        return "" if math.isnan(value) else f"{value:,.0f}"

    text += "## Cores\n\n"
    text += markdown([
        ["core", "memory score", "by the mode", f"P(better than {BASELINE})", "parameters", "carry, bytes",
         "acting, steps/s", "learning, steps/s", "training, steps/s"],
        *[[each.core, with_interval(*each.score), with_interval(each.by_mode, math.nan, math.nan),
           with_interval(*each.improvement),
           *[median(each.core, name) for name in
             ("parameters", "carry_bytes", "time_acting_steps_per_s", "time_learning_steps_per_s",
              "time_training_steps_per_s")]] for each in ranked],
    ])  # fmt: skip
    for name, title in (("memory_score", "Memory scores"), ("return", "Returns"), ("success", "Success")):
        for suffix, how in (("drawn", "actions drawn from the policy"), ("mode", "the mode of the policy")):
            column = f"{name}_{suffix}"
            shown = [task for task in tasks if table.loc[table.task == task, column].notna().any()]
            if shown:
                text += f"## {title}, {how}\n\n"
                rows = [[with_interval(*cell(table, core, task, column)) for core in cores] for task in shown]
                text += markdown(
                    [["task", *cores], *([task, *row] for task, row in zip(shown, rows, strict=True))]
                )
    text += "## Tasks\n\n"
    text += markdown([
        ["task", "trainer", "steps per seed", "without memory", "with memory", "settings"],
        *[[task, TASKS[task].trainer, f"{table.loc[table.task == task, 'env_steps'].max():,}",
           *[_known(reference_of(task).get(name)) for name in ("without_memory", "with_memory")],
           f"`{TASKS[task].flags}`"] for task in tasks],
    ])  # fmt: skip
    return text + fairness(table, settings)


def _known(known: dict[str, Any] | None) -> str:
    return f"{known['value']:.4g} ({known['mark']})" if known else "not known"


def fairness(table: Any, settings: Settings) -> str:
    """How the comparison was made."""
    lines = [
        "The memory score of a task is (return - best without memory) / (best with memory - best without memory), "
        "from `envs.reference`: 0 is what needs no memory, 1 the best there is. A task of which one of the two is "
        "not known has returns and no score.",
        "Scores over tasks are interquartile means over all runs of all tasks; a core that has not done all tasks "
        "that have a score has none. P is the probability that a run of the core scores more than one of "
        f"{BASELINE} on the same task, the mean over tasks. Both have 95 % intervals by the stratified bootstrap "
        "(Agarwal et al., 2021); intervals of single tasks are Student's over the seeds.",
        f"Agents are of one size: {table.parameters.min():,} to {table.parameters.max():,} parameters, encoder "
        f"and heads included. The width of a core is computed from {PARAMETERS:,}.",
        "On a task all cores have the same trainer, sequence length, steps and settings, see above. Where the "
        "settings say `--previous-action-reward`, all cores see their last action and reward, and the best "
        "without memory is that with the last action; elsewhere none does.",
        f"The learning rate is chosen for each core and task from {', '.join(f'{rate:g}' for rate in RATES)}: the "
        f"best mean return, drawn, of {len(SEARCH_SEEDS)} seeds that are not reported, after {SEARCH_SHARE:g} of "
        "the steps.",
        f"Reported are {settings.num_seeds} seeds from 0 on and {settings.episodes} fresh episodes of each at the "
        "end of training, with actions drawn from the policy and, beside it, by its mode. The score that ranks is "
        "that of drawn actions.",
        "Rates are of all seeds together on the machine that `results.csv` names; learning is what training takes "
        "beside acting. Rows of that file name the trainer's command and commit.",
    ]
    return "## How it was made\n\n" + "".join(f"* {line}\n" for line in lines)


def draw(table: Any, path: Path) -> None:
    """leaderboard.png from the rows of a results.csv: cores x tasks, and score against cost."""
    with pictures.own_settings(**{"font.size": 8}):
        _draw(table, path)


def _draw(table: Any, path: Path) -> None:
    from matplotlib import ticker

    ranked = rank(table)
    scored = set(table.dropna(subset="memory_score_drawn").task)
    tasks = [task for task in TASKS if task in scored]
    figure = pictures.new_figure(6 + 0.8 * len(tasks), 2 + 0.42 * len(ranked))
    left, right = figure.subplots(1, 2, width_ratios=[1 + 0.8 * len(tasks), 5])
    cells = np.array([[cell(table, each.core, task, "memory_score_drawn") for task in tasks] for each in ranked])
    if tasks:
        left.imshow(cells[:, :, 0], vmin=0, vmax=1, cmap="cividis", aspect="auto")
    for (row, column), mean in np.ndenumerate(cells[:, :, 0] if tasks else np.zeros((0, 0))):
        _, low, high = cells[row, column]
        text = with_interval(mean, low, high).replace(" [", "\n[")
        left.text(
            column, row, text, ha="center", va="center", fontsize=6, color="white" if mean < 0.5 else "black"
        )
    left.set_xticks(range(len(tasks)), tasks, rotation=40, ha="right")
    left.set_yticks(range(len(ranked)), [each.core for each in ranked])
    left.set_title("memory score, 95 % interval")
    for each in ranked:
        mean, low, high = each.score
        if math.isnan(mean):
            continue
        cost = 1e6 / table.loc[table.core == each.core, "time_training_steps_per_s"].median()
        error = None if math.isnan(low) else [[mean - low], [high - mean]]
        right.errorbar(cost, mean, error, fmt="o", markersize=4, elinewidth=1)
        right.annotate(each.core, (cost, mean), (4, 4), textcoords="offset points", fontsize=7)
    right.margins(x=0.15, y=0.1)
    right.set(xscale="log", xlabel="training, microseconds per environment step", ylabel="interquartile mean")
    right.set_title("score against cost")
    right.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    right.xaxis.set_major_formatter("{x:g}")
    right.xaxis.set_minor_locator(ticker.NullLocator())
    right.grid(alpha=0.25)
    figure.savefig(path, dpi=130, format="png")


# ------------------------------------------------------------------------------------------------------------
# Main


def pick(option: str, given: Sequence[str] | None, default: Sequence[str], allowed: Sequence[str]) -> list[str]:
    """The names given, or the default ones; raises BadInput for one that is not allowed."""
    for name in given or ():
        if name not in allowed:
            raise BadInput(f"{option}={name!r}: must be one of {', '.join(allowed)}")
    return list(dict.fromkeys(given or default))


def settings_of(args: Any) -> Settings:
    default = SMOKE if args.smoke else FULL
    settings = default._replace(
        num_seeds=default.num_seeds if args.num_seeds is None else args.num_seeds,
        budget_scale=default.budget_scale if args.budget_scale is None else args.budget_scale,
    )
    if not 1 <= settings.num_seeds <= MOST_SEEDS:
        raise BadInput(f"num_seeds={settings.num_seeds}: must be from 1 to {MOST_SEEDS}")
    if not 0 < settings.budget_scale <= MOST_SCALE:  # true for NaN
        raise BadInput(f"budget_scale={settings.budget_scale}: must be above 0 and at most {MOST_SCALE}")
    return settings


def about(settings: Settings) -> dict[str, Any]:
    """What all jobs of a directory have in common, as leaderboard.yaml holds it."""
    return settings._asdict() | {
        "parameters": PARAMETERS,
        "learning_rates": list(RATES),
        "search_seeds": list(SEARCH_SEEDS),
        "search_share": SEARCH_SHARE,
        "tasks": {task: f"{row.trainer}, {row.budget} steps, {row.flags}" for task, row in TASKS.items()},
    }


def check_directory(path: Path, settings: Settings) -> None:
    """Raises BadInput where the directory holds something else, or jobs with other settings."""
    if os.path.lexists(path / run_dir.CONFIG):
        raise BadInput(f"output={str(path)!r}: holds a run; must be a directory of its own")
    if os.path.lexists(path) and not path.is_dir():
        raise BadInput(f"output={str(path)!r}: must be a directory")
    file, now = path / LEADERBOARD, about(settings)
    if not file.exists():
        return
    try:
        stored = yaml.safe_load(file.read_text(encoding="utf-8"))
        then = {name: stored[name] for name in now}
        tasks_then = dict(then.pop("tasks"))
    except KeyError as error:
        raise BadInput(f"output={str(path)!r}: {LEADERBOARD} lacks the field {error.args[0]}") from error
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise BadInput(f"output={str(path)!r}: {LEADERBOARD} cannot be read: {one_line(error)[:200]}") from error
    for task, row in now.pop("tasks").items():
        if row != tasks_then.get(task, row):  # further tasks may have come
            raise BadInput(f"tasks: {task} is {row!r}; must be {tasks_then[task]!r}, as in the other jobs of "
                           f"output={str(path)!r}; choose another directory")  # fmt: skip
    for name, value in now.items():
        if value != then[name]:
            raise BadInput(f"{name}={value}: must be {then[name]}, as in the other jobs of "
                           f"output={str(path)!r}")  # fmt: skip


def create(path: Path, settings: Settings) -> None:
    """Makes the output directory and leaderboard.yaml, where they are not there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        run_dir.probe_write(path)
    except OSError as error:
        raise BadInput(f"output={str(path)!r}: cannot be written ({error.strerror or error})") from error
    if not (path / LEADERBOARD).exists():
        text = yaml.safe_dump(about(settings), sort_keys=False)
        write_whole(path / LEADERBOARD, run_dir.header(["python", *sys.argv]) + text)
        check_directory(path, settings)  # another job may have been first, with other settings


def command_of(job: Job, path: Path, smoke: bool) -> str:
    """What runs one job in a process of its own."""
    flags = ["--smoke"] if smoke else []
    flags += ["--num-seeds", str(job.settings.num_seeds), "--budget-scale", str(job.settings.budget_scale)]
    return shlex.join(
        ["python", "scripts/leaderboard.py", "--job", job.core, job.task, *flags, "--output", str(path)]
    )


def compile_shortly() -> None:
    """Sets XLA's flags for programs that run a few times only: less time goes into them, and they are slower."""
    import jaxlib

    flags = ["--xla_backend_optimization_level=0"]
    if jaxlib.__version__.startswith("0.10."):  # XLA ends the process at a flag that it does not know
        flags.append("--xla_cpu_use_fusion_emitters=false")
    os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *flags])


def run(jobs: Sequence[Job]) -> Iterator[str]:
    """Runs what is not done, one job after the other, and yields "" after each, or in one line why it failed."""
    import jax
    from tqdm import tqdm

    from algos.harness.report import say

    pending = [job for job in jobs if not job.is_done]
    say(f"{len(jobs)} job(s), {len(jobs) - len(pending)} done")
    if not pending:
        return
    say(f"about {duration(estimate(pending))} for {len(pending)} job(s), from a short measurement of each core")
    with tqdm(
        total=round(sum(map(steps_of, pending))), unit=" env steps", unit_scale=True, dynamic_ncols=True,
        desc="all jobs", mininterval=0.2 if sys.stderr.isatty() else 30.0,
    ) as bar:  # fmt: skip
        for number, job in enumerate(pending, start=1):
            say(f"{job.core} on {job.task}: job {number} of {len(pending)}")
            failure = ""
            try:
                run_job(job)
            except (BadInput, RunError) as error:
                failure = one_line(error)
            except Exception as error:  # of one core on one task: the others go on, and the end is an error
                traceback.print_exc()
                failure = f"{type(error).__name__}: {one_line(error)[:300]}"
            if failure:
                failure = f"{job.core} on {job.task}: {failure}"
                say(f"failed: {failure}")
            bar.update(round(steps_of(job)))
            jax.clear_caches()  # of programs that are not called again
            yield failure


def main() -> None:
    with exit_codes():  # before trainers are imported: the others of a job would lose this process meanwhile
        if not processes.is_alone():
            raise BadInput("leaderboard: must be one process, which takes all devices of its host")
    description = __doc__.split("\n", 1)[0]
    parser = OneLineParser(prog="scripts/leaderboard.py", description=description, allow_abbrev=False)
    parser.add_argument(
        "--cores", nargs="+", metavar="CORE", help=f"of {', '.join(networks.CORES)} (default: all)"
    )
    parser.add_argument("--tasks", nargs="+", metavar="TASK", help=f"of {', '.join(TASKS)} (default: all)")
    parser.add_argument("--num-seeds", type=int, help=f"reported seeds per job (default: {FULL.num_seeds})")
    parser.add_argument("--budget-scale", type=float,
                        help="multiplies every task's steps, for all cores alike (default: 1)")  # fmt: skip
    parser.add_argument("--output", help="directory, continued if it is there (default: runs/leaderboard)")
    parser.add_argument(
        "--smoke",
        action="store_true",
        help=f"whether everything works: {' and '.join(SMOKE_CORES)} on {len(SMOKE_TASKS)} tasks, "
        f"{SMOKE.num_seeds} seeds and one update per run, unless other flags say otherwise",
    )
    parser.add_argument("--job", nargs=2, metavar=("CORE", "TASK"), help="run one job and write no tables")
    parser.add_argument("--print-jobs", action="store_true", help="print a command per job and run none")
    with signals.stopping_at_once(), exit_codes():
        args = parser.parse_args()
        if args.job and (args.cores or args.tasks or args.print_jobs):
            raise BadInput(f"job={' '.join(args.job)!r}: must stand without --cores, --tasks and --print-jobs")
        if args.output == "":
            raise BadInput("output='': must be a path")
        settings = settings_of(args)
        if args.job:
            args.cores, args.tasks = [args.job[0]], [args.job[1]]
        all_cores, all_tasks = list(networks.CORES), list(TASKS)
        cores = pick("cores", args.cores, SMOKE_CORES if args.smoke else all_cores, all_cores)
        tasks = pick("tasks", args.tasks, SMOKE_TASKS if args.smoke else all_tasks, all_tasks)
        path = cli.user_path(args.output or ("runs/leaderboard-smoke" if args.smoke else "runs/leaderboard"))
        jobs = [Job(core, task, settings, path / JOBS / task / core) for task in tasks for core in cores]
        check_directory(path, settings)
        if args.print_jobs:
            for job in jobs:
                print(command_of(job, path, args.smoke))
            return
        if args.smoke:
            compile_shortly()
        compilation_cache.enable()
        cli.check_jax()
        create(path, settings)
        if args.job:
            failed = [line for line in run(jobs) if line]
        else:
            with run_dir.locked(path, "output"):
                failed = []
                write_results(path, settings, failed)  # of earlier calls; a damaged file is told before hours pass
                for line in run(jobs):
                    failed += [line] if line else []
                    write_results(path, settings, failed)
            print(f"written: {path}", flush=True)
        if failed:
            raise RunError(f"{len(failed)} of {len(jobs)} jobs failed: {'; '.join(failed)}")


if __name__ == "__main__":
    main()
