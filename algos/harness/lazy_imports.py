"""Modules that gymnax imports to draw with: loaded when first used, for they take half the time of its import."""

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

DRAWING = ("matplotlib.pyplot", "seaborn")


class Unloaded(ModuleType):
    """Stands for a module until one of its attributes is asked for, then lets that one take its place."""

    def __getattr__(self, name: str) -> Any:
        if name in ("__file__", "__wrapped__"):  # who looks through sys.modules for them does not want it
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            sys.modules.pop(self.__name__, None)
        return getattr(importlib.import_module(self.__name__), name)


for drawing in DRAWING:
    if drawing not in sys.modules and importlib.util.find_spec(drawing.partition(".")[0]) is not None:
        sys.modules[drawing] = Unloaded(drawing)
