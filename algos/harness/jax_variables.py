"""What variables of the operating system ask of JAX and cannot be: one line, as of other bad input.

JAX reads some of them when it is imported, and gymnax starts the backend when it is: both before a program of
this repository can catch anything. So the package installs a hook for what nothing has caught, before it imports
JAX. A program that needs no device, such as scripts/plot.py, starts none for it.
"""

import os
import re
import sys
from pathlib import Path
from types import TracebackType

from algos.harness.errors import BadInput, exit_codes, one_line

ROOT = Path(__file__).resolve().parents[2]


def check_jax() -> None:
    """Raises BadInput where variables of the operating system ask JAX for what a trainer cannot run on."""
    import jax

    if jax.config.jax_enable_x64:
        value = os.environ.get("JAX_ENABLE_X64", "True")
        raise BadInput(f"JAX_ENABLE_X64={value}: must be unset; trainers and their environments are of 32 bits")
    check_platforms()


def check_platforms() -> None:
    """Raises BadInput where JAX cannot start; starts it."""
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter where the plugin of a platform is not there
        platforms = os.environ.get("JAX_PLATFORMS", "")
        raise BadInput(f"JAX_PLATFORMS={platforms!r}: must name platforms that are here, or be unset: "
                       f"{one_line(error)[:200] or 'no plugin for it'}") from error  # fmt: skip


def check_import(error: BaseException) -> None:
    """Raises BadInput where `error` is JAX's of a variable that it cannot be imported with."""
    found = re.search(r"jax_\w+", str(error), re.IGNORECASE)
    if "jax" not in sys.modules and found and (name := found[0].upper()) in os.environ:
        value = os.environ[name]
        raise BadInput(f"{name}={value!r}: must be a value that JAX takes, or be unset: {one_line(error)[:200]}")


def explain_in_programs() -> None:
    """Ends trainers and scripts with the one line; others that import the package get the error as it is."""
    otherwise = sys.excepthook

    def explain(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        # Asked only now: `python -m` imports the package before it knows the program's file.
        main = getattr(sys.modules["__main__"], "__file__", None)
        if main is not None and Path(main).resolve().parent in (ROOT / "algos", ROOT / "scripts"):
            with exit_codes():
                if isinstance(error, ValueError):
                    check_import(error)
                elif isinstance(error, RuntimeError | AssertionError):
                    check_platforms()  # answers at once where JAX has started
        otherwise(kind, error, trace)

    sys.excepthook = explain


explain_in_programs()
