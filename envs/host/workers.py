"""Worker processes that step environments of the host, with everything large in shared memory.

A worker is started as a program of its own, neither forked from a process with JAX's threads nor a second
import of the caller's main module. Shared memory is a file without a name, and workers watch a pipe that closes
with this process: however it ends, the kernel leaves neither processes nor memory behind.
"""

import itertools
import mmap
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping
from dataclasses import asdict
from multiprocessing import reduction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from envs.host import worker
from envs.host.worker import Spec

WORKER = Path(worker.__file__).resolve()

# A worker is one of several and steps one environment at a time: more threads only get in each other's way, and
# more arenas keep freed memory. What a frame needs for a moment is kept for the next, what a reset frees is not.
VARIABLES = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TRIM_THRESHOLD_": str(2**25),
    "MALLOC_MMAP_THRESHOLD_": str(2**23),
}

START_UP_S = 120.0  # imports can take long on a busy machine, and are no measure of a step


class WorkerError(RuntimeError):
    """A worker raised, died or hung, or an action is none; all workers are gone. The first line says why."""


class NoPicture(RuntimeError):
    """An environment draws no frame of itself, and the line says why; everything else goes on."""


class Workers:
    """Worker processes for environments of one kind.

    Args:
        factory: what makes an environment: "module:attribute" or "/a/file.py:attribute", called with `kwargs`.
            It returns a gymnasium environment, or a dm_env one if it also takes `seed`.
        kwargs: of the factory; picklable.
        max_workers: processes at most.
        timeout: seconds without a sign of life from a worker after which it counts as hanging: more than the
            longest single reset or step takes. Start-up, with imports and a first environment, has at least
            `START_UP_S`.
        variables: of the workers' operating system, besides this process's own.
    """

    def __init__(
        self,
        factory: str,
        kwargs: Mapping[str, Any],
        max_workers: int,
        timeout: float,
        variables: Mapping[str, str] | None = None,
    ):
        self._factory, self._kwargs = factory, dict(kwargs)
        self._max_workers, self._timeout = max_workers, timeout
        self._start_up_timeout = max(timeout, START_UP_S)
        self._variables = os.environ | VARIABLES | dict(variables or {})
        self._started: list[tuple[subprocess.Popen, Connection]] = []
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self.broken: str | None = None
        """Why the workers are gone; None as long as they work."""
        self._lifeline, self._write_end = os.pipe()
        self._close = weakref.finalize(self, _shut_down, self._started, (self._lifeline, self._write_end))
        self.max_steps = 0
        (first,) = self._start(1)
        self._send(first, "describe")
        self.spec = Spec(**self._receive(first, self._start_up_timeout))

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that have been started."""
        return [process.pid for process, _ in self._started]

    def open(self, num_envs: int, restarts: bool, drawn: bool = False) -> "Group":
        """Makes a group of environments, spread over the workers; reset it before stepping.

        Args:
            num_envs: N.
            restarts: whether the next episode begins where one has ended.
            drawn: whether frames of them will be asked for.
        """
        return Group(self, num_envs, restarts, drawn, next(self._numbers))

    def limit(self, max_steps: int) -> None:
        """Sets the number of steps after which episodes are truncated; before any group is opened."""
        self.max_steps = max_steps
        self._ask(range(len(self._started)), "limit", asdict(self.spec), max_steps)

    def fail(self, reason: str, details: str = "") -> NoReturn:
        """Ends the workers.

        Args:
            reason: one line, for `broken`.
            details: more lines for the error.

        Raises:
            WorkerError: always.
        """
        self.broken = reason
        self._close()
        raise WorkerError(f"{reason}\n{details}".rstrip())

    def close(self) -> None:
        """Ends the workers."""
        self.broken = self.broken or "closed by its owner"
        self._close()

    # --------------------------------------------------------------------------------------------------------

    def _start(self, count: int) -> list[int]:
        """Starts workers until there are `count`, or as many as allowed; returns the numbers of all of them."""
        new = range(len(self._started), min(count, self._max_workers))
        for _ in new:
            ours, theirs = socket.socketpair()
            with theirs:
                process = subprocess.Popen(
                    [sys.executable, str(WORKER), str(theirs.fileno()), str(self._lifeline)],
                    pass_fds=(theirs.fileno(), self._lifeline),
                    env=self._variables,
                    stdin=subprocess.DEVNULL,
                    stdout=2,  # what environments print is not this program's output
                    process_group=0,  # a terminal's Ctrl-C goes to its process group: not to workers that start
                )
            self._started.append((process, Connection(ours.detach())))
        path = [entry or os.getcwd() for entry in sys.path]
        for number in new:
            self._send(number, "configure", number, path, self._factory, self._kwargs)
        for number in new:
            self._receive(number, self._start_up_timeout)
        if new and new[0] > 0:  # the first one describes the environment; the others are told
            self._ask(new, "limit", asdict(self.spec), self.max_steps)
        return list(range(min(count, len(self._started))))

    def _ask(self, numbers, command: str, *arguments: Any) -> list[Any]:
        for number in numbers:
            self._send(number, command, *arguments)
        return self._gather(numbers)

    def _send(self, number: int, *command: Any) -> None:
        if self.broken:
            raise WorkerError(self.broken)
        try:
            self._started[number][1].send_bytes(pickle.dumps(command))
        except OSError:
            self._fail_dead(number)

    def _send_handle(self, number: int, descriptor: int) -> None:
        process, connection = self._started[number]
        try:
            reduction.send_handle(connection, descriptor, process.pid)
        except OSError:
            self._fail_dead(number)

    def _gather(self, numbers, beats: np.ndarray | None = None) -> list[Any]:
        """The answers of these workers; `beats` [workers] counts their signs of life."""
        return [self._receive(number, self._timeout, beats) for number in numbers]

    def _receive(self, number: int, timeout: float, beats: np.ndarray | None = None) -> Any:
        process, connection = self._started[number]
        seen, deadline = -1, time.monotonic() + timeout
        try:
            while not connection.poll(min(timeout, 1.0)):
                if beats is not None and beats[number] != seen:
                    seen, deadline = beats[number], time.monotonic() + timeout
                elif time.monotonic() > deadline:
                    name = f"worker {number} (process {process.pid})"
                    self.fail(f"{name} gave no sign of life for {timeout:g} s")
            status, *answer = pickle.loads(connection.recv_bytes())
        except (EOFError, ConnectionResetError):
            self._fail_dead(number)
        if status == "error":
            self.fail(f"worker {number} raised {answer[0]}", answer[1])
        return answer[0]

    def _fail_dead(self, number: int) -> NoReturn:
        process = self._started[number][0]
        try:
            code = process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            code = "unknown"
        self.fail(f"worker {number} (process {process.pid}) died, exit code {code}")


class Group:
    """Environments that are stepped together, one episode after another or, without restarts, one each.

    Made by `Workers.open`. One call at a time: a step writes its actions to, and reads its results from, the
    memory of all steps.
    """

    def __init__(self, workers: Workers, num_envs: int, restarts: bool, drawn: bool, number: int):
        self.num_envs = num_envs
        self._workers, self._number = workers, number
        with workers._lock:
            self._serving = serving = workers._start(num_envs)  # numbers of the workers that have a part
            places, size = worker.shared_arrays(workers.spec, num_envs, len(serving))
            descriptor = os.memfd_create("environments")
            try:
                os.ftruncate(descriptor, size)
                self._arrays = worker.views(mmap.mmap(descriptor, size), places)
                self._parts = np.array_split(np.arange(num_envs), len(serving))
                for each, part in zip(serving, self._parts, strict=True):
                    workers._send(each, "open", number, part.tolist(), restarts, drawn, num_envs, len(serving))
                    workers._send_handle(each, descriptor)
                workers._gather(serving)
            finally:
                os.close(descriptor)

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        """Begins an episode in every environment, from seeds int [N]; returns observations [N, ...]."""
        self._arrays["seed"][:] = seeds
        self._tell("reset")
        return self._arrays["obs"].copy()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, ...]:
        """Takes a step in every environment.

        Args:
            actions: [N, ...].

        Returns:
            (final_obs, obs, reward, terminated, truncated), all [N, ...]: `final_obs` is what the step led to,
            `obs` what the environment shows now, which is the next episode's start where one has begun.
        """
        self._arrays["action"][:] = actions
        self._tell("step")
        shared = self._arrays
        ends = (shared["terminated"].astype(bool), shared["truncated"].astype(bool))
        return shared["final_obs"].copy(), shared["obs"].copy(), shared["reward"].copy(), *ends

    def frame(self, index: int) -> np.ndarray:
        """What environment `index` of a drawn group looks like now, uint8 [height, width, 3].

        Raises:
            NoPicture: it cannot be drawn.
        """
        (number,) = (each for each, part in zip(self._serving, self._parts, strict=True) if index in part)
        with self._workers._lock:
            ((image, why),) = self._workers._ask([number], "frame", self._number, index)
        if image is None:
            raise NoPicture(why)
        return image

    def close(self) -> None:
        """Closes the environments; the workers stay."""
        self._tell("close")

    def _tell(self, command: str) -> None:
        with self._workers._lock:
            for each in self._serving:
                self._workers._send(each, command, self._number)
            self._workers._gather(self._serving, self._arrays["beats"])


def _shut_down(workers: list[tuple[subprocess.Popen, Connection]], lifeline: tuple[int, int]) -> None:
    """Ends the workers: politely, and after a second for good."""
    for _, connection in workers:
        try:
            connection.send_bytes(pickle.dumps(("exit",)))
        except OSError:
            pass  # it is gone already
        connection.close()
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline and any(process.poll() is None for process, _ in workers):
        time.sleep(0.005)
    for process, _ in workers:
        process.kill()
        process.wait()
    for descriptor in lifeline:
        os.close(descriptor)


def default_workers() -> int:
    """All cores but one, which runs the JAX program; two at least, for while they work it waits."""
    return max(2, len(os.sched_getaffinity(0)) - 1)
