"""Environments: one factory, one batched form for trainers, one wrapper for memory agents.

    env, params = envs.make("brax/inverted_pendulum-P", backend="spring")     # a gymnax 1.0 Environment
    vec = envs.vectorize(env, num_envs=32, pool_size=64)                      # what trainers step

A new environment is one module with `IDS`, `options(env_id)` and `make(env_id, **options)`, and its name in
`_MODULES`; where known returns exist, also `reference(env_id, **options)`. One that is no JAX program needs no
module, see envs/host/.
"""

import importlib
import json
from typing import Any

import numpy as np

from envs import host
from envs.checks import check_choice, unknown
from envs.host.vector import HostVectorEnv
from envs.sharding import over_devices
from envs.vector import VectorEnv, VectorState
from envs.wrappers import OneHot, PreviousActionReward, one_hot

__all__ = [
    "ENV_FAMILIES",
    "ENV_IDS",
    "OneHot",
    "PreviousActionReward",
    "VectorEnv",
    "VectorState",
    "lives_on_host",
    "make",
    "one_hot",
    "options",
    "over_devices",
    "reference",
    "register",
    "vectorize",
]

# Importing one of these must stay cheap: heavy dependencies (brax) are imported when an environment is made.
_MODULES = (
    "envs.brax_tasks",
    "envs.gymnax_tasks",
    "envs.popgym",
    "envs.popgym_control",
    "envs.tmaze",
    "envs.craftax_tasks",
    "envs.mystery_path",
    "envs.minigrid_memory",
    "envs.rocksample",
    "envs.battleship",
    "envs.memory_maze",
)
_MODULE_OF = {env_id: module for module in map(importlib.import_module, _MODULES) for env_id in module.IDS}

ENV_IDS: tuple[str, ...] = tuple(_MODULE_OF)
"""Every id that `make` accepts by name."""

ENV_FAMILIES: tuple[str, ...] = host.FAMILIES
"""Forms of further ids."""


def options(env_id: str) -> dict[str, Any]:
    """Returns every option of an environment with its default value.

    Args:
        env_id: one of `ENV_IDS`, or of a form in `ENV_FAMILIES`.

    Raises:
        ValueError: the id is unknown.
    """
    return _defaults(env_id)


def make(env_id: str, **options: Any):
    """Builds an environment.

    Args:
        env_id: one of `ENV_IDS`, or of a form in `ENV_FAMILIES`.
        **options: any of `envs.options(env_id)`; those left out take their defaults.

    Returns:
        (env, env_params): a gymnax Environment and the parameters to pass to its `reset` and `step`.

    Raises:
        ValueError: an unknown id or option, or a value the environment cannot take.
    """
    return _module(env_id).make(env_id, **_complete(env_id, options))


def reference(env_id: str, **options: Any) -> dict[str, dict[str, Any] | None] | None:
    """What is known of the returns of an environment.

    Args:
        env_id: as for `make`.
        **options: as for `make`.

    Returns:
        {"random": known, "without_memory": known, "with_memory": known}: the undiscounted return of uniformly
        random actions, of the best policy that sees the current observation alone, and of the best that
        remembers. `known` is {"value": float, "mark": "exact" | "computed" | "measured" | "published",
        "note": str}, or None where nothing is known. None if nothing is known of all three.

    Raises:
        ValueError: as `make` for ids, options and their types.
    """
    values, module = _complete(env_id, options), _module(env_id)
    return module.reference(env_id, **values) if hasattr(module, "reference") else None


def lives_on_host(env) -> bool:
    """Whether an environment is no JAX program: worker processes step it."""
    return getattr(env, "lives_on_host", False)


def vectorize(env, num_envs: int, pool_size: int) -> VectorEnv | HostVectorEnv:
    """The batched form of an environment that trainers step.

    Args:
        env: what `make` returned, wrapped or not.
        num_envs: copies of it.
        pool_size: start states that a VectorEnv holds; environments of the host make their own.
    """
    return HostVectorEnv(env, num_envs) if lives_on_host(env) else VectorEnv(env, num_envs, pool_size)


def _module(env_id: str):
    """The module that knows an id."""
    if any(env_id.startswith(family.partition("<")[0]) for family in ENV_FAMILIES):
        return host
    check_choice("env.id", env_id, (*ENV_IDS, *ENV_FAMILIES))
    return _MODULE_OF[env_id]


def register(module: Any) -> None:
    """Makes environments that live outside this package known to `make` and to the trainers of this process.

    Args:
        module: anything with `IDS`, `options(env_id)` -> names and defaults, and `make(env_id, **options)` ->
            (env, params).

    Raises:
        ValueError: an id is one of this package's own. One that was registered before is replaced.
    """
    global ENV_IDS
    for env_id in module.IDS:
        if getattr(_MODULE_OF.get(env_id), "__name__", None) in _MODULES:
            raise ValueError(f"env.id={env_id!r}: must be none of this package's own")
    _MODULE_OF.update(dict.fromkeys(module.IDS, module))
    ENV_IDS = tuple(_MODULE_OF)


def _defaults(env_id: str) -> dict[str, Any]:
    return dict(_module(env_id).options(env_id))


def _complete(env_id: str, options: dict[str, Any]) -> dict[str, Any]:
    """Every option of an environment: those given, of their defaults' types, and the defaults of the others."""
    defaults = _defaults(env_id)
    for name, value in options.items():
        if name not in defaults:
            raise ValueError(unknown(f"env.{name}", value, name, defaults, what=f"an option of {env_id}"))
        options[name] = _as_type_of(defaults[name], name, value)
    return {**defaults, **options}


def _as_type_of(default: Any, name: str, value: Any) -> Any:
    """Checks that `value` is of the default's type; an int stands for a float, a tuple for a list, a dictionary
    for its JSON.
    """
    kind = type(default)
    if default == "{}" and isinstance(value, dict):
        try:
            value = json.dumps(value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"env.{name}={value!r}: must be possible in JSON; {error}") from None
    if isinstance(value, np.generic):  # numpy's own number, text or flag
        value = value.item()
    if (kind, type(value)) in ((float, int), (list, tuple)):
        value = kind(value)
    if type(value) is not kind:
        raise ValueError(f"env.{name}={value!r}: must be of type {kind.__name__}, such as {default!r}")
    in_range = abs(value) < 2**31 if kind is int else kind is not float or abs(value) < 1e38  # false for NaN
    if not in_range:
        raise ValueError(f"env.{name}={value!r}: must be a finite number of 32 bits")
    return value
