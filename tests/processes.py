"""Watching processes end."""

import os
import time
from pathlib import Path


def gone(pid: int) -> bool:
    """Whether a process has ended; one that has but whose parent has not asked, a zombie, is gone too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until(holds, seconds: float = 10.0) -> None:
    """Waits until holds() is true.

    Raises:
        AssertionError: it has not become so in time.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def children(pid: int) -> list[int]:
    """The processes that any thread of a process has started."""
    found = set()
    for thread in os.listdir(f"/proc/{pid}/task"):
        found.update(int(word) for word in Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    return sorted(found)
