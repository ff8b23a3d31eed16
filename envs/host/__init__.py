"""Environments that are no JAX programs, inside the compiled trainers: gymnasium, dm_env, and the like.

    env, params = envs.make("gymnasium/CartPole-v1")
    env, params = envs.make("gymnasium/my_package:MyEnv-v0")       # registered when my_package is imported
    env, params = envs.make("host/my_package.my_module:make_env")  # a function that returns an environment
    env, params = envs.make("host//home/me/task.py:make_env", kwargs='{"size": 9}')  # ... in a file; its arguments

Worker processes step them; the compiled program calls out once per step, for all environments of all seeds.
Modules are found in the working directory and on Python's path, files as `python /home/me/task.py` finds what it
imports. Observations that are no array are joined to one, as gymnasium's `flatten` does; actions are one number or
an array of floats, and step() receives them in its own space's type and within its bounds. The global generators
of NumPy and Python are seeded, and each environment's own. A dm_env environment cannot be seeded, so its function
must take `seed`.
"""

import json
import sys
from typing import Any

from envs.checks import check_positive
from envs.host.environment import HostEnvironment, HostParams, HostState
from envs.host.vector import HostVectorEnv
from envs.host.workers import NoPicture, WorkerError, Workers, default_workers

__all__ = [
    "HostEnvironment",
    "HostParams",
    "HostState",
    "HostVectorEnv",
    "NoPicture",
    "WorkerError",
    "Workers",
    "connect",
]

FAMILIES = ("gymnasium/<id>", "host/<module>:<function>")
IDS = ()

# Seconds without a sign of life after which a worker counts as hanging.
OPTIONS = {"workers": 0, "timeout_s": 60.0}


def options(env_id: str) -> dict[str, Any]:
    """`max_steps_in_episode` is the time limit in steps, at most the environment's own, which 0 stands for;
    `kwargs` is a JSON object of arguments, for gymnasium.make or the function; `workers` are processes at most, 0
    as many as there are cores for; `timeout_s` is how long a single reset or step may take.
    """
    return {"max_steps_in_episode": 0, "kwargs": "{}", **OPTIONS}


def make(env_id: str, kwargs: str, **options: Any):
    """Builds an environment of one of `FAMILIES`; see `envs.make`."""
    family, _, name = env_id.partition("/")
    arguments = _arguments(kwargs)
    if family == "gymnasium":
        factory, arguments = "gymnasium:make", {"id": name, **arguments}
    else:
        factory = name
    if ":" not in factory:
        raise ValueError(f"env.id={env_id!r}: must name a module and a function, as in {FAMILIES[1]}")
    try:
        return connect(env_id, factory, arguments, **options)
    except WorkerError as error:
        raise ValueError(f"env.id={env_id!r}: {str(error).splitlines()[0]}") from error


def _arguments(text: str) -> dict[str, Any]:
    """The arguments that a JSON object names."""
    try:
        arguments = json.loads(text)
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict) or "id" in arguments:
        raise ValueError(f"env.kwargs={text!r}: must be a JSON object without 'id', such as '{{\"size\": 9}}'")
    return arguments


def connect(
    env_id: str,
    factory: str,
    kwargs: dict[str, Any],
    max_steps_in_episode: int,
    workers: int,
    timeout_s: float,
    variables: dict[str, str] | None = None,
):
    """(HostEnvironment, its parameters) of what factory(**kwargs) makes in worker processes; see `Workers`.

    Raises:
        ValueError: an option out of range.
        WorkerError: the environment cannot be made.
    """
    if not sys.platform.startswith("linux"):
        raise ValueError(f"env.id={env_id!r}: environments that are no JAX programs need Linux")
    check_positive("env.max_steps_in_episode", max_steps_in_episode or 1)
    if workers < 0:
        raise ValueError(f"env.workers={workers}: must be at least 0")
    if timeout_s <= 0:
        raise ValueError(f"env.timeout_s={timeout_s}: must be greater than 0")
    processes = Workers(factory, kwargs, workers or default_workers(), timeout_s, variables)
    try:
        env = HostEnvironment(env_id, processes, max_steps_in_episode)
    except ValueError:
        processes.close()
        raise
    return env, env.default_params
