"""Brax's continuous control tasks as gymnax environments, with partially observed variants.

Ids: `brax/<task>` (everything Brax shows), `brax/<task>-P` (only positions) and `brax/<task>-V` (only
velocities). A position is an entry that depends on where bodies are and not on how they move; a velocity is
an entry that is zero when nothing moves. Entries that are neither are left out of both variants.

What Brax 0.14 shows, in its order, and what is position (p), velocity (v) or neither (-).
qd is the velocity of every joint coordinate, those of the root included. -P shows p only, -V shows v only.

| task                     | size | entries                                                             |
|--------------------------|------|---------------------------------------------------------------------|
| ant                      | 27   | height, orientation quaternion, 8 joint angles (13p); qd (14v)      |
| halfcheetah              | 17   | height, pitch, 6 joint angles (8p); qd (9v)                         |
| hopper                   | 11   | height, pitch, 3 joint angles (5p); qd clipped to +-10 (6v)         |
| walker2d                 | 17   | height, pitch, 6 joint angles (8p); qd clipped to +-10 (9v)         |
| humanoid,                | 244  | height, quaternion, 17 joint angles (22p); qd (23v); of each of 11  |
| humanoidstandup          |      | bodies inertia about the centre of mass (9p) and mass (1-); linear  |
|                          |      | and angular velocity of each (66v); actuator torque on each         |
|                          |      | velocity coordinate, that is the last action (23-)                  |
| inverted_pendulum        | 4    | cart, pole angle (2p); qd (2v)                                      |
| inverted_double_pendulum | 8    | cart, sines, cosines of 2 angles (5p); qd clipped to +-10 (3v)      |
| pusher                   | 23   | 7 arm angles (7p); their velocities (7v); x, y, z of fingertip,     |
|                          |      | object and goal (9p)                                                |
| reacher                  | 11   | cosines, sines of 2 angles, target x, y (6p); fingertip velocity    |
|                          |      | (2v); fingertip minus target (3p)                                   |
| swimmer                  | 8    | heading, 2 joint angles (3p); qd (5v)                               |

-P hides every velocity: speed must be remembered from one step to the next. -V hides every position: height,
posture and the pole's angle must be integrated, and in reacher and pusher the target and the object are
hidden for good, so those two variants cannot be solved. Brax shows no contact forces in any task (ant's are
not implemented), and the distance travelled, which the reward pays for, is never shown. The object's velocity
in pusher is not shown either, so pusher is partially observed even without a suffix.

Differences from `brax.envs.create`: no auto-reset (Brax's returns to one cached first state and overwrites
the last observation); the time limit is a truncation; actions are clipped to the action space before the
physics, and the control cost, sees them.
"""

import contextlib
import functools
import io
import os
import re
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from envs import brax_render
from envs.checks import check_choice, check_positive

BACKENDS = ("spring", "generalized", "positional", "mjx")

# Entries of Brax's observations: p position, v velocity, - neither. `11*(9p 1-)` repeats the group in brackets
# 11 times.
_HUMANOID = "22p 23v 11*(9p 1-) 66v 23-"
ENTRIES = {
    "ant": "13p 14v",
    "halfcheetah": "8p 9v",
    "hopper": "5p 6v",
    "humanoid": _HUMANOID,
    "humanoidstandup": _HUMANOID,
    "inverted_double_pendulum": "5p 3v",
    "inverted_pendulum": "2p 2v",
    "pusher": "7p 7v 9p",
    "reacher": "6p 2v 3p",
    "swimmer": "3p 5v",
    "walker2d": "8p 9v",
}

IDS = tuple(f"brax/{task}{suffix}" for task in ENTRIES for suffix in ("", "-P", "-V"))


def options(env_id: str) -> dict[str, Any]:
    """Options of a task: the physics `backend` and `episode_length`, the time limit in steps."""
    return {"backend": _backends(_split(env_id)[0])[0], "episode_length": 1000}


def make(env_id: str, backend: str, episode_length: int):
    """Builds `brax/<task>[-P|-V]`; see `envs.make`."""
    task, variant = _split(env_id)
    check_choice("env.backend", backend, _backends(task))
    check_positive("env.episode_length", episode_length)
    env = BraxTask(task, backend, variant)
    return env, EnvParams(max_steps_in_episode=episode_length)


def observed_indices(task: str, variant: str) -> np.ndarray:
    """Indices of Brax's observation that a variant shows.

    Args:
        task: a key of `ENTRIES`.
        variant: "" (everything), "P" (positions) or "V" (velocities).

    Returns:
        int array [observation size], ascending.
    """
    flat = re.sub(r"(\d+)\*\((.*?)\)", lambda match: " ".join([match[2]] * int(match[1])), ENTRIES[task])
    kinds = "".join(block[-1] * int(block[:-1]) for block in flat.split())
    wanted = variant.lower() or "pv-"
    return np.array([i for i, kind in enumerate(kinds) if kind in wanted])


def _split(env_id: str) -> tuple[str, str]:
    task, _, variant = env_id.removeprefix("brax/").partition("-")
    return task, variant


def _backends(task: str) -> tuple[str, ...]:
    # Brax's swimmer needs the viscous fluid of the generalized backend and refuses the others.
    return ("generalized",) if task == "swimmer" else BACKENDS


@struct.dataclass
class EnvParams(environment.EnvParams):
    max_steps_in_episode: int = 1000


@struct.dataclass
class EnvState(environment.EnvState):
    """`pipeline` is the physics state of the Brax backend, `time` the steps taken in the episode."""

    pipeline: Any
    time: jax.Array


class BraxTask(environment.Environment[EnvState, EnvParams]):
    """One Brax task. Observations are float32 [observation size], actions float32 [action size].

    Args:
        task: a key of `ENTRIES`.
        backend: one of `BACKENDS`.
        variant: "" (everything seen), "P" (positions) or "V" (velocities).
    """

    def __init__(self, task: str, backend: str = "spring", variant: str = ""):
        super().__init__()
        self.task, self.backend, self.variant = task, backend, variant
        self.brax_env = _load(task, backend)
        self._shown = observed_indices(task, variant)

    @property
    def name(self) -> str:
        return f"brax/{self.task}" + (f"-{self.variant}" if self.variant else "")

    @property
    def default_params(self) -> EnvParams:
        return EnvParams()

    @property
    def num_actions(self) -> int:
        return self.brax_env.action_size

    def action_space(self, params: EnvParams | None = None) -> spaces.Box:
        # Every task takes [-1, 1]: those with another actuator range scale it themselves.
        return spaces.Box(-1.0, 1.0, (self.num_actions,), jnp.float32)

    def observation_space(self, params: EnvParams | None = None) -> spaces.Box:
        return spaces.Box(-jnp.inf, jnp.inf, (len(self._shown),), jnp.float32)

    def reset_env(self, key: jax.Array, params: EnvParams) -> tuple[jax.Array, EnvState]:
        start = self.brax_env.reset(key)
        return self._observe(start), EnvState(pipeline=start.pipeline_state, time=jnp.int32(0))

    def step_env(self, key: jax.Array, state: EnvState, action: jax.Array, params: EnvParams):
        from brax.envs.base import State

        # No task reads the last observation, reward or metrics, and only some set `done`: start each step
        # from blanks so that they need not be carried.
        before = State(state.pipeline, obs=None, reward=jnp.float32(0), done=jnp.float32(0))
        after = self.brax_env.step(before, jnp.clip(action, -1.0, 1.0))
        next_state = EnvState(pipeline=after.pipeline_state, time=state.time + 1)
        reward = jnp.asarray(after.reward, jnp.float32)
        return self._observe(after), next_state, reward, jnp.asarray(after.done, jnp.float32) > 0.5, {}

    def render(self, state: EnvState, params: EnvParams | None = None) -> np.ndarray:
        """Draws a state on the host: uint8 [360, 480, 3]."""
        position, rotation = jax.device_get((state.pipeline.x.pos, state.pipeline.x.rot))
        return self._renderer(position, rotation)

    @functools.cached_property
    def _renderer(self) -> brax_render.Renderer:
        return brax_render.Renderer(self.brax_env.sys, brax_render.VIEWS[self.task])

    def _observe(self, brax_state) -> jax.Array:
        return jnp.asarray(brax_state.obs, jnp.float32)[self._shown]


@functools.cache
def _load(task: str, backend: str):
    """Builds the Brax environment, without the lines that Brax, MJX and MuJoCo print about themselves."""
    with _quiet():
        from brax import envs as brax_envs
        from brax import fluid

        if fluid.jp is jnp:
            fluid.jp = _NumpyWithOldClip()
        return brax_envs.get_environment(task, backend=backend)


class _NumpyWithOldClip:
    """jax.numpy whose `clip` takes a_min and a_max: gone from jax 0.10, passed by Brax's fluid model."""

    def __getattr__(self, name: str) -> Any:
        return getattr(jnp, name)

    @staticmethod
    def clip(x: jax.Array, a_min: Any = None, a_max: Any = None) -> jax.Array:
        return jnp.clip(x, a_min, a_max)


def _mujoco():
    """The module mujoco, imported without the OpenGL that MUJOCO_GL names: it may be missing, and nothing here
    draws with it. A module that was imported before stays as it is.
    """
    asked = os.environ.get("MUJOCO_GL")
    os.environ["MUJOCO_GL"] = "disable"
    try:
        import mujoco
    finally:
        del os.environ["MUJOCO_GL"]
        if asked is not None:  # the workers of other environments may draw
            os.environ["MUJOCO_GL"] = asked
    return mujoco


@contextlib.contextmanager
def _quiet():
    """Drops three known notices and lets everything else through.

    MJX prints that the optional warp package is missing, Brax warns that it is in maintenance, and MuJoCo's
    compiler warns (on the terminal and in a file MUJOCO_LOG.TXT in the working directory) that halfcheetah's
    XML uses 'settotalmass'.
    """
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Brax System, piplines", category=UserWarning)
            mujoco = _mujoco()
            previous = mujoco.get_mju_user_warning()
            mujoco.set_mju_user_warning(
                lambda message: None if "settotalmass" in message else warnings.warn(message, stacklevel=2)
            )
            try:
                yield
            finally:
                mujoco.set_mju_user_warning(previous)
    finally:
        kept = [line for line in printed.getvalue().splitlines() if not line.startswith("Failed to import ")]
        if kept:
            print("\n".join(kept))
