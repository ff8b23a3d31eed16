"""Trainers, one file each, and what they share: presets.py and harness/."""

import functools
import importlib
import pkgutil
from types import ModuleType

from algos.harness import jax_variables  # noqa: F401  # before trainers and environments, which start JAX


@functools.cache
def _trainers() -> dict[str, ModuleType]:
    names = [each.name for each in pkgutil.iter_modules(__path__) if not each.ispkg]
    modules = {name: importlib.import_module(f"algos.{name}") for name in names}
    return {name: module for name, module in modules.items() if hasattr(module, "Config")}


def __getattr__(name: str) -> dict[str, ModuleType]:
    """`algos.TRAINERS`: every module here that has a Config, by its name; imported when it is first asked for."""
    if name != "TRAINERS":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _trainers()
