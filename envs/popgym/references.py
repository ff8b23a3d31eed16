"""What is known of the returns of POPGym's tasks, undiscounted.

Exact values follow from the rules. Measured ones are means over 2,000 episodes of popgym 1.0.7 (in the labyrinths
over 2,000 of its mazes) and come with their standard errors. A policy without memory sees the current observation
alone. Where the last action is an input too it can do better, and the note says how much: the last action is the
answer itself in RepeatFirst, and without it nobody knows what an observation of a board or of a bandit is about.
"""

from typing import Any, NamedTuple

from envs.popgym.task import LEVELS


class _Row(NamedTuple):
    """One policy at the three levels; a single value, error or note is that of all of them."""

    mark: str
    values: float | tuple[float, ...]
    note: str | tuple[str, ...]
    errors: float | tuple[float, ...] | None = None

    def at(self, level: int) -> dict[str, Any]:
        value, note, error = (
            each[level] if isinstance(each, tuple) else each for each in (self.values, self.note, self.errors)
        )
        return {"value": value, "mark": self.mark, "note": note if error is None else f"{note}; ± {error}"}


_RANDOM = "uniformly random actions"
_ALL_RIGHT = "every answer is right: no return is greater"


def _notes(text: str, *values: Any) -> tuple[str, ...]:
    """A note for each level, with what differs between them in the place of {}."""
    return tuple(text.format(value) for value in values)


# Family -> random, without memory, with memory
_ROWS: dict[str, tuple[_Row, _Row, _Row]] = {
    "RepeatFirst": (
        _Row("exact", -0.5, _RANDOM),
        _Row(
            "exact",
            (-0.4994, -0.49999, -0.5),
            "plays the suit on view; 1.0 with the last action as input: the first suit, then that action again",
        ),
        _Row("exact", 1.0, _ALL_RIGHT),
    ),
    "RepeatPrevious": (
        _Row("exact", -0.5, _RANDOM),
        _Row("exact", (-0.4902, -0.4951, -0.4968), "plays any suit but the one on view"),
        _Row("exact", 1.0, _ALL_RIGHT),
    ),
    "Autoencode": (
        _Row("exact", -0.5, _RANDOM),
        _Row("exact", (-0.4712, -0.4856, -0.4904), "plays the suit on view"),
        _Row("exact", 1.0, _ALL_RIGHT),
    ),
    "CountRecall": (
        _Row("exact", (-0.9259, -0.9259, -0.8824), _RANDOM),
        _Row(
            "exact",
            (-0.9230, -0.9245, -0.8812),
            _notes(
                "the best answer where both cards are of one kind, and where not; {} for who knows the step too",
                *("-0.4054", "-0.4920", "-0.4144"),
            ),
        ),
        _Row("exact", 1.0, _ALL_RIGHT),
    ),
    "HigherLower": (
        _Row("exact", 0.0, _RANDOM),
        _Row("exact", 84 / 169, "bets on higher below rank 6, on lower above"),
        _Row("measured", (0.525, 0.517, 0.513), "counts cards, the optimum", (0.002, 0.002, 0.001)),
    ),
    "Concentration": (
        _Row("measured", (-0.190, -0.186, -0.837), _RANDOM, 0.002),
        _Row(
            "measured",
            (0.460, 0.471, -0.817),
            _notes(
                "turns any card that lies face down; {} by remembering the last pair alone", 0.641, 0.634, -0.759
            ),
            (0.004, 0.003, 0.002),
        ),
        _Row(
            "measured",
            (0.815, 0.813, 0.698),
            _notes(
                "remembers every card; {}",
                *("at most 0.8333 can be had (computed)",) * 2,
                "the optimum is unknown",
            ),
            0.001,
        ),
    ),
    "Battleship": (
        _Row("measured", (-0.448, -0.414, -0.399), _RANDOM, 0.004),
        _Row(
            "measured",
            (-0.448, -0.414, -0.399),
            _notes(
                "random actions, nothing better is known; {} row by row with the last action", 0.170, 0.176, 0.182
            ),
            0.004,
        ),
        _Row(
            "measured",
            (0.528, 0.575, 0.598),
            "asks where most places of ships agree with the answers; the optimum is unknown",
            0.003,
        ),
    ),
    "MineSweeper": (
        _Row("measured", (-0.224, -0.402, -0.435), _RANDOM, (0.007, 0.003, 0.002)),
        _Row(
            "measured",
            (-0.224, -0.402, -0.435),
            _notes(
                "random actions, nothing better is known; {} by a table over count and last action",
                *(0.275, -0.236, -0.369),
            ),
            (0.007, 0.003, 0.002),
        ),
        _Row(
            "measured",
            (0.740, 0.528, 0.513),
            "asks the cell with the least chance of a mine; the optimum is unknown",
            (0.013, 0.015, 0.016),
        ),
    ),
    "MultiarmedBandit": (
        _Row("exact", 0.0, _RANDOM),
        _Row(
            "exact",
            0.0,
            _notes(
                "any policy; {} with the last action: the same arm after a win, else the next", 0.465, 0.555, 0.590
            ),
        ),
        _Row(
            "measured",
            (0.719, 0.820, 0.851),
            _notes(
                "optimism that fades with the steps left; Thompson sampling and the best arm, were it known: {}",
                *("0.634 and 0.818", "0.736 and 0.905", "0.771 and 0.935"),
            ),
            (0.005, 0.003, 0.002),
        ),
    ),
    "LabyrinthExplore": (
        _Row("measured", (-0.358, -0.612, -0.740), _RANDOM, 0.004),
        _Row(
            "measured",
            (0.969, 0.925, 0.864),
            _notes("the right-hand rule, by view and last action; {} if the maze were known", 0.982, 0.957, 0.919),
            0.0004,
        ),
        _Row(
            "measured", (0.969, 0.925, 0.864), "no better than the right-hand rule, which needs no memory", 0.0004
        ),
    ),
    "LabyrinthEscape": (
        _Row("measured", (-0.430, -0.839, -0.948), _RANDOM, (0.017, 0.010, 0.006)),
        _Row(
            "measured",
            (0.952, 0.903, 0.841),
            _notes("the right-hand rule, by view and last action; {} if the maze were known", 0.979, 0.965, 0.949),
            0.002,
        ),
        _Row("measured", (0.957, 0.915, 0.869), "goes to the nearest cell not yet seen; of 60 episodes", 0.01),
    ),
}


def known(family: str, level: str) -> dict[str, dict[str, Any]]:
    """The three entries of `envs.reference`."""
    names = ("random", "without_memory", "with_memory")
    return {name: row.at(LEVELS.index(level)) for name, row in zip(names, _ROWS[family], strict=True)}
