"""What all pictures are drawn with, whatever the user's matplotlibrc says."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from algos.harness.errors import one_line


@contextlib.contextmanager
def own_settings(**settings: Any) -> Iterator[None]:
    """matplotlib's defaults for what is drawn in the body, and a $ in a title is a letter.

    A user's text.usetex without a LaTeX, or a font that is not there, would end what draws a picture.
    """
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        values: Any = {"text.parse_math": False, **settings}
        matplotlib.rcParams.update(values)
        yield


def new_figure(width: float, height: float) -> Any:
    """A matplotlib Figure of this size in inches that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def by_product(path: Path, make: Callable[[], Any], say: Callable[[str], None]) -> None:
    """Makes a picture that a run does not depend on; says in one line why it could not be made."""
    try:
        make()
    # Whatever goes wrong in drawing, the run it shows must not be lost.
    except Exception as error:
        say(f"{path}: left out: {type(error).__name__}: {one_line(error)[:300]}")
