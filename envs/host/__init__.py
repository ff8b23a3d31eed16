"""Environments that are no JAX programs, inside the compiled trainers: gymnasium, dm_env, and the like.

    env, params = envs.make("gymnasium/CartPole-v1")
    env, params = envs.make("gymnasium/my_package:MyEnv-v0")       # registered when my_package is imported
    env, params = envs.make("host/my_package.my_module:make_env")  # a function that returns an environment

Worker processes step them; the compiled program calls out once a step, for all environments of all seeds.
Observations must be one array (a dm_env dictionary is joined to one), actions one number or a vector of floats.
A dm_env environment cannot be seeded, so its function must take `seed`.
"""

import sys
from typing import Any

from envs.checks import check_positive
from envs.host.environment import HostEnvironment, HostParams, HostState
from envs.host.pool import Pool, WorkerError, default_workers
from envs.host.vector import HostVectorEnv

__all__ = ["HostEnvironment", "HostParams", "HostState", "HostVectorEnv", "Pool", "WorkerError", "connect"]

FAMILIES = ("gymnasium/<id>", "host/<module>:<function>")
IDS = ()

# Seconds without a sign of life after which a worker counts as hanging.
OPTIONS = {"workers": 0, "timeout_s": 60.0}


def options(env_id: str) -> dict[str, Any]:
    """`max_steps_in_episode` is the time limit in steps, at most the environment's own, which 0 stands for;
    `workers` are processes at most, 0 as many as there are cores for; `timeout_s` is how long a single reset or
    step may take.
    """
    return {"max_steps_in_episode": 0, **OPTIONS}


def make(env_id: str, **options: Any):
    """Builds an environment of one of `FAMILIES`; see `envs.make`."""
    family, _, name = env_id.partition("/")
    factory, kwargs = ("gymnasium:make", {"id": name}) if family == "gymnasium" else (name, {})
    if ":" not in factory:
        raise ValueError(f"env.id={env_id!r}: must name a module and a function, as in {FAMILIES[1]}")
    try:
        return connect(env_id, factory, kwargs, **options)
    except WorkerError as error:
        raise ValueError(f"env.id={env_id!r}: {str(error).splitlines()[0]}") from error


def connect(
    env_id: str,
    factory: str,
    kwargs: dict[str, Any],
    max_steps_in_episode: int,
    workers: int,
    timeout_s: float,
    environment: dict[str, str] | None = None,
):
    """(HostEnvironment, its parameters) of what factory(**kwargs) makes in worker processes; see `Pool`.

    Raises:
        ValueError: an option out of range.
        WorkerError: the environment cannot be made.
    """
    if not sys.platform.startswith("linux"):
        raise ValueError(f"env.id={env_id!r}: environments outside JAX need Linux")
    check_positive("env.max_steps_in_episode", max_steps_in_episode or 1)
    if workers < 0:
        raise ValueError(f"env.workers={workers}: must be at least 0")
    if timeout_s <= 0:
        raise ValueError(f"env.timeout_s={timeout_s}: must be greater than 0")
    pool = Pool(factory, kwargs, workers or default_workers(), timeout_s, environment)
    try:
        env = HostEnvironment(env_id, pool, max_steps_in_episode)
    except ValueError:
        pool.close()
        raise
    return env, env.default_params
