"""Search over settings: a grid or random draws of numeric fields of a trainer's Config, times seeds.

    python scripts/sweep.py a2c_arelit --grid learning-rate=1e-3,2e-3 --grid ent-coef=0.01,0.001 --num-seeds 3
    python scripts/sweep.py ppo_arelit --random learning-rate=log:1e-4:1e-2 --random gamma=uniform:0.9:0.999
    python scripts/sweep.py a2c_arelit --grid core.d-model=16,32 --metric episode_success --output runs/widths
    python scripts/sweep.py a2c_arelit --grid learning-rate=1e-3,2e-3 --wandb-sweep sweep.yaml

Flags that are not of the search are the trainer's (--preset, --num-seeds, --total-timesteps, --env.<option> ...)
and hold for every setting. Settings that differ only in fields marked TRACED are trained side by side with all
seeds in one compiled program; every other field (sizes, counts) makes a program per value. A seed of a setting has
the keys, start and draws it has in the trainer's run of that setting alone, and agrees with it to rounding.

The output directory gets:

    sweep.yaml         the search and every other setting, the command, commit, versions, hardware
    curves.csv         a row a setting, seed and log point, with the columns of a run's metrics.csv
    results.csv        a row a setting, the best first: mean over seeds and 95 % confidence interval of the score
    results.png        the same over each field, with the seeds' scores and the settings' numbers
    best_command.txt   the trainer's command of the best setting, with fresh seeds: the best score of many is that
                       of a selected maximum, too high for what the setting is worth

The score is the metric's mean over the episodes that ended in the last tenth of the run, or, for a metric eval_*,
over a final evaluation; higher is better. A run whose loss is not finite has diverged: the others go on, and the
setting ranks behind all that have not. Ctrl-C writes the table of what has been trained so far.
"""

import copy
import dataclasses
import itertools
import math
import os
import shlex
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, get_args, get_type_hints

import numpy as np

import algos
from algos.harness import (
    BadInput,
    OneLineParser,
    RunError,
    cli,
    compilation_cache,
    exit_codes,
    pictures,
    processes,
    run_dir,
    signals,
)  # fmt: skip
from algos.harness.errors import write_whole, writing
from algos.harness.fields import traced_fields
from algos.harness.statistics import confidence_interval
from algos.presets import PRESETS

METRIC = "episode_return"
LOG_POINTS = 50
SCORED = 0.1
"""Share of the log points, the last ones, that count for the score."""
MOST_RUNS = 2**16
NO_NUMBER = "holds no number; only numbers can be searched over"

SWEEP, CURVES, RESULTS, PICTURE = "sweep.yaml", "curves.csv", "results.csv", "results.png"
BEST = "best_command.txt"

Setting = dict[str, int | float]

# ------------------------------------------------------------------------------------------------------------
# The search


class Axis(NamedTuple):
    """One field of the search: numbers to choose from, or a range [low, high]."""

    name: str  # of the field: learning_rate, core.d_model
    scale: str  # "" for a list of numbers, "uniform" or "log" for a range
    numbers: tuple[Any, ...]  # texts until the fields' types are known


class Search(NamedTuple):
    """What to train."""

    algo: str
    module: ModuleType
    base: Any  # the Config of the first setting
    flags: list[str]  # the trainer's, as given
    axes: list[Axis]
    random: bool
    settings: list[Setting]
    configs: list[Any]  # of every setting, checked
    traced: tuple[str, ...]  # the fields that one program trains many values of


def parse_axis(option: str, text: str) -> Axis:
    """FIELD=V1,V2,... of --grid, and also FIELD=uniform:LOW:HIGH or FIELD=log:LOW:HIGH of --random."""
    name, _, values = text.partition("=")
    scale, *ends = values.split(":")
    if option == "random" and scale in ("uniform", "log") and len(ends) == 2:
        numbers = ends
    else:
        scale, numbers = "", values.split(",")
    if not name.strip("-") or not all(number.strip() for number in numbers):
        ranges = ", FIELD=uniform:LOW:HIGH or FIELD=log:LOW:HIGH" if option == "random" else ""
        raise BadInput(f"--{option} {text!r}: must be FIELD=VALUE,VALUE,...{ranges}")
    return Axis(name.lstrip("-").replace("-", "_"), scale, tuple(numbers))


def flag(name: str, value: Any) -> str:
    return f"--{name.replace('_', '-')}={value}"


def plan(
    algo: str, grid: Sequence[str], random: Sequence[str], num_settings: int | None, search_seed: int,
    flags: Sequence[str],
) -> Search:  # fmt: skip
    """Checks every setting of a search.

    Raises:
        BadInput: with one line that names the field; nothing has been traced yet.
    """
    if algo not in algos.TRAINERS:
        raise BadInput(f"trainer={algo!r}: must be one of {', '.join(algos.TRAINERS)}")
    if bool(grid) == bool(random):
        raise BadInput("--grid, --random: give one of the two, once or more often")
    if num_settings is not None and not random:
        raise BadInput(f"num_settings={num_settings}: only with --random; a grid has as many as its values give")
    option = "random" if random else "grid"
    axes = [parse_axis(option, text) for text in random or grid]
    names = [axis.name for axis in axes]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"--{option} {name}: given twice")
        if name in ("seed", "num_seeds"):
            raise BadInput(f"--{option} {name}: every setting is trained with the seeds of --seed and --num-seeds")
        if any(each.partition("=")[0].replace("_", "-") == flag(name, "")[:-1] for each in flags):
            raise BadInput(f"--{option} {name}: is part of the search, leave the flag out")

    module = algos.TRAINERS[algo]
    kinds = get_type_hints(module.Config)
    for name in names:
        kind = kinds.get(name, float)
        if not set(get_args(kind) or [kind]) <= {int, float, type(None)}:
            raise BadInput(f"--{option} {name}: {NO_NUMBER}")
    first = [flag(axis.name, axis.numbers[0].strip()) for axis in axes]
    base, resume = cli.parse(module.Config, PRESETS[algo], module.__doc__, algo, [*flags, *first])
    for name in names:
        if not hasattr(base, name.partition(".")[0]):  # --preset and --config are flags, but no fields
            raise BadInput(f"--{option} {name}: {NO_NUMBER}")
    for name in ("resume", "run_dir", "init_from"):
        if getattr(base, name):
            raise BadInput(f"{name}={getattr(base, name)!r}: not of a sweep; --output names a new directory")
    if base.wandb != "disabled":
        raise BadInput(
            f"wandb={base.wandb!r}: a sweep keeps local files; --wandb-sweep writes one for wandb agent"
        )
    axes = [typed(axis, option, base) for axis in axes]

    count = (num_settings or 16) if random else math.prod(len(axis.numbers) for axis in axes)
    if num_settings is not None and num_settings < 1:
        raise BadInput(f"num_settings={num_settings}: must be at least 1")
    if count * base.num_seeds > MOST_RUNS:
        raise BadInput(f"{option}: {count} settings x num_seeds={base.num_seeds} must be at most {MOST_RUNS} runs")
    if random:
        for axis in axes:
            for end in axis.numbers:
                changed(base, {axis.name: end})
        settings = draw(axes, count, search_seed)
    else:
        settings = [dict(zip(names, values, strict=True)) for values in
                    itertools.product(*(axis.numbers for axis in axes))]  # fmt: skip
    configs, traced = [changed(base, setting) for setting in settings], traced_fields(module.Config)
    for indices in groups(settings, traced):
        try:
            trainer = module.make_train(configs[indices[0]])
        except ValueError as error:
            raise BadInput(str(error)) from error
        if trainer.lives_on_host:
            env_id = configs[indices[0]].env["id"]
            raise BadInput(f"env.id={env_id!r}: must be an environment in JAX, for settings train in one program")
    return Search(algo, module, base, list(flags), axes, bool(random), settings, configs, traced)


def typed(axis: Axis, option: str, base: Any) -> Axis:
    """The axis with numbers of the field's type."""
    field, _, key = axis.name.partition(".")
    kind = type(getattr(base, field)[key] if key else getattr(base, field))
    if kind not in (int, float):
        raise BadInput(f"--{option} {axis.name}: {NO_NUMBER}")
    numbers = tuple(number(axis.name, text, kind) for text in axis.numbers)
    if len(set(numbers)) < len(numbers):
        raise BadInput(f"--{option} {axis.name}: has the same value twice, {','.join(axis.numbers)}")
    if axis.scale:
        low, high = numbers
        if low > high or (axis.scale == "log" and low <= 0):
            above = "0 < LOW < HIGH" if axis.scale == "log" else "LOW < HIGH"
            raise BadInput(f"--random {axis.name}={axis.scale}:{low}:{high}: must have {above}")
    return axis._replace(numbers=numbers)


def number(name: str, text: str, kind: type) -> int | float:
    try:
        value = kind(text)
    except ValueError as error:
        wanted = "an integer" if kind is int else "a number"
        raise BadInput(f"{name}={text[:50]!r}: must be {wanted}") from error
    if not abs(value) < (2**62 if kind is int else math.inf):  # false for NaN
        raise BadInput(f"{name}={text[:50]}: must be {'below 2^62' if kind is int else 'a finite number'}")
    return value


def changed(config: Any, setting: Setting) -> Any:
    """The Config with the setting's values; raises BadInput if it refuses them."""
    fields: dict[str, Any] = {}
    for name, value in setting.items():
        field, _, key = name.partition(".")
        fields[field] = fields.get(field, getattr(config, field)) | {key: value} if key else value
    try:
        return dataclasses.replace(config, **fields)
    except ValueError as error:
        raise BadInput(str(error)) from error


def draw(axes: Sequence[Axis], count: int, seed: int) -> list[Setting]:
    """`count` different settings; floats have four digits, so that the best one's command can be read."""
    rng = np.random.default_rng(seed)

    def value(axis: Axis) -> int | float:
        if not axis.scale:
            return axis.numbers[rng.integers(len(axis.numbers))]
        low, high = axis.numbers
        if axis.scale == "log":
            found = math.exp(rng.uniform(math.log(low), math.log(high)))
        else:
            found = rng.integers(low, high, endpoint=True) if type(low) is int else rng.uniform(low, high)
        found = round(found) if type(low) is int else float(f"{found:.4g}")
        return min(max(found, low), high)

    settings: dict[tuple, Setting] = {}
    for _ in range(100 * count):
        setting = {axis.name: value(axis) for axis in axes}
        settings[tuple(setting.values())] = setting
        if len(settings) == count:
            return list(settings.values())
    raise BadInput(f"num_settings={count}: the ranges hold only {len(settings)} different settings or few more")


def groups(settings: Sequence[Setting], traced: Sequence[str]) -> list[list[int]]:
    """Indices of the settings that share a program."""
    found: dict[tuple, list[int]] = {}
    for index, setting in enumerate(settings):
        shape = tuple(value for name, value in setting.items() if name not in traced)
        found.setdefault(shape, []).append(index)
    return list(found.values())


# ------------------------------------------------------------------------------------------------------------
# Training


def with_values(config: Any, values: dict[str, Any]) -> Any:
    """A copy of a Config whose fields hold traced values.

    dataclasses.replace would run the checks of __post_init__, which need numbers; `plan` has made them on the
    numbers that are passed in here.
    """
    copied = copy.copy(config)
    for name, value in values.items():
        object.__setattr__(copied, name, value)
    return copied


def episode_metrics(update_metrics: Iterable[str]) -> list[str]:
    """Those of an update's metrics that can be a score."""
    from algos.harness import metrics

    return sorted(name for name in update_metrics if name.startswith(metrics.EPISODE))


def check_metric(search: Search, metric: str) -> None:
    """Raises BadInput unless the metric is one of the training episodes' or of the evaluation's; only traces."""
    import jax

    from algos.harness import metrics

    trainer, key = search.module.make_train(search.base), jax.random.key(0)
    state = jax.eval_shape(trainer.init, key)
    _, update_metrics = jax.eval_shape(trainer.update, state)
    evaluated = jax.eval_shape(lambda state, key: trainer.evaluate(state, key, True), state, key)
    known = [*episode_metrics(update_metrics), *sorted(map(metrics.evaluation_column, evaluated))]
    if metric not in known:
        raise BadInput(f"metric={metric!r}: must be one of {', '.join(known)}")


class Programs(NamedTuple):
    """Compiled functions of runs side by side: every array leads with the axis of runs [M]."""

    init: Any  # (values, keys) -> state
    update: Any  # (values, state) -> (state, metrics); takes over the state's buffers
    evaluate: Any  # (values, state, keys) -> episodes [M, E]; None where the metric needs none
    columns: list[str]  # of curves.csv


def compile_programs(module: ModuleType, config: Any, values: dict, keys: Any, mesh: Any, metric: str) -> Programs:
    """Compiles what trains `config` with M values of its traced fields and M keys.

    Args:
        module: the trainer.
        config: a Config of the shape; its fields named in `values` do not matter.
        values: float32 [M] by field.
        keys: typed keys [M], those of the runs' seeds.
        mesh: devices the runs lie on.
        metric: name of the score; the evaluation is compiled if it is not one of the update's.
    """
    import jax

    from algos.harness import devices, footprint, loop, metrics, report

    def trainer(values):
        return module.make_train(with_values(config, values))

    def init(values, key):
        return trainer(values).init(key)

    def update(values, state):
        return trainer(values).update(state)

    def evaluate(values, state, key):
        return trainer(values).evaluate(state, key, loop.DETERMINISTIC)

    sharding = devices.seed_sharding(mesh)

    def lower(fn, *args, donate=()):
        program = devices.over_seeds(fn, mesh)
        return jax.jit(program, donate_argnums=donate, out_shardings=sharding).lower(*args)

    begin, settings = time.monotonic(), len(keys) // config.num_seeds
    lowered = {"init": lower(init, values, keys)}
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), lowered["init"].out_info
    )
    footprint.check_before(abstract, config, mesh, settings)
    lowered["update"] = lower(update, values, abstract, donate=(1,))
    _, update_metrics = lowered["update"].out_info
    if metric not in update_metrics:
        lowered["evaluate"] = lower(evaluate, values, abstract, keys)
    compiled = {"update": lowered.pop("update").compile()}
    footprint.check(compiled["update"], config, mesh, settings, state=abstract)
    options = {"init": loop.start_options(), "evaluate": loop.evaluation_options()}
    compiled |= {name: each.compile(options[name]) for name, each in lowered.items()}
    report.say(f"compiled in {time.monotonic() - begin:.1f} s")
    columns = ["setting", *metrics.columns(update_metrics, [])]
    return Programs(compiled["init"], compiled["update"], compiled.get("evaluate"), columns)


class Curves:
    """curves.csv; the first program's columns are those of all."""

    def __init__(self, path: Path):
        self._path, self._file = path, None

    def append(self, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
        from algos.harness import metrics

        if self._file is None:
            self._file = metrics.MetricsFile(self._path, columns, keep_until=0)
        self._file.append(rows)


class RunLog:
    """The metrics [M] of runs side by side, reduced at every log point to a row a run and what the score needs.

    Attributes:
        update: finished updates.
        diverged: the update [M] at which a run's metrics were first not finite, 0: never. Its rows end there.
    """

    def __init__(
        self, settings: Sequence[int], seeds: Sequence[int], config: Any, programs: Programs, curves: Curves
    ):
        from algos.harness import loop

        self.update, self.diverged = 0, np.zeros(len(settings) * len(seeds), int)
        self._identity = [{"setting": setting, "seed": seed} for setting in settings for seed in seeds]
        self._steps, self._columns, self._curves = config.num_envs * config.num_steps, programs.columns, curves
        self._log_points = loop.points(config.num_updates, LOG_POINTS)
        self._interval: list[dict[str, np.ndarray]] = []
        self._sums: list[dict[str, np.ndarray]] = []  # of episode_* over the episodes of an interval
        self._begin = time.monotonic()

    def add(self, found: dict[str, np.ndarray]) -> None:
        """Takes the metrics of the next update."""
        self.update += 1
        from algos.harness import metrics

        none_ended = found["episodes"] == 0  # then episode_* are NaN, and no fault
        self.check(
            [
                np.isfinite(values) | (none_ended & name.startswith(metrics.EPISODE))
                for name, values in found.items()
            ]
        )
        self._interval.append(found)
        if self.update in self._log_points:
            self.write()

    def check(self, finite: Sequence[np.ndarray]) -> None:
        """Marks the runs that are not finite [M] in one of these as diverged."""
        self.diverged[~np.all(finite, axis=0) & (self.diverged == 0)] = self.update

    def write(self) -> None:
        """Closes the interval, if one was begun."""
        from algos.harness import metrics

        if not self._interval:
            return
        about = {"update": self.update, "env_steps": self.update * self._steps}
        clock = {"time_elapsed_s": time.monotonic() - self._begin}
        whole = np.flatnonzero(self.diverged == 0)
        rows = [self._identity[run] | about | metrics.reduce(self._interval, run) | clock for run in whole]
        self._curves.append(self._columns, rows)
        episodes = np.stack([each["episodes"] for each in self._interval]).astype(float)
        self._sums.append({"episodes": episodes.sum(0)} | {
            name: (np.where(episodes > 0, np.stack([each[name] for each in self._interval]), 0) * episodes).sum(0)
            for name in episode_metrics(self._interval[0])
        })  # fmt: skip
        self._interval = []

    def score(self, metric: str) -> np.ndarray:
        """The metric's mean [M] over the episodes of the last log points; NaN where none ended."""
        last = self._sums[-max(1, round(SCORED * len(self._sums))) :]
        episodes, total = (sum(each[name] for each in last) for name in ("episodes", metric))
        return total / np.where(episodes > 0, episodes, np.nan)


class Outcome(NamedTuple):
    """How the runs of some settings ended, each array [N settings, S seeds]."""

    settings: list[int]
    score: np.ndarray  # NaN where the run diverged or no episode ended in time
    diverged: np.ndarray  # update at which the run was first not finite, 0: never
    env_steps: int  # of every run
    complete: bool  # to the run's end


def lay_out(search: Search, indices: Sequence[int]) -> tuple[dict[str, Any], Any, Any]:
    """(values [M] by traced field, keys [M], mesh) of these settings; run i * S + k is setting i with seed k."""
    import jax

    from algos.harness import devices

    seeds = search.base.num_seeds
    mesh = devices.seed_mesh(len(indices) * seeds)
    values = {
        name: np.repeat(np.array([search.settings[i][name] for i in indices], np.float32), seeds)
        for name in search.settings[0]
        if name in search.traced
    }
    keys = devices.seed_keys(search.base.seed, seeds)[np.tile(np.arange(seeds), len(indices))]
    return *jax.device_put((values, keys), devices.seed_sharding(mesh)), mesh


def train(search: Search, indices: list[int], metric: str, curves: Curves, bar: Any, interrupts: Any) -> Outcome:
    """Trains settings of one shape with all seeds, to the end or to a signal."""
    import jax

    from algos.harness import loop, metrics

    config, seeds = search.configs[indices[0]], range(search.base.seed, search.base.seed + search.base.num_seeds)
    values, keys, mesh = lay_out(search, indices)
    interrupts.can_save = False  # what other programs have trained is written
    programs = compile_programs(search.module, config, values, keys, mesh, metric)
    log = RunLog(indices, seeds, config, programs, curves)
    in_flight: deque[Any] = deque()

    def fetch(at_most: int) -> None:
        while len(in_flight) > at_most:
            log.add(jax.device_get(in_flight.popleft()))
            bar.update(len(log.diverged) * config.num_envs * config.num_steps)

    state = programs.init(values, keys)
    interrupts.can_save = True
    for _ in range(config.num_updates):
        state, update_metrics = programs.update(values, state)
        in_flight.append(update_metrics)
        fetch(at_most=loop.IN_FLIGHT - 1)
        if interrupts.received is not None:
            break
    fetch(at_most=0)
    log.write()
    # The last update's parameters, of which no metric speaks.
    log.check([np.isfinite(x).reshape(len(x), -1).all(1) for x in jax.tree.leaves(jax.device_get(state.params))])
    if programs.evaluate is None:
        score = log.score(metric)
    else:
        evaluation_keys = jax.device_put(loop.evaluation_keys(keys, log.update), keys.sharding)
        evaluated = programs.evaluate(values, state, evaluation_keys)
        columns = {metrics.evaluation_column(name): episodes for name, episodes in evaluated.items()}
        score = np.asarray(columns[metric]).mean(axis=1, dtype=float)
    score = np.where(log.diverged > 0, np.nan, score).reshape(len(indices), len(seeds))
    done = log.update == config.num_updates
    env_steps = log.update * config.num_envs * config.num_steps
    return Outcome(indices, score, log.diverged.reshape(score.shape), env_steps, done)


# ------------------------------------------------------------------------------------------------------------
# Results


def table(search: Search, metric: str, outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """A row a setting, the best first; behind what is done stand what was stopped and what has diverged."""
    rows = []
    for outcome in outcomes:
        mean, half = confidence_interval(outcome.score.T)
        for place, index in enumerate(outcome.settings):
            diverged = int((outcome.diverged[place] > 0).sum())
            status = "done" if outcome.complete else "stopped"
            if diverged:
                first = outcome.diverged[place][outcome.diverged[place] > 0].min()
                status = f"diverged at update {first}"
            elif np.isnan(outcome.score[place]).any():
                status += ", no episode ended"
            rows.append({
                "setting": index,
                **search.settings[index],
                metric: mean[place],
                "low": mean[place] - half[place],
                "high": mean[place] + half[place],
                "env_steps": outcome.env_steps,
                "diverged": diverged,
                "status": status,
                **{f"seed_{search.base.seed + k}": score for k, score in enumerate(outcome.score[place])},
            })  # fmt: skip

    def rank(row: dict[str, Any]) -> tuple:
        missing = math.isnan(row[metric])
        return row["diverged"] > 0, row["status"] != "done", missing, 0.0 if missing else -row[metric]

    return sorted(rows, key=rank)


def best_command(search: Search, row: dict[str, Any]) -> str:
    """The trainer's command line of a row's setting, with as many seeds that had no part in its choice."""
    flags = [part for name in search.settings[0] for part in (flag(name, "")[:-1], repr(row[name]))]
    fresh = search.base.seed + search.base.num_seeds
    kept, words = [], iter(search.flags)
    for word in words:
        if word == "--seed":
            next(words, None)
        elif not word.startswith("--seed="):
            kept.append(word)
    return shlex.join(["python", f"algos/{search.algo}.py", *kept, "--seed", str(fresh), *flags])


def write_results(search: Search, metric: str, outcomes: Sequence[Outcome], path: Path) -> list[dict[str, Any]]:
    """results.csv, results.png and best_command.txt of what has been trained so far; returns the table."""
    import pandas

    rows = table(search, metric, outcomes)
    write_whole(path / RESULTS, pandas.DataFrame(rows).to_csv(index=False, lineterminator="\n"))
    if is_scored(rows[0], metric):
        write_whole(path / BEST, best_command(search, rows[0]) + "\n")
    plot(search, rows, metric, path / PICTURE)
    return rows


def is_scored(row: dict[str, Any], metric: str) -> bool:
    return not row["diverged"] and not math.isnan(row[metric])


def plot(search: Search, rows: Sequence[dict[str, Any]], metric: str, path: Path) -> None:
    """The score over each field of the search, a point a setting with its 95 % confidence interval."""
    with pictures.own_settings():
        _plot(search, rows, metric, path)


def _plot(search: Search, rows: Sequence[dict[str, Any]], metric: str, path: Path) -> None:
    from matplotlib import ticker

    from algos.harness.curve import BLUE, ORANGE

    columns = min(3, len(search.axes))
    lines = -(-len(search.axes) // columns)
    figure = pictures.new_figure(1.5 + 3.6 * columns, 0.6 + 3.2 * lines)
    panels = figure.subplots(lines, columns, squeeze=False, sharey=True).flatten()
    seeds = search.base.num_seeds
    of_seeds = [f"seed_{search.base.seed + k}" for k in range(seeds)]
    shown = [row for row in rows if not math.isnan(row[metric])]
    for axes, axis in zip(panels, search.axes, strict=False):
        values = sorted({row[axis.name] for row in rows})
        # Listed values stand side by side, evenly: they may span decades. Drawn ones stand where they are.
        listed = not axis.scale
        for value in values:
            there = [row for row in shown if row[axis.name] == value]
            for order, row in enumerate(sorted(there, key=lambda row: row["setting"])):
                # Side by side where settings share a value, or their intervals would cover each other.
                x = values.index(value) + 0.5 * ((order + 1) / (len(there) + 1) - 0.5) if listed else value
                half = 0.0 if math.isnan(row["high"]) else row["high"] - row[metric]
                style = dict(fmt="o", markersize=4, color=BLUE, alpha=0.6, elinewidth=1)
                if row is rows[0] and is_scored(row, metric):
                    style |= dict(fmt="D", markersize=6, color=ORANGE, alpha=1.0, zorder=3)
                elif row["diverged"]:
                    style |= dict(fmt="x", color="grey")
                axes.errorbar(x, row[metric], half, **style)
                if len(rows) <= 24:  # the numbers of the table
                    axes.annotate(row["setting"], (x, row[metric]), (4, 4), textcoords="offset points", fontsize=7)
                axes.plot([x] * seeds, [row[name] for name in of_seeds], "_", color=style["color"], markersize=5)
        if listed:
            axes.set_xticks(
                range(len(values)), [f"{value:g}" for value in values], rotation=45 if len(values) > 6 else 0
            )
            axes.set_xlim(-0.6, len(values) - 0.4)
        elif axis.scale == "log":
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_locator(ticker.NullLocator())
            axes.tick_params(axis="x", rotation=45)
        else:
            axes.xaxis.set_major_locator(ticker.MaxNLocator(5, integer=type(values[0]) is int))
        axes.set_xlabel(axis.name)
        axes.grid(alpha=0.25)
    found = np.array([row[name] for row in shown for name in of_seeds], float)
    if np.isfinite(found).any():  # intervals of few seeds are wide: they may leave the picture, no seed does
        low, high = np.nanmin(found), np.nanmax(found)
        margin = 0.08 * (high - low) or 1.0
        panels[0].set_ylim(low - margin, high + margin)
    for axes in panels[len(search.axes) :]:
        axes.remove()
    for axes in panels[::columns]:
        axes.set_ylabel(metric)
    interval = f"{seeds} seeds, their mean and its 95 % confidence interval" if seeds > 1 else "one seed"
    where = f"{search.base.env['id']}, {search.base.core['name']} ({search.algo})"
    figure.suptitle(f"{where}: {interval}; orange: the best", fontsize=10)
    with writing(path):
        figure.savefig(path, dpi=130, format="png")


# ------------------------------------------------------------------------------------------------------------
# wandb


def wandb_sweep(search: Search, metric: str) -> dict[str, Any]:
    """The same search for `wandb sweep`: an agent's run trains all seeds of one setting by the trainer itself."""
    distributions = {"uniform": "uniform", "log": "log_uniform_values"}
    parameters: dict[str, Any] = {}
    for axis in search.axes:
        if not axis.scale:
            parameters[axis.name] = {"values": list(axis.numbers)}
            continue
        low, high = axis.numbers
        distribution = distributions[axis.scale]
        if type(low) is int:
            if axis.scale == "log":
                raise BadInput(
                    f"--random {axis.name}: wandb draws no whole numbers on a log scale; list the values"
                )
            distribution = "int_uniform"
        parameters[axis.name] = {"distribution": distribution, "min": low, "max": high}
    return {
        "program": f"algos/{search.algo}.py",
        **({"method": "random", "run_cap": len(search.settings)} if search.random else {"method": "grid"}),
        "metric": {"name": f"mean/{metric}", "goal": "maximize"},
        "parameters": parameters,
        "command": ["${env}", "${interpreter}", "${program}", *search.flags, "--wandb", "online", "${args}"],
    }


def write_wandb_sweep(search: Search, metric: str, path: Path) -> None:
    """Writes the YAML.

    Raises:
        BadInput: it is there already, cannot be written, or the search has no counterpart.
    """
    import yaml

    text = yaml.safe_dump(wandb_sweep(search, metric), sort_keys=False, allow_unicode=True, width=1000)
    try:
        with open(path, "x", encoding="utf-8") as file:
            # The agent runs the `python` of its PATH.
            file.write(f"# In the repository, its .venv activated: wandb sweep {path}, and wandb agent with the "
                       f"id it prints.\n{text}")  # fmt: skip
    except OSError as error:
        raise BadInput(f"wandb_sweep={str(path)!r}: cannot be written: {error.strerror or error}") from error
    print(f"wandb sweep {shlex.quote(str(path))}")


# ------------------------------------------------------------------------------------------------------------
# Main


def create(search: Search, metric: str, path: Path, command: list[str]) -> None:
    """Makes the output directory and writes sweep.yaml.

    Raises:
        BadInput: it holds a sweep or a run, or cannot be written.
    """
    import yaml

    held = [
        name for name in (SWEEP, CURVES, RESULTS, PICTURE, BEST, run_dir.CONFIG) if os.path.lexists(path / name)
    ]
    if held:
        raise BadInput(f"output={str(path)!r}: already holds a sweep or a run ({', '.join(held)})")
    values = {axis.name: ":".join([axis.scale, *map(str, axis.numbers)]) if axis.scale else list(axis.numbers)
              for axis in search.axes}  # fmt: skip
    about = {"metric": metric, "search": values, "settings": len(search.settings)}
    text = run_dir.header(command) + yaml.safe_dump(about, sort_keys=False, width=1000)
    text += run_dir.dump_config(search.base, search.algo)
    try:
        path.mkdir(parents=True, exist_ok=True)
        run_dir.probe_write(path)
        (path / SWEEP).write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"output={str(path)!r}: cannot be written ({error.strerror or error})") from error


def run(search: Search, metric: str, path: Path) -> None:
    """Trains a program's settings after the other's, and after each writes the results so far.

    Raises:
        RunError: a file cannot be written, or no setting has a score.
        SystemExit: 130 or 143 after a signal, with the results written.
    """
    from tqdm import tqdm

    from algos.harness.report import say

    programs, seeds = groups(search.settings, search.traced), search.base.num_seeds
    say(f"{len(search.settings)} setting(s) x {seeds} seed(s) in {len(programs)} program(s)")
    total = 0
    for indices in programs:
        config = search.configs[indices[0]]
        total += len(indices) * seeds * config.num_updates * config.num_envs * config.num_steps
    outcomes: list[Outcome] = []
    curves = Curves(path / CURVES)
    with signals.Interrupts() as interrupts, tqdm(
        total=total, unit=" env steps", unit_scale=True, dynamic_ncols=True,
        mininterval=0.2 if sys.stderr.isatty() else 30.0,
    ) as bar:  # fmt: skip
        for indices in programs:
            outcomes.append(train(search, indices, metric, curves, bar, interrupts))
            rows = write_results(search, metric, outcomes, path)
            if interrupts.received is not None:
                break
        interrupts.can_save = False
    print_table(search, metric, rows)
    if is_scored(rows[0], metric):
        if len(rows) > 1:
            print(f"The score of the best of {len(rows)} is that of a selected maximum and likely too high; "
                  "its command below takes fresh seeds.")  # fmt: skip
        print(f"best: {best_command(search, rows[0])}")
    print(f"written: {path}", flush=True)
    if interrupts.received is not None:
        sys.exit(128 + interrupts.received)
    if not is_scored(rows[0], metric):
        raise RunError(f"{metric}: no setting has a value of it; all diverged, or no episode ended at the end")


def print_table(search: Search, metric: str, rows: Sequence[dict[str, Any]], most: int = 20) -> None:
    import pandas

    shown = pandas.DataFrame(rows[:most])[["setting", *search.settings[0], metric, "low", "high", "status"]]
    print(f"mean over {search.base.num_seeds} seed(s) and its 95 % confidence interval, the best first")
    print(shown.to_string(index=False, na_rep="", float_format=lambda value: f"{value:.5g}"))
    if len(rows) > most:
        print(f"... and {len(rows) - most} more in {RESULTS}")


def main() -> None:
    with exit_codes():  # before trainers are imported: the others of a job would lose this process meanwhile
        if not processes.is_alone():
            raise BadInput("sweep: must be one process, which takes all devices of its host; not a job of several")
    about = __doc__.split("\n", 1)[0]
    parser = OneLineParser(prog="scripts/sweep.py", description=about, allow_abbrev=False,
                           epilog="All other flags are the trainer's: python algos/TRAINER.py --help")  # fmt: skip
    parser.add_argument("trainer", help=", ".join(algos.TRAINERS))
    parser.add_argument("--grid", action="append", default=[], metavar="FIELD=V1,V2,...",
                        help="all combinations of the values of these fields")  # fmt: skip
    parser.add_argument("--random", action="append", default=[], metavar="FIELD=RANGE",
                        help="draws from uniform:LOW:HIGH, log:LOW:HIGH or V1,V2,...")  # fmt: skip
    parser.add_argument("--num-settings", type=int, help="how many are drawn (default: 16)")
    parser.add_argument("--search-seed", type=int, default=0, help="of the draws (default: 0)")
    parser.add_argument(
        "--metric",
        default=METRIC,
        help="the score: episode_return, episode_success, eval_return, ... (default: episode_return)",
    )
    parser.add_argument("--output", help="new directory (default: runs/sweep-...)")
    parser.add_argument("--wandb-sweep", metavar="FILE",
                        help="train nothing, write the search for `wandb sweep` and `wandb agent`")  # fmt: skip
    with signals.stopping_at_once(), exit_codes():
        if len(sys.argv) > 1 and sys.argv[1].startswith("-") and not {"-h", "--help"} & set(sys.argv):
            raise BadInput(f"{sys.argv[1]!r}: the trainer must come first, one of {', '.join(algos.TRAINERS)}")
        args, flags = parser.parse_known_args()
        if args.search_seed < 0:
            raise BadInput(f"search_seed={args.search_seed}: must be at least 0")
        for name in ("output", "wandb_sweep"):
            if getattr(args, name) == "":
                raise BadInput(f"{name}='': must be a path")
        search = plan(args.trainer, args.grid, args.random, args.num_settings, args.search_seed, flags)
        if args.metric != METRIC:  # which every trainer has
            check_metric(search, args.metric)
        if args.wandb_sweep:
            if args.output:
                raise BadInput(f"output={args.output!r}: nothing is trained with --wandb-sweep, leave it out")
            write_wandb_sweep(search, args.metric, Path(args.wandb_sweep))
            return
        path = cli.user_path(args.output) if args.output else default_path(search)
        compilation_cache.enable()
        with run_dir.locked(path, "output"):
            create(search, args.metric, path, ["python", *sys.argv])
            try:
                run(search, args.metric, path)
            except BaseException:
                if not (path / CURVES).exists():  # nothing was trained: the directory can be used again
                    (path / SWEEP).unlink(missing_ok=True)
                raise


def default_path(search: Search) -> Path:
    return run_dir.timestamped("sweep", search.algo, search.base.env["id"], search.base.core["name"])


if __name__ == "__main__":
    main()
