"""The two ways a run ends that are not faults of the program; everything else is a traceback."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path


class BadInput(Exception):
    """What the user asked for cannot be done; exit code 2. The message is one line that names the field."""


class RunError(Exception):
    """A run that had begun cannot go on (full disk, a loss that is not finite); exit code 1."""


def one_line(message: object) -> str:
    """The message with every run of white space, line ends included, as one blank."""
    return " ".join(str(message).split())


@contextlib.contextmanager
def exit_codes() -> Iterator[None]:
    """Ends the process with one line on stderr: code 2 for BadInput, code 1 for RunError."""
    try:
        yield
    except (BadInput, RunError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr, flush=True)
        sys.exit(2 if isinstance(error, BadInput) else 1)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an OSError of the body (a full disk, a lost mount) into a RunError that names `path`."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror or error}; what was there is whole") from error


def check_output(path: Path) -> None:
    """Raises BadInput unless a file can stand at the `--output` a user gave, before the work for it begins."""
    if not path.parent.is_dir() or path.is_dir():
        raise BadInput(f"output={str(path)!r}: must be a file in a directory that exists")
