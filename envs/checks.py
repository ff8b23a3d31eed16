"""One-line messages for bad input: the field, the value, and what is allowed (close matches first)."""

import difflib
import re
from collections.abc import Iterable
from typing import Any

MOST_LISTED = 20  # beside close matches; a hundred names would hide those


def unknown(field: str, value: Any, name: str, allowed: Iterable[str], what: str = "known") -> str:
    """Message for a `name` that is not among `allowed`."""
    allowed = list(allowed)
    close = _close_matches(str(name), allowed)
    hint = f" (did you mean {' or '.join(close)}?)" if close else ""
    rest = [each for each in allowed if each not in close]
    if close and len(rest) > MOST_LISTED:
        return f"{field}={value!r}: not {what}{hint}; allowed: {', '.join(close)} and {len(rest)} others"
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


def _close_matches(name: str, allowed: list[str]) -> list[str]:
    """At most three of `allowed` that may be meant, the likeliest first; case and punctuation do not count."""
    plain = {each: _plain(each) for each in allowed}
    wanted = _plain(name)
    same = [each for each in allowed if plain[each] == wanted or _words(each) == _words(name)]
    if same or not wanted:
        return same[:3]
    longer = [each for each in allowed if wanted in plain[each]]
    shorter = [each for each in allowed if plain[each] and plain[each] in wanted]
    if 0 < len(longer) <= 3:
        return longer
    likeness = {each: difflib.SequenceMatcher(None, plain[each], wanted).ratio() for each in allowed}
    likeness |= {each: 1.0 for each in shorter if len(plain[each]) > len(wanted) / 2}
    likely = [each for each in allowed if likeness[each] >= 0.6]
    return sorted(likely, key=lambda each: -likeness[each])[:3]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _words(name: str) -> list[str]:
    """The words and numbers of a name like TMaze-Endless, in the alphabet's order."""
    return sorted(word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+", name))
