"""Memory cores under one contract, and the networks around them.

    core = make_core("arelit", n_layers=2)
    carry = core.initialize_carry((num_envs,))
    params = core.init(key, carry, inputs, resets)                 # inputs [T, B, D], resets [T, B] bool
    carry, outputs = core.apply(params, carry, inputs, resets)     # outputs [T, B, d]

`resets[t]` is true where `inputs[t]` starts an episode: the core clears its carry before it consumes the
input. The carry is a pytree whose leaves lead with the batch axes. One step at a time, a whole segment, or
any chunking of it give the same outputs and the same carry: to rounding, and on a GPU only under full precision of
products, which the agents ask for (`networks.precision`).
"""

import ast
import dataclasses
import difflib
import inspect
import itertools
import math
import textwrap
from typing import Any, Literal, get_args, get_origin, get_type_hints

import flax.linen as nn
import numpy as np

from networks.arelit import AReLiT
from networks.feedforward import FeedForward
from networks.ffm import FFM
from networks.frame_stack import FrameStack
from networks.gated_deltanet import GatedDeltaNet
from networks.gru import GRU
from networks.gtrxl import GTrXL
from networks.lru import LRU, S5
from networks.lstm import LSTM
from networks.mamba2 import Mamba2
from networks.memory_trace import MemoryTrace
from networks.mingru import MinGRU
from networks.mlstm import MLSTM
from networks.reference_mixers import reference_mixer
from networks.reference_params import import_reference_params
from networks.relit import ReLiT
from networks.rtu import RTU

__all__ = [
    "CORES",
    "hyperparameter_help",
    "hyperparameters",
    "import_reference_params",
    "make_core",
    "reference_mixer",
]

# To add a core: write its file, add it here. Trainers, --help and the property tests find it by this table.
CORES: dict[str, type[nn.Module]] = {
    "arelit": AReLiT,
    "relit": ReLiT,
    "gtrxl": GTrXL,
    "lstm": LSTM,
    "gru": GRU,
    "mingru": MinGRU,
    "lru": LRU,
    "s5": S5,
    "rtu": RTU,
    "ffm": FFM,
    "mamba2": Mamba2,
    "gated_deltanet": GatedDeltaNet,
    "mlstm": MLSTM,
    "frame_stack": FrameStack,
    "memory_trace": MemoryTrace,
    "feedforward": FeedForward,
}

# Whole numbers beyond these (2^16 where nothing stands) are taken for mistakes.
LARGEST = {"n_layers": 256, "r": 1024, "n_frames": 1024, "d_state": 1024}


def hyperparameters(name: str) -> dict[str, Any]:
    """The core's hyperparameters and their defaults.

    Raises:
        ValueError: unknown core.
    """
    if name not in CORES:
        close = difflib.get_close_matches(str(name), CORES, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise ValueError(f"core.name={name!r}: unknown memory core{hint}; allowed: {', '.join(CORES)}")
    fields = [field for field in dataclasses.fields(CORES[name]) if field.name not in ("parent", "name")]
    return {field.name: field.default for field in fields}


def hyperparameter_help(name: str) -> dict[str, str]:
    """The line below each hyperparameter in the core's class, or "" where there is none.

    Raises:
        ValueError: unknown core.
    """
    lines = dict.fromkeys(hyperparameters(name), "")
    classes = itertools.takewhile(lambda each: each is not nn.Module, CORES[name].__mro__)
    for each in reversed([*classes]):  # a class's own lines before those that it inherits
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        for field, line in itertools.pairwise(definition.body):
            if isinstance(field, ast.AnnAssign) and isinstance(line, ast.Expr) and field.target.id in lines:
                lines[field.target.id] = ast.literal_eval(line.value)
    return lines


def make_core(name: str, **settings: Any) -> nn.Module:
    """A memory core as a flax module; what is not given keeps the core's default.

    Raises:
        ValueError: unknown core or hyperparameter, or a value of the wrong type or out of range.
    """
    defaults = hyperparameters(name)
    hints = get_type_hints(CORES[name])
    for field, value in settings.items():
        if field not in defaults:
            close = difflib.get_close_matches(field, defaults, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise ValueError(
                f"core.{field}={value!r}: {name} has no such hyperparameter{hint}; it has: {', '.join(defaults)}"
            )
        kind = type(defaults[field])
        if kind is int and isinstance(value, np.integer):
            settings[field] = value = int(value)
        if type(value) is not kind:
            raise ValueError(f"core.{field}={value!r}: must be of type {kind.__name__}")
        largest = LARGEST.get(field, 2**16)
        if kind is int and not 1 <= value <= largest:
            raise ValueError(f"core.{field}={value}: must be from 1 to {largest}")
        if get_origin(hints[field]) is Literal and value not in get_args(hints[field]):
            allowed = ", ".join(get_args(hints[field]))
            raise ValueError(f"core.{field}={value!r}: unknown; allowed: {allowed}")
    core = CORES[name](**settings)  # has its own ranges
    for field, value in settings.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"core.{field}={value}: must be finite")
    return core
