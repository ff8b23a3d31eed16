"""POPGym's diagnostic and game tasks (arXiv 2303.01859), with the rules of popgym 1.0.7.

Ids `popgym/<family><level>`, levels Easy, Medium and Hard:

| family           | to be remembered                      | for how many steps | longest episode    |
|------------------|---------------------------------------|--------------------|--------------------|
| RepeatFirst      | the first suit                        | the whole episode  | 51 / 415 / 831     |
| RepeatPrevious   | the last k suits                      | 3 / 31 / 63        | 51 / 103 / 155     |
| Autoencode       | all suits, to be played backwards     | up to 102/206/310  | 103 / 207 / 311    |
| CountRecall      | how often each kind of card was shown | the whole episode  | 51 / 103 / 207     |
| HigherLower      | next to nothing                       |                    | 51 / 103 / 155     |
| Concentration    | where cards lie                       | the whole episode  | 104 / 208 / 104    |
| Battleship       | own actions and their answers         | the whole episode  | 64 / 100 / 144     |
| MineSweeper      | own actions and their answers         | the whole episode  | 14 / 30 / 54       |
| MultiarmedBandit | wins and losses of every arm          | the whole episode  | 200 / 400 / 600    |
| LabyrinthExplore, LabyrinthEscape | nothing              |                    | 1023               |

HigherLower and the labyrinths prove no memory: policies without come close to the best return. `reference` knows
the returns of random actions, without memory and with memory.

Observations are the original's integers one-hot, in a row, float32. Actions are discrete; a cell of a board of
[rows, columns] is columns * row + column. Battleship, MineSweeper, Concentration, MultiarmedBandit and the
labyrinths are made for agents that see their last action (`PreviousActionReward`), which only the labyrinths show
themselves; in RepeatFirst it is the answer, so that no memory is needed.

The first five families terminate with the last card. In the others a time limit truncates, or terminates with the
option time_limit_terminates, as in the paper. All returns lie between about -1.3 and 1. `info` holds
`episode_success` (1 where a step ends the task: all cards, ships or clear cells found, all cells visited, the goal
reached) in Concentration, Battleship, MineSweeper and the labyrinths.

`sample_layout(key, params)` draws what an episode hides, `reset_to(layout, params)` starts it, and no step draws
anything but a bandit's, whose `step_with(noise, state, action, params)` takes the number.
"""

from typing import Any

from envs.popgym.bandit import MultiarmedBandit
from envs.popgym.boards import Battleship, MineSweeper
from envs.popgym.concentration import Concentration
from envs.popgym.diagnostics import Autoencode, CountRecall, HigherLower, RepeatFirst, RepeatPrevious
from envs.popgym.labyrinth import LabyrinthEscape, LabyrinthExplore
from envs.popgym.references import known
from envs.popgym.task import LEVELS, Task, TimedTask

__all__ = ["FAMILIES", "IDS", "LEVELS", "make", "options", "reference"]

FAMILIES: dict[str, type[Task]] = {
    cls.__name__: cls
    for cls in (
        RepeatFirst,
        RepeatPrevious,
        Autoencode,
        CountRecall,
        HigherLower,
        Concentration,
        Battleship,
        MineSweeper,
        MultiarmedBandit,
        LabyrinthExplore,
        LabyrinthEscape,
    )
}
_TASKS = {f"popgym/{family}{level}": (family, level) for family in FAMILIES for level in LEVELS}
IDS = tuple(_TASKS)


def options(env_id: str) -> dict[str, Any]:
    """time_limit_terminates, whether the time limit terminates rather than truncates, where there is one."""
    family, _ = _TASKS[env_id]
    return {"time_limit_terminates": False} if issubclass(FAMILIES[family], TimedTask) else {}


def make(env_id: str, **options: Any):
    """Builds `popgym/<family><level>`; see `envs.make`."""
    family, level = _TASKS[env_id]
    env = FAMILIES[family](level)
    return env, env.default_params.replace(**options)


def reference(env_id: str, **options: Any) -> dict[str, dict[str, Any]]:
    """What is known of the returns; see `envs.reference`."""
    return known(*_TASKS[env_id])
