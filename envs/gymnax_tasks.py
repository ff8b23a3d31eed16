"""gymnax's own environments as `gymnax/<id>`; their options are the scalar fields of their EnvParams.

The classic control tasks also as `gymnax/<id>-P` (only positions seen) and `-V` (only velocities), see
envs/classic_control.py, with `zero_hidden`; MountainCarContinuous with `gymnasium_wall`.
"""

import dataclasses
from typing import Any

import gymnax

from envs import classic_control
from envs.checks import check_positive

# MNISTBandit downloads its images when it is built.
_NAMES = tuple(name for name in gymnax.registered_envs if name != "MNISTBandit-bsuite")
IDS = tuple(f"gymnax/{name}" for name in _NAMES)
IDS += tuple(f"gymnax/{name}-{variant}" for name in classic_control.SHOWN for variant in ("P", "V"))

# Steps; chains show the time as a share of their length.
_COUNTS = {"max_steps_in_episode", "memory_length", "chain_length"}


def options(env_id: str) -> dict[str, Any]:
    """The numbers and flags among the fields of the environment's default EnvParams, and those of this package."""
    name, variant = _split(env_id)
    values = _defaults(name)
    if variant:
        values["zero_hidden"] = False
    if name == "MountainCarContinuous-v0":
        values["gymnasium_wall"] = False
    return values


def make(env_id: str, zero_hidden: bool = False, gymnasium_wall: bool = False, **options: Any):
    """Builds `gymnax/<id>[-P|-V]`; see `envs.make`."""
    for name in _COUNTS & options.keys():
        check_positive(f"env.{name}", options[name])
    name, variant = _split(env_id)
    env, params = gymnax.make(name)
    if gymnasium_wall:
        env = classic_control.WalledMountainCar()
    if variant:
        env = classic_control.Masked(env, variant, zero_hidden)
    return env, dataclasses.replace(params, **options)


def reference(env_id: str, **options: Any) -> dict[str, dict[str, Any]] | None:
    """Known returns of the classic control tasks with their default physics and limits; see `envs.reference`."""
    name, variant = _split(env_id)
    defaults = _defaults(name)
    if name not in classic_control.SHOWN or any(options[each] != value for each, value in defaults.items()):
        return None
    return classic_control.reference(name, variant)


def _defaults(name: str) -> dict[str, Any]:
    """gymnax's own options of gymnax's id."""
    _, params = gymnax.make(name)
    values = {field.name: getattr(params, field.name) for field in dataclasses.fields(params)}
    return {name: value for name, value in values.items() if type(value) in (bool, int, float, str)}


def _split(env_id: str) -> tuple[str, str]:
    """gymnax's id, and "P", "V" or "" (everything seen)."""
    name = env_id.removeprefix("gymnax/")
    return (name, "") if name in _NAMES else (name[:-2], name[-1])
