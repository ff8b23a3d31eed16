"""Processes that tests start: their virtual devices, and watching them end."""

import os
import time
from pathlib import Path


def with_devices(count: int) -> dict[str, str]:
    """Environment variables that give a process this many CPU devices, next to what tests/conftest.py sets."""
    return {"XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={count}"}


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
