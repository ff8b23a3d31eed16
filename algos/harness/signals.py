"""Ctrl-C, SIGTERM and the like: the first asks the run to save and stop, the second stops it at once."""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
"""Of a person, of a scheduler that ends a job, of one that warns first (sbatch --signal), of a closed terminal."""
STOPPED = tuple(128 + number for number in SIGNALS)
"""Exit codes of a run that a signal has stopped."""


def _answered() -> tuple[signal.Signals, ...]:
    """The signals to answer: not SIGHUP where nohup had it ignored."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return tuple(each for each in SIGNALS if not (ignored and each is signal.SIGHUP))


@contextlib.contextmanager
def stopping_at_once() -> Iterator[None]:
    """Each of SIGNALS ends the process with 128 + its number, for where nothing can be saved yet.

    Must be entered in the main thread; the previous handlers are restored on exit.
    """

    def stop(number: int, frame: object) -> None:
        os._exit(128 + number)

    before = {number: signal.signal(number, stop) for number in _answered()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Interrupts:
    """Context manager that turns each of SIGNALS into a request the run loop looks at.

    Python runs signal handlers in the main thread only, and only between two bytecodes: while the main thread
    waits inside XLA (a compilation, a long update) nothing would happen. So a thread of its own reads the
    signals from a wake-up file descriptor, which the C-level handler writes at once.

    Attributes:
        received: number of the first signal, None before it.
        can_save: set by the run loop while a request is answered by a checkpoint. While it is False
            (start-up, compilation, the pictures at the end, a run whose environments are other processes) the
            first signal stops the process at once.
        last_checkpoint: set by the run loop, None while there is none.

    The process ends with 128 + the signal's number, such as 130 for Ctrl-C. Must be entered in the main thread;
    the previous handlers are restored on exit.
    """

    def __init__(self, resume_command: str | None = None):
        self.received: int | None = None
        self.can_save = False
        self.last_checkpoint: Path | None = None
        self._resume_command = resume_command

    def __enter__(self) -> "Interrupts":
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._old_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        # A handler has to be there for the descriptor to be written; the thread does what there is to do.
        self._old_handlers = {number: signal.signal(number, lambda *_: None) for number in _answered()}
        self._thread = threading.Thread(target=self._watch, name="signals", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_fd)
        self._writer.close()  # ends the thread's recv
        self._thread.join()
        self._reader.close()

    def _watch(self) -> None:
        while received := self._reader.recv(1):
            number = received[0]
            if number not in SIGNALS:
                continue
            name = signal.Signals(number).name
            if self.received is not None or not self.can_save:
                last = f"; the last checkpoint is {self.last_checkpoint}" if self.last_checkpoint else ""
                how = f"; resume with: {self._resume_command}" if self._resume_command else ""
                self._say(f"{name}: stopped at once{last}{how}")
                os._exit(128 + number)
            self.received = number
            self._say(f"{name}: finishing the update in flight and saving (a second signal stops at once)")

    def _say(self, message: str) -> None:
        print(f"\n{message}", file=sys.stderr, flush=True)
