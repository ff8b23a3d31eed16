"""TMaze-Pobax: the T-Maze of POBAX (Tao et al., 2025), in which a bit's absence is a cue.

Places x = 0 .. H + 1, H = corridor_len; the junction is H + 1. Actions 0 up, 1 down, 2 right, 3 left. Right and
left move along the corridor and stay at its ends; up and down do nothing in it. At the junction they end the
episode with +4 if they match the goal (0 up, 1 down) and -0.1 if not. No other step pays or costs anything; the
best return is 4.

Observation float32 [4]: [goal, 1, 0, 0] at x = 0, [0, 1, 0, 0] in the corridor and after the end, [0, 0, 1, 0]
at the junction. So the start with goal 0 looks like the corridor.

Rules of https://github.com/taodav/pobax (Apache-2.0). Its published returns are discounted by 0.99.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from envs.tmaze.rendering import Scene, draw

UP, DOWN, RIGHT, LEFT = range(4)
GOAL_REWARD, WRONG_REWARD = 4.0, -0.1


@struct.dataclass
class PobaxParams(environment.EnvParams):
    max_steps_in_episode: int = 1000
    corridor_len: int = 10


@struct.dataclass
class PobaxState(environment.EnvState):
    """time: steps taken; x: 0 .. H + 1; y: the arm, 1 upper, -1 lower, else 0; goal: 0 up, 1 down (all int32)."""

    time: jax.Array
    x: jax.Array
    y: jax.Array
    goal: jax.Array


class TMazePobax(environment.Environment[PobaxState, PobaxParams]):
    """See the module."""

    num_actions = 4

    @property
    def name(self) -> str:
        return "TMaze-Pobax"

    @property
    def default_params(self) -> PobaxParams:
        return PobaxParams()

    def draw_layout(self, key: jax.Array, params: PobaxParams) -> jax.Array:
        """The goal, 0 up or 1 down, as an int32 scalar."""
        return jax.random.bits(key).astype(jnp.int32) & 1

    def reset_to(self, layout: jax.Array, params: PobaxParams) -> tuple[jax.Array, PobaxState]:
        """Starts an episode with this goal; see `draw_layout`."""
        zero = jnp.int32(0)
        state = PobaxState(time=zero, x=zero, y=zero, goal=jnp.asarray(layout, jnp.int32))
        return self._observe(state, params), state

    def reset_env(self, key: jax.Array, params: PobaxParams) -> tuple[jax.Array, PobaxState]:
        return self.reset_to(self.draw_layout(key, params), params)

    def step_env(self, key: jax.Array, state: PobaxState, action: jax.Array | int, params: PobaxParams):
        action = jnp.asarray(action)
        right = (action == RIGHT).astype(jnp.int32) - (action == LEFT).astype(jnp.int32)
        up = (action == UP).astype(jnp.int32) - (action == DOWN).astype(jnp.int32)
        junction = params.corridor_len + 1
        y = jnp.where(state.x == junction, up, 0)
        state = state.replace(time=state.time + 1, x=jnp.clip(state.x + right, 0, junction), y=y)
        terminated = y != 0
        success = terminated & (action == state.goal)
        reward = jnp.where(terminated, jnp.where(success, GOAL_REWARD, WRONG_REWARD), 0.0)
        info = {"episode_success": success.astype(jnp.float32)}
        return self._observe(state, params), state, reward.astype(jnp.float32), terminated, info

    def _observe(self, state: PobaxState, params: PobaxParams) -> jax.Array:
        at_junction = (state.x == params.corridor_len + 1) & (state.y == 0)
        cue = (state.x == 0) & (state.goal == 1)
        return jnp.stack([cue, ~at_junction, at_junction, jnp.zeros_like(cue)]).astype(jnp.float32)

    def action_space(self, params: PobaxParams | None = None) -> spaces.Discrete:
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params: PobaxParams | None = None) -> spaces.Box:
        return spaces.Box(0.0, 1.0, (4,), jnp.float32)

    def render(self, state: PobaxState, params: PobaxParams) -> np.ndarray:
        """The maze as a picture, uint8 [height, width, 3]."""
        scene = Scene(
            junction=params.corridor_len + 1,
            x=int(state.x),
            y=int(state.y),
            cue=1 - 2 * int(state.goal),
            cue_seen=int(state.x) == 0,
            caption=f"step {int(state.time)} of {params.max_steps_in_episode}",
        )
        return draw(scene)
