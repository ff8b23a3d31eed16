"""One-line messages for bad input: the field, the value, and what is allowed (close matches first)."""

import difflib
from collections.abc import Iterable
from typing import Any


def unknown(field: str, value: Any, name: str, allowed: Iterable[str], what: str = "known") -> str:
    """Message for a `name` that is not among `allowed`."""
    allowed = list(allowed)
    close = difflib.get_close_matches(str(name), allowed, n=3, cutoff=0.5)
    hint = f" (did you mean {' or '.join(close)}?)" if close else ""
    rest = [each for each in allowed if each not in close]
    return f"{field}={value!r}: not {what}{hint}; allowed: {', '.join(close + rest) or 'nothing'}"


def check_choice(field: str, value: Any, allowed: Iterable[str]) -> None:
    """Raises ValueError if `value` is not one of `allowed`."""
    allowed = list(allowed)
    if value not in allowed:
        raise ValueError(unknown(field, value, value, allowed))


def check_positive(field: str, value: int) -> None:
    """Raises ValueError if the count `value` is not at least 1."""
    if value < 1:
        raise ValueError(f"{field}={value!r}: must be at least 1")
