"""What a field of a Config may hold, declared beside it.

    num_envs: Count = 16
    learning_rate: Annotated[Positive, TRACED] = 3e-4

Relations between fields stand in the Config's __post_init__, after `check_fields(self)`.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, get_type_hints

TRACED = "traced"
"""Marks a field that enters a trainer's arithmetic only: no shape, branch or initialiser is built from it, so one
program trains many values of it side by side (scripts/sweep.py)."""


@dataclass(frozen=True)
class Allowed:
    """The values a field may have.

    Attributes:
        text: completes "must be ..." in an error.
        holds: whether a value is one of them.
    """

    text: str
    holds: Callable[[Any], bool]


def _is_float32(value: float) -> bool:
    return value == 0 or 1e-37 < abs(value) < 1e38  # false for NaN


_FLOAT32 = Allowed("a finite number within the range of float32", _is_float32)

Seed = Annotated[int, Allowed("from 0 to 2^31 - 1", lambda value: 0 <= value < 2**31)]
Count = Annotated[int, Allowed("from 1 to 2^20", lambda value: 1 <= value <= 2**20)]
Steps = Annotated[int, Allowed("from 1 to 10^15", lambda value: 1 <= value <= 10**15)]
Sizes = Annotated[
    tuple[int, ...], Allowed("all from 1 to 2^16", lambda sizes: all(1 <= size <= 2**16 for size in sizes))
]
Positive = Annotated[float, _FLOAT32, Allowed("greater than 0", lambda value: value > 0)]
NonNegative = Annotated[float, _FLOAT32, Allowed("at least 0", lambda value: value >= 0)]
NonNegativeOrNone = Annotated[
    float | None,
    Allowed(
        "a finite number within the range of float32, or None", lambda value: value is None or _is_float32(value)
    ),
    Allowed("at least 0, or None", lambda value: value is None or value >= 0),
]
Fraction = Annotated[float, _FLOAT32, Allowed("from 0 to 1", lambda value: 0 <= value <= 1)]
Environment = Annotated[dict[str, Any], Allowed("a dictionary with 'id'", lambda options: "id" in options)]
Core = Annotated[dict[str, Any], Allowed("a dictionary with 'name'", lambda options: "name" in options)]


def require(holds: bool, name: str, value: Any, allowed: str) -> None:
    """Raises ValueError with one line that names the field, its value and what is allowed, unless it holds."""
    if not holds:
        raise ValueError(f"{name}={value}: must be {allowed}")


def check_fields(config: Any) -> None:
    """Raises ValueError for the first field of a Config that holds what its declaration does not allow."""
    Config: Any = type(config)
    for name, metadata in _declared(Config).items():
        for allowed in metadata:
            if isinstance(allowed, Allowed):
                value = getattr(config, name)
                require(allowed.holds(value), name, value, allowed.text)


def traced_fields(Config: type) -> tuple[str, ...]:
    """The names of the fields that are marked TRACED."""
    return tuple(name for name, metadata in _declared(Config).items() if TRACED in metadata)


@functools.cache
def _declared(Config: Any) -> dict[str, tuple]:
    """The metadata of every annotated field, in the Config's order."""
    hints = get_type_hints(Config, include_extras=True)
    return {name: hint.__metadata__ for name, hint in hints.items() if hasattr(hint, "__metadata__")}
