"""A run directory back as trainer and state."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax

import algos
from algos.harness import devices, run_dir
from algos.harness.checkpoint import Checkpoints
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


def load_run(path: str | Path, report: Callable[[str], None] = print, **changes: Any) -> LoadedRun:
    """Loads the newest whole checkpoint of a run.

    Args:
        path: the run directory.
        report: called with a line for every damaged checkpoint that is passed over.
        **changes: fields of the Config to replace that do not change the state, such as eval_episodes.

    Raises:
        BadInput: no run, no whole checkpoint, or a field out of range.
    """
    path, field = Path(path), "run_dir"
    algo = run_dir.read_config(path, field)["algo"]
    if algo not in algos.TRAINERS:
        raise BadInput(f"{field}={str(path)!r}: its algo={algo!r} is no trainer of algos/")
    module = algos.TRAINERS[algo]
    config = run_dir.load_config(path, module.Config, algo, field)
    try:
        config = replace(config, **changes)
        trainer = module.make_train(config)
    except ValueError as error:
        raise BadInput(str(error)) from error
    restored = Checkpoints(path / run_dir.CHECKPOINTS).restore(abstract_state(trainer, config.num_seeds), report)
    if restored is None:
        raise BadInput(f"{field}={str(path)!r}: holds no whole checkpoint")
    update, state, _ = restored
    return LoadedRun(algo, config, trainer, state, update)
