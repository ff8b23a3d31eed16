"""T-Mazes: a cue, a corridor, and a junction where the cue must be remembered. Eight forms of one task.

- `TMaze-v1`, `TMaze-v2`, `TMazeOurs` (Bakker, 2002; arXiv 2310.15719), classic.py: distractors or noise, and every
  step costs.
- `TMaze-Passive`, `TMaze-Active` (Ni et al., 2023), passive_active.py: all episodes of one length, without a step
  to waste; in the active form the cue must be fetched first.
- `TMaze-Endless` (arXiv 2601.15086), endless.py: a new cue in every corridor replaces the old one.
- `TMaze-Traces` (Eberhard et al.), traces.py: turning, a window of 3 x 3, and colours to be matched.
- `TMaze-Pobax` (Tao et al., 2025), pobax.py: no step costs anything, and the cue is a bit or its absence.

All report `episode_success`: 1 where a step ends the episode in the cue's arm (of the last corridor, in
`TMaze-Endless`, which reports the share of corridors done as well), so an episode that runs into the time limit
is a failure. The last five have `reset_to(layout, params)`, which draws nothing; their modules say what a layout
is.
"""

from typing import Any

from envs.checks import check_choice, check_positive
from envs.tmaze import endless, passive_active, traces
from envs.tmaze.classic import POSITION_BITS, EnvParams, ForkParams, TMazeFork, TMazeV1, TMazeV2
from envs.tmaze.endless import EndlessParams, TMazeEndless
from envs.tmaze.passive_active import NiParams, TMazeNi
from envs.tmaze.pobax import PobaxParams, TMazePobax
from envs.tmaze.reference import reference
from envs.tmaze.traces import TMazeTraces, TracesParams

__all__ = ["IDS", "make", "options", "reference"]

_NI_OPTIONS = {"corridor_len": 50, "goal_reward": 1.0, "lag_penalty": 1.0, "distract_reward": 0.0}
_OPTIONS = {
    "TMaze-v1": {"corridor_len": 10, "num_distractors": 6, "max_episode_steps": 5000},
    "TMaze-v2": {"corridor_len": 10, "num_distractors": 6, "max_episode_steps": 1000},
    "TMazeOurs": {
        "corridor_len": 160,
        "goal_reward": 4.0,
        "goal_penalty": 1.0,
        "timestep_penalty": 0.1,
        "max_episode_steps": 1000,
    },
    "TMaze-Passive": _NI_OPTIONS,
    "TMaze-Active": _NI_OPTIONS,
    "TMaze-Endless": {
        "corridor_len": 10,
        "num_corridors": 10,
        "uniform_lengths": False,
        "correct_reward": 1.0,
        "wrong_reward": -0.01,
        "corridor_penalty": -0.01,
        "forward_reward": 0.0,
        "max_episode_steps": 0,
    },
    "TMaze-Traces": {
        "corridor_len": 64,
        "observation": "symbolic",
        "no_ops": False,
        "max_episode_steps": 0,
    },
    "TMaze-Pobax": {"corridor_len": 10, "max_episode_steps": 1000},
}
IDS = tuple(_OPTIONS)
# Time limits and positions are numbers of 32 bits.
_LENGTHS = {
    "TMaze-v1": (2, 2**20),
    "TMaze-v2": (2, 2**POSITION_BITS),
    "TMaze-Endless": (1, 2**16),
    "TMaze-Traces": (1, 2**14),
}
_MOST_CORRIDORS = 2**10


def options(env_id: str) -> dict[str, Any]:
    """Options of a T-Maze, those of the original under its names.

    max_episode_steps: of `TMaze-Endless` and `TMaze-Traces`, 0 for the task's own limit, which depends on the
    corridor.
    """
    return dict(_OPTIONS[env_id])


def make(env_id: str, **options: Any):
    """Builds a T-Maze; see `envs.make`."""
    _check(env_id, options)
    length = options["corridor_len"]
    if env_id in ("TMaze-Passive", "TMaze-Active"):
        oracle_length = int(env_id == "TMaze-Active")
        steps = passive_active.horizon(length, oracle_length)
        return TMazeNi(oracle_length), NiParams(max_steps_in_episode=steps + 1, **options)
    limit = options.pop("max_episode_steps")
    if env_id == "TMaze-Endless":
        count, uniform = options.pop("num_corridors"), options.pop("uniform_lengths")
        limit = limit or endless.own_limit(length, count)
        return TMazeEndless(count, uniform), EndlessParams(max_steps_in_episode=limit, **options)
    if env_id == "TMaze-Traces":
        params = TracesParams(max_steps_in_episode=limit or traces.own_limit(length), corridor_len=length)
        return TMazeTraces(options["observation"], options["no_ops"]), params
    if env_id == "TMaze-Pobax":
        return TMazePobax(), PobaxParams(max_steps_in_episode=limit, corridor_len=length)
    if env_id == "TMazeOurs":
        return TMazeFork(), ForkParams(max_steps_in_episode=limit, **options)
    cls = TMazeV1 if env_id == "TMaze-v1" else TMazeV2
    return cls(options["num_distractors"]), EnvParams(max_steps_in_episode=limit, corridor_len=length)


def _check(env_id: str, options: dict[str, Any]) -> None:
    """Raises ValueError for values that the maze cannot take."""
    length, limit = options["corridor_len"], options.get("max_episode_steps")
    shortest, longest = _LENGTHS.get(env_id, (1, 2**20))
    if not shortest <= length <= longest:
        why = f" (the position is seen as {POSITION_BITS} bits)" if env_id == "TMaze-v2" else ""
        raise ValueError(f"env.corridor_len={length}: must be from {shortest} to {longest} in {env_id}{why}")
    if _OPTIONS[env_id].get("max_episode_steps"):
        check_positive("env.max_episode_steps", limit)
    elif limit is not None and limit < 0:
        raise ValueError(f"env.max_episode_steps={limit}: must be at least 0, where 0 is the task's own limit")
    for name, most in (("num_distractors", 2**10), ("num_corridors", _MOST_CORRIDORS)):
        if not 0 <= options.get(name, 0) <= most:
            raise ValueError(f"env.{name}={options[name]}: must be from 0 to {most}")
    if env_id == "TMaze-Traces":
        check_choice("env.observation", options["observation"], ("symbolic", "one_hot"))
