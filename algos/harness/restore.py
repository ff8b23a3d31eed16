"""A run directory back as trainer and state."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

import algos
from algos.harness import cli, devices, run_dir
from algos.harness.checkpoint import Checkpoints, from_arrays, named
from algos.harness.errors import BadInput


class LoadedRun(NamedTuple):
    """What a run directory holds.

    Attributes:
        algo: name of the trainer's module in `algos`.
        config: its Config.
        trainer: make_train(config).
        state: RunnerState of all seeds as host arrays, each leaf [S, ...].
        update: updates done.
    """

    algo: str
    config: Any
    trainer: Any
    state: Any
    update: int

    def of_seed(self, seed: int | None) -> tuple[int, Any]:
        """(seed, its RunnerState without the axis of seeds); None: the run's first. BadInput if it has no such."""
        first, count = self.config.seed, self.config.num_seeds
        seed = first if seed is None else seed
        if not first <= seed < first + count:
            raise BadInput(f"seed={seed}: must be one of the run's, from {first} to {first + count - 1}")
        return seed, jax.tree.map(lambda leaf: leaf[seed - first], self.state)


def abstract_state(trainer: Any, num_seeds: int) -> Any:
    """The RunnerState of all seeds as jax.ShapeDtypeStructs, each leaf [S, ...]; nothing is computed."""
    return jax.eval_shape(jax.vmap(trainer.init), jax.eval_shape(lambda: devices.seed_keys(0, num_seeds)))


def load_start(path: Path, abstract: Any, seeds: Sequence[int], report: Callable[[str], None]) -> Any:
    """The parameters and observation statistics of another run, for a new one to start from.

    Every seed starts from the same seed of the other run, or all from its only one.

    Args:
        path: the other run's directory.
        abstract: RunnerState of all seeds of the new run, leaves jax.ShapeDtypeStruct [S, ...].
        seeds: of the new run.
        report: called with a line for every damaged checkpoint that is passed over.

    Returns:
        {"params": ..., "obs_statistics": ...}, host arrays [S, ...].

    Raises:
        BadInput: no run, no whole checkpoint, other seeds, or arrays of other shapes.
    """
    field = f"init_from={str(path)!r}"
    stored = run_dir.read_config(path, "init_from")
    first, count = (_whole(stored, name, least, field) for name, least in (("seed", 0), ("num_seeds", 1)))
    theirs = range(first, first + count)
    if len(theirs) == 1:
        places = [0] * len(seeds)
    elif missing := [seed for seed in seeds if seed not in theirs]:
        raise BadInput(f"{field}: holds seeds {theirs[0]} to {theirs[-1]}, not seed {missing[0]}; "
                       "must hold the seeds of this run, or a single one")  # fmt: skip
    else:
        places = [seed - theirs[0] for seed in seeds]
    wanted = {"params": abstract.params, "obs_statistics": abstract.obs_statistics}
    arrays = Checkpoints(path / run_dir.CHECKPOINTS).newest_arrays(report)
    if arrays is None:
        raise BadInput(f"{field}: holds no whole checkpoint")
    for name, leaf in named(wanted).items():
        if name in arrays and arrays[name].shape[:1] != (count,):
            raise BadInput(f"{field}: {run_dir.CONFIG}: num_seeds={count}: must be as in its checkpoint, where "
                           f"{name} is {arrays[name].shape}")  # fmt: skip
        found = arrays[name].shape[1:] if name in arrays else "nothing"
        if found != leaf.shape[1:]:
            raise BadInput(f"{field}: has {found} for {name}, this run {leaf.shape[1:]}; the sizes of "
                           "observations, actions and agent must be equal")  # fmt: skip
    return from_arrays(wanted, {name: arrays[name][places] for name in named(wanted)})


def _whole(stored: dict[str, Any], name: str, least: int, field: str) -> int:
    """A whole number of a configuration that is of whatever trainer."""
    if name not in stored:
        raise BadInput(f"{field}: {run_dir.CONFIG} lacks the field {name}")
    value = run_dir.whole_number(stored[name])
    if value is None or not least <= value < 2**31:
        raise BadInput(f"{field}: {run_dir.CONFIG}: {name}={stored[name]!r}: must be an integer from {least} to "
                       f"{2**31 - 1}")  # fmt: skip
    return value


def load_run(path: str | Path, report: Callable[[str], None] = print, env_flags: Sequence[str] = ()) -> LoadedRun:
    """Loads the newest whole checkpoint of a run.

    Args:
        path: the run directory.
        report: called with a line for every damaged checkpoint that is passed over.
        env_flags: other options of the environment, as --env.<option> flags; `config` and `trainer` of the result
            are with them, and `state` is good for what acts, not for going on with the training.

    Raises:
        BadInput: no run, no whole checkpoint, or an option that is unknown or out of range.
    """
    field = "run_dir"
    if str(path) == "":
        raise BadInput(f"{field}='': must be a run directory")
    path = cli.user_path(str(path))
    algo = run_dir.read_config(path, field)["algo"]
    if algo not in algos.TRAINERS:
        raise BadInput(f"{field}={str(path)!r}: its algo={algo!r} is no trainer of algos/")
    module = algos.TRAINERS[algo]
    config = run_dir.load_config(path, module.Config, algo, field)
    changed = cli.with_env_flags(config, algo, env_flags)
    try:
        trainer, played = module.make_train(config), module.make_train(changed)
    except ValueError as error:
        raise BadInput(str(error)) from error
    _check_sizes(trainer, played)
    restored = Checkpoints(path / run_dir.CHECKPOINTS).restore(abstract_state(trainer, config.num_seeds), report)
    if restored is None:
        raise BadInput(f"{field}={str(path)!r}: holds no whole checkpoint")
    update, state, _ = restored
    return LoadedRun(algo, changed, played, state, update)


def _check_sizes(trainer: Any, played: Any) -> None:
    """Raises BadInput where another environment's observations or actions do not fit the agent."""
    for name in ("observation_space", "action_space"):
        ours, theirs = (getattr(each.env, name)(each.env_params) for each in (trainer, played))
        sizes = [(each.shape, getattr(each, "n", None)) for each in (ours, theirs)]
        if sizes[0] != sizes[1]:
            raise BadInput(
                f"env: its {name.replace('_', ' ')} is {sizes[1]} with these options, {sizes[0]} in the run"
            )
