"""The run loop: dispatches updates, and between them logs, evaluates, saves and listens for signals."""

import dataclasses
import shlex
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from algos.harness import curve, devices, episode, metrics, run_dir
from algos.harness.checkpoint import Checkpoints
from algos.harness.errors import BadInput, RunError
from algos.harness.report import Report, say
from algos.harness.restore import abstract_state
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


def evaluation_keys(seed_keys: jax.Array, update: int, purpose: int = EVALUATION) -> jax.Array:
    """Typed keys [S] of the evaluation after `update`: functions of seed and update only."""
    return jax.vmap(lambda key: jax.random.fold_in(jax.random.fold_in(key, purpose), update))(seed_keys)


def begin_episodes(state: Any, fresh: Any) -> Any:
    """`state` with the environments of `fresh`, which begin an episode.

    What a restored state says of environments in other processes is of no use: they have gone with the process
    that wrote it. Parameters, optimiser, statistics, counters and the keys of all further draws stay.
    """
    return state.replace(
        env_state=fresh.env_state, obs=fresh.obs, reset=fresh.reset, discounted_return=fresh.discounted_return
    )


def run(config: Any, trainer: Any, algo: str, path: Path) -> None:
    """Trains all seeds to the end, from the newest whole checkpoint in `path` or from the start.

    Args:
        config: the trainer's Config.
        trainer: what make_train(config) returned.
        algo: name of the trainer's module.
        path: the run directory, which holds config.yaml.

    Raises:
        BadInput: all checkpoints are damaged, or wandb cannot be started.
        RunError: a loss that is not finite, a file that cannot be written, or a worker process that failed.
        SystemExit: 130 or 143 after a signal, with the last checkpoint whole.
    """
    resume_command = shlex.join(["python", sys.argv[0], "--resume", str(path)])
    with Interrupts(resume_command) as interrupts:
        wandb = WandbLog(config.wandb, path, {"algo": algo, **dataclasses.asdict(config)})
        try:
            _train(config, trainer, algo, path, wandb, interrupts)
        except jax.errors.JaxRuntimeError as error:
            failure = getattr(trainer.env, "failure", None)
            if failure is None:
                raise
            last = interrupts.last_checkpoint
            hint = f"; the last checkpoint is {last}; continue with: {resume_command}" if last else ""
            raise RunError(f"env.id={config.env['id']!r}: {failure}{hint}") from error
        finally:
            wandb.finish()
    if interrupts.received is not None:
        say(f"stopped; continue with: {resume_command}")
        sys.exit(128 + interrupts.received)


def evaluation_options() -> dict[str, Any]:
    """Compiler options of the evaluation, which runs seldom: a short compilation before a fast program.

    Without its fusion emitters, XLA's CPU backend takes two thirds of the time and makes an update a bit slower.
    """
    return {"xla_backend_optimization_level": 1, **_short_on_cpu()}


def start_options() -> dict[str, Any]:
    """Compiler options of the start, which runs once."""
    return {"xla_backend_optimization_level": 0, **_short_on_cpu()}


def _short_on_cpu() -> dict[str, Any]:
    return {"xla_cpu_use_fusion_emitters": False} if jax.default_backend() == "cpu" else {}


class Programs(NamedTuple):
    """The compiled programs of a run, over [S, ...] arrays on the mesh, and the columns they fill."""

    init: Any
    update: Any
    evaluate: Any
    columns: list[str]


def compile_programs(trainer: Any, abstract: Any, abstract_keys: Any, mesh: Mesh) -> Programs:
    """Compiles start, update and evaluation, each once for the whole run, and says how long each took.

    The update takes over the buffers of the state it is given; the evaluation leaves them as they are.

    Args:
        trainer: the Trainer.
        abstract: the state of all seeds, each leaf a jax.ShapeDtypeStruct [S, ...] with its sharding.
        abstract_keys: the same for the typed keys [S].
        mesh: devices the seeds lie on.
    """
    sharding = devices.seed_sharding(mesh)
    seconds = {}

    def compile_one(fn: Any, *args: Any, donate: tuple[int, ...] = (), **options: Any) -> tuple[Any, Any]:
        begin = time.monotonic()
        program = jax.jit(devices.over_seeds(fn, mesh), donate_argnums=donate, out_shardings=sharding)
        lowered = program.lower(*args)
        compiled = lowered.compile(options)
        seconds[fn.__name__] = time.monotonic() - begin
        return compiled, lowered.out_info

    def evaluate(state: Any, key: jax.Array) -> Any:
        return trainer.evaluate(state, key, DETERMINISTIC)

    init, _ = compile_one(trainer.init, abstract_keys, **start_options())
    update, (_, update_metrics) = compile_one(trainer.update, abstract, donate=(0,))
    evaluation, evaluated = compile_one(evaluate, abstract, abstract_keys, **evaluation_options())
    parts = ", ".join(f"{name} {each:.1f} s" for name, each in seconds.items())
    say(f"compiled in {sum(seconds.values()):.1f} s: {parts}")
    return Programs(init, update, evaluation, metrics.columns(update_metrics, evaluated))


def _train(config: Any, trainer: Any, algo: str, path: Path, wandb: WandbLog, interrupts: Interrupts) -> None:
    on_host = getattr(trainer.env, "lives_on_host", False)
    mesh = devices.seed_mesh(1 if on_host else config.num_seeds)  # ordered callbacks are of one device
    say(devices.describe(mesh, config.num_seeds))
    sharding = devices.seed_sharding(mesh)
    seed_keys = jax.device_put(devices.seed_keys(config.seed, config.num_seeds), sharding)
    abstract, abstract_keys = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        (abstract_state(trainer, config.num_seeds), seed_keys),
    )

    checkpoints = Checkpoints(path / run_dir.CHECKPOINTS)
    restored = checkpoints.restore(abstract, say)
    if restored is None and checkpoints.updates():
        raise BadInput(f"resume={str(path)!r}: all its checkpoints are damaged; nothing to continue from")
    programs = compile_programs(trainer, abstract, abstract_keys, mesh)
    if restored is None:
        update, state, carried = 0, programs.init(seed_keys), None
    else:
        update, state, carried = restored
        state = jax.device_put(state, sharding)
        say(f"resuming after update {update} of {trainer.num_updates}")
        interrupts.last_checkpoint = checkpoints.directory / str(update)
        if on_host:
            state = begin_episodes(state, programs.init(evaluation_keys(seed_keys, update, RESTART)))

    report = Report(
        metrics.MetricsFile(path / run_dir.METRICS, programs.columns, keep_until=update),
        wandb,
        seeds=range(config.seed, config.seed + config.num_seeds),
        steps_per_update=config.num_envs * config.num_steps,
        num_updates=trainer.num_updates,
        update=update,
        carried=carried,
    )
    checkpoints.remove_after(update)  # once all that can refuse the directory has read it
    log_points = points(trainer.num_updates, LOG_POINTS)
    save_points = points(trainer.num_updates, SAVE_POINTS)
    title = f"{config.env['id']}, {config.core['name']} ({algo})"

    def save() -> None:
        check_parameters(state, report.update, config.seed)
        checkpoints.save(report.update, state, report.carry())
        interrupts.last_checkpoint = checkpoints.directory / str(report.update)

    in_flight: deque[Any] = deque()

    def fetch(at_most: int) -> None:
        """Fetches the oldest updates until `at_most` are left in flight."""
        while len(in_flight) > at_most:
            report.add(in_flight.popleft())
            if report.update in log_points - save_points:
                report.write_rows()

    # With environments in other processes an update can take minutes: it is given up rather than waited for.
    interrupts.can_save = not on_host
    with report.bar:
        while update < trainer.num_updates and interrupts.received is None:
            state, update_metrics = programs.update(state)
            update += 1
            in_flight.append(update_metrics)
            if update in save_points:
                fetch(at_most=0)
                report.write_rows(programs.evaluate(state, evaluation_keys(seed_keys, update)))
                save()
                curve.draw(path / run_dir.METRICS, path / run_dir.CURVE, title)
                report.restart_clock()
            else:
                fetch(at_most=IN_FLIGHT - 1)
        fetch(at_most=0)
        if update not in checkpoints.updates():
            save()
    interrupts.can_save = False
    if interrupts.received is None:
        first = jax.device_put(jax.tree.map(lambda x: x[0], state), mesh.devices.flat[0])
        episode.record(trainer, first, jax.random.fold_in(seed_keys[0], EPISODE), path / run_dir.EPISODE)
        say(f"done: {path}")


def check_parameters(state: Any, update: int, first_seed: int) -> None:
    """Raises RunError naming the seed if a parameter [S, ...] is not finite."""
    for leaf in jax.tree.leaves(state.params):
        finite = np.isfinite(np.asarray(leaf, dtype=np.float32)).reshape(leaf.shape[0], -1).all(axis=1)
        if not finite.all():
            seed = first_seed + int(finite.argmin())
            raise RunError(f"parameters of seed {seed} are not finite at update {update}")
