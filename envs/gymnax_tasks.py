"""gymnax's own environments as `gymnax/<id>`; their options are the scalar fields of their EnvParams."""

import dataclasses
from typing import Any

import gymnax

from envs.checks import check_positive

# MNISTBandit downloads its images when it is built.
IDS = tuple(f"gymnax/{name}" for name in gymnax.registered_envs if name != "MNISTBandit-bsuite")

# Steps; chains show the time as a share of their length.
_COUNTS = {"max_steps_in_episode", "memory_length", "chain_length"}


def options(env_id: str) -> dict[str, Any]:
    """The numbers and flags among the fields of the environment's default EnvParams."""
    _, params = gymnax.make(env_id.removeprefix("gymnax/"))
    values = {field.name: getattr(params, field.name) for field in dataclasses.fields(params)}
    return {name: value for name, value in values.items() if type(value) in (bool, int, float, str)}


def make(env_id: str, **options: Any):
    """Builds `gymnax/<id>`; see `envs.make`."""
    for name in _COUNTS & options.keys():
        check_positive(f"env.{name}", options[name])
    env, params = gymnax.make(env_id.removeprefix("gymnax/"))
    return env, dataclasses.replace(params, **options)
