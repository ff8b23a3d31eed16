"""The two ways a run ends that are not faults of the program; everything else is a traceback."""

import contextlib
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class BadInput(Exception):
    """What the user asked for cannot be done; exit code 2. The message is one line that names the field."""


class RunError(Exception):
    """A run that had begun cannot go on (full disk, a loss that is not finite); exit code 1."""


def one_line(message: object) -> str:
    """The message with every run of white space, line ends included, as one blank."""
    return " ".join(str(message).split())


@contextlib.contextmanager
def exit_codes() -> Iterator[None]:
    """Ends the process with one line on stderr: code 2 for BadInput, code 1 for RunError.

    A stderr that is closed (a terminal that has gone) and a reader of stdout that has enough end nothing.
    """
    sys.stderr = _Lossy(sys.stderr)
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes stdout once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (BadInput, RunError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr, flush=True)
        sys.exit(2 if isinstance(error, BadInput) else 1)


class _Lossy:
    """A text stream that drops what cannot be written."""

    def __init__(self, stream: Any):  # a TextIO, or None where Python found no stderr
        self._stream: Any = stream._stream if isinstance(stream, _Lossy) else stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError, AttributeError):  # ValueError: closed; AttributeError: None
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._stream.flush()

    def isatty(self) -> bool:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            return self._stream.isatty()
        return False


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an OSError of the body (a full disk, a lost mount) into a RunError that names `path`."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror or error}; what was there is whole") from error


def replace_file(path: Path, text: str) -> None:
    """Writes a file whole or not at all; several processes may write the same one at the same time.

    Raises:
        OSError: it cannot be written; nothing of it is left.
    """
    temporary = path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """replace_file, with a RunError for an OSError."""
    with writing(path):
        replace_file(path, text)


def check_output(path: Path) -> None:
    """Raises BadInput unless a file can stand at the `--output` a user gave, before the work for it begins."""
    place = f"output={str(path)!r}"
    if not os.path.isdir(path.parent) or os.path.isdir(path):
        raise BadInput(f"{place}: must be a file in a directory that exists")
    try:
        path.lstat()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:  # a name that is too long
        raise BadInput(f"{place}: must be a file that can be written: {one_line(error)[:200]}") from error
