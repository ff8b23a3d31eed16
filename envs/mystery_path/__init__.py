"""Mystery Path (Memory Gym, arXiv 2309.17207): find a hidden path by falling off it, and remember it.

Ids `MysteryPath-v0` (moves of 3 pixels in eight directions, 512 steps), `MysteryPath-Grid-v0` (turns and
moves by cells, 128 steps), and `-Easy` before the version: origin and goal are shown and every new cell of
the path pays 0.1; `Endless-MysteryPath-v0`, see below. Rules, pixels and the law of the paths are those of Memory
Gym 1.0.2.

A step off the path shows the agent beside it (with a red cross, if visual_feedback), and the next step,
whatever its action, puts it back on the origin. Reaching the goal ends the episode and pays reward_goal.
Every cell of the path but origin and goal pays reward_path_progress once an episode.

Observations: "frame", uint8 [84, 84, 3] in the original's order [x, y, rgb], the transpose of a picture
(divide by 255: Memory Gym 1.0.0 gave floats up to 1); "symbolic" (Grid), bool [7, 7, 7] = [x, y, plane]: the
same information, one plane each for origin, goal, the agent facing up, left, down, right, and the cross.

Differences from the original: the time limit is a truncation unless `time_limit_terminates`; the two actions
of MysteryPath are one of nine, a = 3 * horizontal + vertical. `info` holds `episode_success`, 1 where a step
reaches the goal, and `episode_fails`, the falls so far.

Resets: `reset_env` runs the whole generator, about 10 us a layout where many are drawn at once.
`envs.VectorEnv` draws a bank of `pool_size` start states once a rollout, and a step only takes the next one.
Every layout of the bank is an independent draw of the generator and is used once, unless more than
`pool_size` episodes end in a rollout: then the bank is used again from its beginning. A bank of frames takes
21 kB a start. The other repeats are of the law itself: two draws are the same layout with probability
3.75e-4, so there are about 190 equal pairs among 1,000 draws, and 400,000 draws hold 48,732 different
layouts. A policy can learn this law by heart: a return on new layouts above that of a policy without memory
is what speaks for memory. gymnax's own `env.step` generates a layout in every step instead: exact too, slow,
good for tests.

Endless: the path goes on to the right, a segment of 7 columns and a cell after the other, each from the row where
the last one ended to a row drawn evenly. Actions: nothing, right, up, down. What the agent has walked is drawn
behind it, but after a fall it starts at the beginning again and sees nothing of the path ahead. Every new cell
pays reward_path_progress once an episode. The episode ends with a fall left of the farthest column reached or at
the place of an earlier fall (these are never forgotten), and after stamina_level steps without a cell that is new
since the last fall. `info` holds `episode_fails`, `episode_tiles_visited` and `episode_max_x`; the original's
ground_truth, the way to the next cell, is not reported.

Its state holds 64 segments, 512 columns; the last cell of the last one truncates the episode as a time limit does.
Whoever gets there has earned 51 at least, in 2,042 steps at least at the default speed: a lower max_steps makes it
unreachable. Segments are drawn one ahead of the agent, in the step in which it comes to the one before, by the
whole generator: the loop that does it turns as often as one of the environments stepped together needs it, in most
steps not at all. So no bank repeats its segments, and a start costs two of them instead of 64. Speeds of more than
a cell a step and cameras between pixels are refused.
"""

import math
from typing import Any

from envs.checks import check_choice, check_positive
from envs.mystery_path.endless import EndlessLayout, EndlessMysteryPath, EndlessParams, EndlessState, bar_levels
from envs.mystery_path.environment import EnvParams, EnvState, MysteryPath, MysteryPathGrid
from envs.mystery_path.generator import Layout
from envs.mystery_path.rendering import TILE

__all__ = [
    "ENDLESS",
    "IDS",
    "EndlessLayout",
    "EndlessMysteryPath",
    "EndlessParams",
    "EndlessState",
    "EnvParams",
    "EnvState",
    "Layout",
    "MysteryPath",
    "MysteryPathGrid",
    "make",
    "options",
]

ENDLESS = "Endless-MysteryPath-v0"
IDS = ("MysteryPath-v0", "MysteryPath-Easy-v0", "MysteryPath-Grid-v0", "MysteryPath-Grid-Easy-v0", ENDLESS)
AGENT_SCALE = 0.25
_FARTHEST = 84  # pixels; a longer step ends at the border too
_NO_LIMIT = 2**31 - 1  # steps


def options(env_id: str) -> dict[str, Any]:
    """The original's reset parameters, `observation` and `time_limit_terminates`.

    max_steps: 0 or less for no limit, which trainers refuse but in the endless form, where episodes end without
    one. cardinal_origin_choice: the sides from which the
    origin's is drawn, 0 left, 1 right, 2 top, 3 bottom. agent_scale: in Grid accepted and without effect, as in
    the original.

    Endless: show_origin is accepted and without effect, as in the original. camera_offset_scale: cells left of the
    agent's on the screen, 0 to 5.5.
    """
    if env_id == ENDLESS:
        return {
            "max_steps": -1,
            "agent_scale": AGENT_SCALE,
            "agent_speed": 3.0,
            "show_origin": False,
            "show_past_path": True,
            "show_background": False,
            "show_stamina": False,
            "visual_feedback": True,
            "camera_offset_scale": 5.0,
            "stamina_level": 20,
            "reward_fall_off": 0.0,
            "reward_path_progress": 0.1,
            "reward_step": 0.0,
            "observation": "frame",
            "time_limit_terminates": False,
        }
    easy, grid = "-Easy-" in env_id, _is_grid(env_id)
    speed = {} if grid else {"agent_speed": 3.0}
    return {
        "max_steps": 128 if grid else 512,
        "agent_scale": AGENT_SCALE,
        **speed,
        "cardinal_origin_choice": [0, 1, 2, 3],
        "show_origin": easy,
        "show_goal": easy,
        "visual_feedback": True,
        "reward_goal": 1.0,
        "reward_fall_off": 0.0,
        "reward_path_progress": 0.0 if grid and not easy else 0.1,
        "reward_step": 0.0,
        "observation": "frame",
        "time_limit_terminates": False,
    }


def make(env_id: str, **options: Any):
    """Builds a Mystery Path; see `envs.make`.

    Raises:
        ValueError: an option the environment cannot take.
    """
    check_choice(
        "env.observation", options["observation"], ("frame", "symbolic") if _is_grid(env_id) else ("frame",)
    )
    if not _is_grid(env_id) and options["agent_scale"] != AGENT_SCALE:
        raise ValueError(f"env.agent_scale={options['agent_scale']!r}: must be {AGENT_SCALE} in {env_id}")
    if env_id == ENDLESS:
        params = _endless_params(options)
        return EndlessMysteryPath(env_id, _endless_params(_defaults(env_id)), options["observation"]), params
    sides = options["cardinal_origin_choice"]
    if not sides or any(type(side) is not int or not 0 <= side <= 3 for side in sides):
        allowed = "must be a list of one or more of 0 (left), 1 (right), 2 (top), 3 (bottom)"
        raise ValueError(f"env.cardinal_origin_choice={sides!r}: {allowed}")
    cls = MysteryPathGrid if _is_grid(env_id) else MysteryPath
    return cls(env_id, _params(_defaults(env_id)), options["observation"]), _params(options)


def _params(options: dict[str, Any]) -> EnvParams:
    same = set(EnvParams.__dataclass_fields__) & set(options)
    straight, diagonal = _steps(options.get("agent_speed", 0.0))
    values = {name: options[name] for name in same} | {
        "cardinal_origin_choice": tuple(options["cardinal_origin_choice"]),
        "max_steps_in_episode": options["max_steps"],
    }
    return EnvParams(**values, straight_step=straight, diagonal_step=diagonal)


def _endless_params(options: dict[str, Any]) -> EndlessParams:
    speed, scale, level = (options[name] for name in ("agent_speed", "camera_offset_scale", "stamina_level"))
    if not 0 <= speed <= TILE:
        raise ValueError(f"env.agent_speed={speed!r}: must be 0 to {TILE}, a cell a step, in {ENDLESS}")
    if not 0 <= scale <= 5.5 or TILE * scale % 1:
        raise ValueError(f"env.camera_offset_scale={scale!r}: must be 0 to 5.5 and {TILE} times it a whole number")
    check_positive("env.stamina_level", level)
    same = set(EndlessParams.__dataclass_fields__) & set(options)
    return EndlessParams(
        **{name: options[name] for name in same},
        max_steps_in_episode=options["max_steps"] if options["max_steps"] > 0 else _NO_LIMIT,
        straight_step=int(speed),
        camera_offset=int(TILE * scale),
        past_columns=int(scale),
        bar_levels=bar_levels(level),
    )


def _steps(speed: float) -> tuple[int, int]:
    """Pixels a straight and a diagonal step move each coordinate by: cut to integers, as the original does."""
    steps = (int(speed), int(speed * math.sqrt(0.5)))
    return tuple(max(-_FARTHEST, min(step, _FARTHEST)) for step in steps)


_defaults = options  # under a name that `make` does not use for its own


def _is_grid(env_id: str) -> bool:
    return "-Grid-" in env_id
