"""T-Mazes: a cue, a corridor, and a junction where the cue must be remembered."""

from typing import Any

from envs.checks import check_positive
from envs.tmaze.classic import POSITION_BITS, EnvParams, ForkParams, TMazeFork, TMazeV1, TMazeV2

IDS = ("TMaze-v1", "TMaze-v2", "TMazeOurs")


def options(env_id: str) -> dict[str, Any]:
    """Options of a T-Maze, under the original's names."""
    if env_id == "TMazeOurs":
        return {
            "corridor_len": 160,
            "goal_reward": 4.0,
            "goal_penalty": 1.0,
            "timestep_penalty": 0.1,
            "max_episode_steps": 1000,
        }
    return {
        "corridor_len": 10,
        "num_distractors": 6,
        "max_episode_steps": 5000 if env_id == "TMaze-v1" else 1000,
    }


def make(env_id: str, **options: Any):
    """Builds a T-Maze; see `envs.make`."""
    length = options["corridor_len"]
    shortest = 1 if env_id == "TMazeOurs" else 2
    longest = 2**POSITION_BITS if env_id == "TMaze-v2" else 2**20
    if not shortest <= length <= longest:
        why = f" (the position is seen as {POSITION_BITS} bits)" if env_id == "TMaze-v2" else ""
        raise ValueError(f"env.corridor_len={length}: must be from {shortest} to {longest} in {env_id}{why}")
    check_positive("env.max_episode_steps", options["max_episode_steps"])
    limit = options["max_episode_steps"]
    if env_id == "TMazeOurs":
        rewards = {name: options[name] for name in ("goal_reward", "goal_penalty", "timestep_penalty")}
        return TMazeFork(), ForkParams(max_steps_in_episode=limit, corridor_len=length, **rewards)
    distractors = options["num_distractors"]
    if not 0 <= distractors <= 2**10:
        raise ValueError(f"env.num_distractors={distractors}: must be from 0 to 1024")
    cls = TMazeV1 if env_id == "TMaze-v1" else TMazeV2
    return cls(distractors), EnvParams(max_steps_in_episode=limit, corridor_len=length)
