"""The run loop: dispatches updates, and between them logs, evaluates, saves and listens for signals."""

import contextlib
import dataclasses
import functools
import math
import os
import shlex
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
from jax.sharding import Mesh

from algos.harness import curve, devices, episode, footprint, metrics, pictures, processes, run_dir
from algos.harness.checkpoint import Checkpoints, empty_arrays, from_arrays, to_arrays
from algos.harness.errors import BadInput, RunError, one_line
from algos.harness.report import Report, say
from algos.harness.restore import abstract_state, load_start
from algos.harness.signals import Interrupts
from algos.harness.wandb_log import WandbLog

LOG_POINTS = 100
SAVE_POINTS = 10
DETERMINISTIC = True
"""Evaluations play the mode of the policy; the training returns show it as it explores."""
IN_FLIGHT = 2
"""Updates dispatched and not yet fetched: enough that the device never waits, few enough to stop quickly."""

# Set the keys of these apart from each other and from everything a trainer derives from the seed's key.
EVALUATION, EPISODE, RESTART = 0x6576616C, 0x65706973, 0x72657374


def points(num_updates: int, count: int) -> set[int]:
    """At most `count` update counts, evenly spaced: the first by 1 / count of the run, the last its end.

    They depend on the run's length only, so a resumed run has the same ones.
    """
    return {max(1, i * num_updates // count) for i in range(1, count + 1)}


def evaluation_keys(seed_keys: jax.Array, update: int) -> jax.Array:
    """Typed keys [S] of the evaluation after `update`: functions of seed and update only."""
    return _keys_after(update, EVALUATION, seed_keys)


def _keys_after(update: int, purpose: int, seed_keys: jax.Array) -> jax.Array:
    return jax.vmap(lambda key: jax.random.fold_in(jax.random.fold_in(key, purpose), update))(seed_keys)


def begin_episodes(state: Any, fresh: Any) -> Any:
    """`state` with the environments of `fresh`, which begin an episode.

    What a restored state says of environments on the host is of no use: they have gone with the process that
    wrote it. Parameters, optimiser, statistics, counters and the keys of all further draws stay, and so does the
    carry, which the reset clears.
    """
    return state.replace(stream=fresh.stream.replace(carry=state.stream.carry))


@contextlib.contextmanager
def environment_failures(config: Any, trainer: Any, hint: Callable[[], str] = str) -> Iterator[None]:
    """Turns what JAX raises of a callback into a RunError where environments on the host have failed.

    Args:
        config: the trainer's Config.
        trainer: its trainer.
        hint: called for what to add to the line.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        failure = getattr(trainer.env, "failure", None)
        if failure is None:
            raise
        raise RunError(f"env.id={config.env['id']!r}: {failure}{hint()}") from error


def run(config: Any, trainer: Any, algo: str, path: Path, resumed: Callable[[], None] | None = None) -> None:
    """Trains all seeds to the end, from the newest whole checkpoint in `path` or from the start.

    Args:
        config: the trainer's Config.
        trainer: what make_train(config) returned.
        algo: name of the trainer's module.
        path: the run directory, which holds config.yaml.
        resumed: called by the first process once nothing can refuse an earlier run any more, before any of its
            files is changed.

    Raises:
        BadInput: its checkpoints are damaged or gone, wandb cannot be started, or it does not fit into memory.
        RunError: a loss that is not finite, a file that cannot be written, a worker process that failed, or
            another process of the job that is gone.
        SystemExit: 128 + the signal's number after one, with the last checkpoint whole.
    """
    resume_command = shlex.join(["python", sys.argv[0], "--resume", str(path)])
    with Interrupts(resume_command) as interrupts:
        wandb = processes.on_first(
            lambda: WandbLog(config.wandb, path, {"algo": algo, **dataclasses.asdict(config)})
        )

        def how_to_go_on() -> str:
            last = interrupts.last_checkpoint
            return f"; the last checkpoint is {last}; continue with: {resume_command}" if last else ""

        try:
            with environment_failures(config, trainer, how_to_go_on):
                stopped_by = _train(config, trainer, algo, path, wandb, interrupts, resumed)
        except (jax.errors.JaxRuntimeError, ValueError) as error:
            if not processes.is_loss(error):
                raise
            raise RunError(
                f"process {jax.process_index()} of {jax.process_count()}: another process of this job is gone"
                f"{how_to_go_on()} ({one_line(error)[:200]})"
            ) from error
        finally:
            if wandb is not None:
                wandb.finish()
    if stopped_by:
        say(f"stopped; continue with: {resume_command}")
        sys.exit(128 + stopped_by)


def evaluation_options() -> dict[str, Any]:
    """Compiler options of the evaluation, which runs seldom: a short compilation before a fast program.

    Without its fusion emitters, XLA's CPU backend takes two thirds of the time and makes an update a bit slower.
    """
    return {"xla_backend_optimization_level": 1, **_short_on_cpu()}


def start_options() -> dict[str, Any]:
    """Compiler options of the start, which runs once."""
    return {"xla_backend_optimization_level": 0, **_short_on_cpu()}


def _short_on_cpu() -> dict[str, Any]:
    # XLA refuses an option that it does not know, and jaxlib 0.11 has this one no more.
    has_option = jax.default_backend() == "cpu" and jaxlib.__version__.startswith("0.10.")
    return {"xla_cpu_use_fusion_emitters": False} if has_option else {}


class Programs(NamedTuple):
    """The compiled programs of a run, over [S, ...] arrays on the mesh, and the columns they fill."""

    init: Any  # keys -> state
    update: Any  # (state, is_whole) -> (state, is_whole, metrics), see `guarded`
    evaluation: Future[Any]  # of (state, keys) -> episodes [S, E]; BadInput where it does not fit into memory
    columns: list[str]


def guarded(update: Callable) -> Callable:
    """An update after which a seed whose metrics or parameters are not finite is as it was before, for good.

    Its stream of experience goes on, for it costs nothing and copying it might; nothing is learnt from it.

    Args:
        update: state -> (state, metrics).

    Returns:
        (state, is_whole) -> (state, is_whole, metrics); is_whole: bool, false from the first such update on.
    """

    def guarded_update(state: Any, is_whole: jax.Array) -> tuple[Any, jax.Array, dict[str, jax.Array]]:
        new, update_metrics = update(state)
        ended = update_metrics["episodes"] > 0  # else episode_* are NaN and no fault
        measured = [
            jnp.where(ended, value, 0.0) if name.startswith(metrics.EPISODE) else value
            for name, value in update_metrics.items()
        ]
        finite = [jnp.isfinite(x).all() for x in jax.tree.leaves((measured, new.params))]
        is_whole &= jnp.stack(finite).all()
        learnt = [each.name for each in dataclasses.fields(new) if each.name not in ("stream", "key", "update")]
        kept = {
            name: jax.tree.map(lambda a, b: jnp.where(is_whole, a, b), getattr(new, name), getattr(state, name))
            for name in learnt
        }
        return new.replace(**kept), is_whole, update_metrics

    guarded_update.__name__ = "update"  # in profiles and in what is said of compilations
    return guarded_update


def compile_programs(trainer: Any, config: Any, abstract: Any, abstract_keys: Any, mesh: Mesh) -> Programs:
    """Compiles update, start and evaluation, each once for the whole run, and says how long the first two took.

    The update takes over the buffers of the state it is given; the evaluation leaves them as they are. While XLA
    compiles one program the next is traced; the update comes first, for it is the largest. The evaluation comes
    last; on CPU it is compiled while the first updates of a new run go on.

    Args:
        trainer: the Trainer.
        config: its Config.
        abstract: the state of all seeds, each leaf a jax.ShapeDtypeStruct [S, ...] with its sharding.
        abstract_keys: the same for the typed keys [S].
        mesh: devices the seeds and their environments lie on.

    Raises:
        BadInput: the update does not fit into memory.
    """
    sharding = devices.seed_sharding(mesh)
    state_sharding = jax.tree.map(lambda x: x.sharding, abstract)
    begin = time.monotonic()
    seconds = {}

    def evaluate(state: Any, key: jax.Array) -> Any:
        return trainer.evaluate(state, key, DETERMINISTIC)

    def lower(fn: Any, *args: Any, out: Any, donate: tuple[int, ...] = ()) -> Any:
        program = jax.jit(devices.over_seeds(fn, mesh), donate_argnums=donate, out_shardings=out)
        return program.lower(*args)

    def compile_update(lowered: Any) -> Any:
        compiled = lowered.compile()
        seconds["update"] = time.monotonic() - begin
        footprint.check(compiled, config, mesh, state=abstract)
        return compiled

    def compile_start(lowered: Any, since: float) -> Any:
        compiled = lowered.compile(start_options())
        seconds["init"] = time.monotonic() - since
        return compiled

    def compile_evaluation(lowered: Any) -> Any:
        updating.result()  # whose error is this one's too
        compiled = lowered.compile(evaluation_options())
        sizes = {name: getattr(config, name) for name in ("num_seeds", "eval_episodes")}
        footprint.check(compiled, config, mesh, of="an evaluation", lowered_by=sizes, available=available)
        return compiled

    available = footprint.bytes_available(mesh)
    threads = ThreadPoolExecutor()
    try:
        is_whole = jax.ShapeDtypeStruct((config.num_seeds,), bool, sharding=sharding)
        out = (state_sharding, sharding, sharding)
        lowered = lower(guarded(trainer.update), abstract, is_whole, out=out, donate=(0,))
        _, _, update_metrics = lowered.out_info
        updating = threads.submit(compile_update, lowered)
        since = time.monotonic()
        starting = threads.submit(compile_start, lower(trainer.init, abstract_keys, out=state_sharding), since)
        lowered = lower(evaluate, abstract, abstract_keys, out=sharding)
        evaluating = threads.submit(compile_evaluation, lowered)
        update, init = updating.result(), starting.result()
    finally:
        threads.shutdown(wait=False)
    parts = ", ".join(f"{name} {seconds[name]:.1f} s" for name in ("update", "init"))
    say(f"compiled in {time.monotonic() - begin:.1f} s: {parts}")
    return Programs(init, update, evaluating, metrics.columns(update_metrics, lowered.out_info))


def _restore(checkpoints: Checkpoints, abstract: Any) -> tuple[int, Any, Any] | None:
    """(update, state of host arrays, what the report carried) of the newest checkpoint the first process has."""

    def read() -> tuple[int, Any, Any] | None:
        restored = checkpoints.restore(abstract, say)
        path = checkpoints.directory.parent
        if restored is None and checkpoints.updates():
            raise BadInput(f"resume={str(path)!r}: all its checkpoints are damaged; nothing to continue from")
        if restored is None and _had_checkpoint(path):
            raise BadInput(f"resume={str(path)!r}: its {run_dir.METRICS} has rows, but its {run_dir.CHECKPOINTS}/ "
                           "is gone; must hold a checkpoint to continue from")  # fmt: skip
        return restored

    update, state, carried = processes.on_first(read) or (0, None, None)
    update = int(processes.from_first(np.int32(update)))
    if update == 0:
        return None
    if jax.process_count() > 1:
        arrays = to_arrays(state) if processes.is_first() else empty_arrays(abstract)
        state = from_arrays(abstract, processes.from_first(arrays))
    return update, state, carried


def _had_checkpoint(path: Path) -> bool:
    """Whether a run directory without a checkpoint has lost one, rather than ended before its first.

    A checkpoint follows the first evaluation, and what is kept of updates after that one was saved with it.
    """
    directory, rows = path / run_dir.CHECKPOINTS, path / run_dir.METRICS
    if os.path.lexists(directory) and not directory.is_dir():
        return True
    if not rows.exists():
        return False
    ended, evaluated = -1.0, math.inf
    for row in metrics.read(rows):
        ended = max(ended, row["update"] or 0)
        if any(name.startswith(metrics.EVALUATION) and value is not None for name, value in row.items()):
            evaluated = min(evaluated, row["update"] or 0)
    return ended > evaluated


def _train(
    config: Any,
    trainer: Any,
    algo: str,
    path: Path,
    wandb: WandbLog | None,
    interrupts: Interrupts,
    resumed: Callable[[], None] | None,
) -> int | None:
    """Returns the number of the signal that stopped the run, None if it came to its end."""
    on_host = trainer.lives_on_host
    if on_host and jax.process_count() > 1:
        raise BadInput(f"env.id={config.env['id']!r}: must be an environment in JAX in a job of several processes")
    # Ordered callbacks are of one device.
    mesh = devices.seed_mesh(1, 1) if on_host else devices.seed_mesh(config.num_seeds, config.num_envs)
    say(devices.describe(mesh, config.num_seeds, config.num_envs, on_host))
    sharding = devices.seed_sharding(mesh)
    seed_keys = processes.placed(devices.seed_keys(config.seed, config.num_seeds), sharding)
    abstract = abstract_state(trainer, config.num_seeds)
    state_sharding = devices.state_sharding(mesh, abstract, config.num_envs)
    abstract, abstract_keys = jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        (abstract, seed_keys),
        (state_sharding, sharding),
    )
    footprint.check_before(abstract, config, mesh)

    checkpoints = Checkpoints(path / run_dir.CHECKPOINTS)
    restored = _restore(checkpoints, abstract)
    seeds = range(config.seed, config.seed + config.num_seeds)
    start = None
    if config.init_from and restored is None:
        start = processes.on_all(lambda: load_start(Path(config.init_from), abstract, seeds, say))
    programs = compile_programs(trainer, config, abstract, abstract_keys, mesh)
    if restored is None:
        if resumed is not None:
            say("there is no checkpoint yet; starting over")
        update, state, carried = 0, programs.init(seed_keys), None
        if start is not None:
            like = {name: getattr(state_sharding, name) for name in start}
            state = state.replace(**processes.placed(start, like))
    else:
        update, state, carried = restored
        state = processes.placed(state, state_sharding)
        say(f"resuming after update {update} of {trainer.num_updates}")
        interrupts.last_checkpoint = checkpoints.directory / str(update)
        if on_host:
            state = begin_episodes(state, programs.init(_keys_after(update, RESTART, seed_keys)))
    saved = update
    # What is refused leaves an earlier run as it is, and no other process alone. An accelerator may try programs
    # out while it compiles, for which it needs memory.
    if restored is not None or jax.process_count() > 1 or jax.default_backend() != "cpu":
        processes.on_all(programs.evaluation.result)

    report = Report(
        processes.on_first(
            lambda: metrics.MetricsFile(path / run_dir.METRICS, programs.columns, keep_until=update, taken=resumed)
        ),
        wandb,
        seeds=seeds,
        steps_per_update=config.num_envs * config.num_steps,
        num_updates=trainer.num_updates,
        update=update,
        carried=carried,
    )
    if processes.is_first():
        checkpoints.remove_after(update)  # once all that can refuse the directory has read it
    diverged = processes.from_first(np.array([seed in report.diverged for seed in seeds]))
    is_whole = processes.placed(~diverged, sharding)
    log_points = points(trainer.num_updates, LOG_POINTS)
    save_points = points(trainer.num_updates, SAVE_POINTS)
    title = f"{config.env['id']}, {config.core['name']} ({algo})"

    def save() -> None:
        nonlocal saved
        local = processes.local(state)
        if processes.is_first():
            checkpoints.save(report.update, local, report.carry())
        saved = report.update
        interrupts.last_checkpoint = checkpoints.directory / str(report.update)

    in_flight: deque[Any] = deque()
    agreed = 0  # the signal that stops a job of several processes, seen by all of them after the same update

    def dispatched(update_metrics: Any, is_whole: Any) -> Any:
        if jax.process_count() == 1:
            return update_metrics, is_whole, None
        return processes.gathered(
            (update_metrics, is_whole, processes.marks(mesh, interrupts.received or 0)), mesh
        )

    def fetch(at_most: int) -> None:
        """Fetches the oldest updates until `at_most` are left in flight."""
        nonlocal agreed
        while len(in_flight) > at_most:
            update_metrics, whole, marks = in_flight.popleft()
            report.add(update_metrics, whole)
            if marks is not None:
                agreed = agreed or int(np.max(marks))
            if report.update in log_points - save_points:
                report.write_rows()

    def stopped_by() -> int | None:
        return interrupts.received if jax.process_count() == 1 else agreed or None

    # With environments on the host an update can take minutes: it is given up rather than waited for.
    interrupts.can_save = not on_host
    with report.bar:
        while update < trainer.num_updates and stopped_by() is None:
            state, is_whole, update_metrics = programs.update(state, is_whole)
            update += 1
            if programs.evaluation.done():
                programs.evaluation.result()  # refused as soon as that is known
            in_flight.append(dispatched(update_metrics, is_whole))
            if update in save_points:
                fetch(at_most=0)
                begin = time.monotonic()
                evaluate = programs.evaluation.result()
                report.leave_out(time.monotonic() - begin)
                evaluation = evaluate(state, jax.device_put(evaluation_keys(seed_keys, update), sharding))
                report.write_rows(processes.gathered(evaluation, mesh))
                save()
                if processes.is_first():
                    draw = functools.partial(curve.draw, path / run_dir.METRICS, path / run_dir.CURVE, title)
                    pictures.by_product(path / run_dir.CURVE, draw, say)
                report.restart_clock()
            else:
                fetch(at_most=IN_FLIGHT - 1)
        fetch(at_most=0)
        if update != saved:
            save()
    interrupts.can_save = False
    if stopped_by() is None:
        index = next(index for index, seed in enumerate(seeds) if seed not in report.diverged)
        first, key = processes.local(jax.tree.map(lambda x: x[index], (state, seed_keys)))
        if processes.is_first():
            first = jax.device_put(first, mesh.devices.flat[0])
            gif = path / run_dir.EPISODE

            def record() -> None:
                if reason := episode.record(trainer, first, jax.random.fold_in(key, EPISODE), gif):
                    say(reason)

            pictures.by_product(gif, record, say)
        if report.diverged:
            named = ", ".join(f"seed {seed} at update {at}" for seed, at in report.diverged.items())
            raise RunError(f"{path}: diverged: {named}; the other seeds are done")
        say(f"done: {path}")
    return stopped_by()
