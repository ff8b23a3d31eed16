"""TMaze-Passive and TMaze-Active (Ni et al., 2023, arXiv 2307.03864): a corridor without a step to waste.

Places (x, y): the corridor x = 0 .. E with y = 0, where E = L + o, L = corridor_len, o = 0 in the passive form
and 1 in the active one; the junction (E, 0); the arms (E, 1) and (E, -1). The agent starts at (o, 0); the goal
is y = 1 or y = -1. Actions 0 right, 1 up (y + 1), 2 left, 3 down; a move off the maze stays. Arms can be left
again.

Every episode lasts exactly H = L + 2 o + 1 steps, and that end is terminated: there is nothing to bootstrap
from. The last step pays goal_reward if y is the goal, and nothing else. Every other step t = 1 .. H - 1 costs
lag_penalty / L if x < t - o after it, and pays distract_reward at x = 0. So the shortest way is free, every
step behind it costs, and the wrong arm costs nothing. The best return is goal_reward.

Observation float32 [2]: [0, goal] the first time at x = 0, [0, 0] at x = 0 later and in the corridor, [1, y] at
the junction and in the arms. The passive form shows the goal in the first observation; the active one starts
beside the place of the cue, which is one step to the left, and its start looks like the corridor.

Rules of https://github.com/twni2016/Memory-RL (MIT), whose penalty -1 / L is lag_penalty 1.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from envs.tmaze.rendering import Scene, draw

RIGHT, UP, LEFT, DOWN = range(4)


@struct.dataclass
class NiParams(environment.EnvParams):
    """max_steps_in_episode: more than `horizon` steps, as no episode is truncated."""

    max_steps_in_episode: int = 52
    corridor_len: int = 50
    goal_reward: float = 1.0
    lag_penalty: float = 1.0
    distract_reward: float = 0.0


@struct.dataclass
class NiState(environment.EnvState):
    """State of an episode, all int32.

    Attributes:
        time: steps taken.
        x, y: place, see above.
        goal: -1 or 1.
        cue_time: steps taken when x = 0 was reached first, -1 before.
    """

    time: jax.Array
    x: jax.Array
    y: jax.Array
    goal: jax.Array
    cue_time: jax.Array


def horizon(corridor_len: int, oracle_length: int) -> int:
    """Steps of every episode."""
    return corridor_len + 2 * oracle_length + 1


class TMazeNi(environment.Environment[NiState, NiParams]):
    """Both forms.

    Args:
        oracle_length: o, the distance of the start from the cue: 0 passive, 1 active.
    """

    num_actions = 4

    def __init__(self, oracle_length: int = 0):
        super().__init__()
        self.oracle_length = oracle_length

    @property
    def name(self) -> str:
        return "TMaze-Active" if self.oracle_length else "TMaze-Passive"

    @property
    def default_params(self) -> NiParams:
        length = NiParams.corridor_len
        return NiParams(max_steps_in_episode=horizon(length, self.oracle_length) + 1)

    def draw_layout(self, key: jax.Array, params: NiParams) -> jax.Array:
        """The goal, -1 or 1, as an int32 scalar."""
        return 2 * (jax.random.bits(key).astype(jnp.int32) & 1) - 1

    def reset_to(self, layout: jax.Array, params: NiParams) -> tuple[jax.Array, NiState]:
        """Starts an episode with this goal; see `draw_layout`."""
        start = self.oracle_length
        state = NiState(
            time=jnp.int32(0),
            x=jnp.int32(start),
            y=jnp.int32(0),
            goal=jnp.asarray(layout, jnp.int32),
            cue_time=jnp.int32(0 if start == 0 else -1),
        )
        return self._observe(state, params), state

    def reset_env(self, key: jax.Array, params: NiParams) -> tuple[jax.Array, NiState]:
        return self.reset_to(self.draw_layout(key, params), params)

    def step_env(self, key: jax.Array, state: NiState, action: jax.Array | int, params: NiParams):
        action = jnp.asarray(action)
        right = (action == RIGHT).astype(jnp.int32) - (action == LEFT).astype(jnp.int32)
        up = (action == UP).astype(jnp.int32) - (action == DOWN).astype(jnp.int32)
        end = params.corridor_len + self.oracle_length
        time = state.time + 1
        x = jnp.where(state.y == 0, jnp.clip(state.x + right, 0, end), state.x)
        y = jnp.where(state.x == end, jnp.clip(state.y + up, -1, 1), 0)
        cue_time = jnp.where((x == 0) & (state.cue_time < 0), time, state.cue_time)
        state = state.replace(time=time, x=x, y=y, cue_time=cue_time)

        last = time >= horizon(params.corridor_len, self.oracle_length)
        success = last & (y == state.goal)
        lag = jnp.where(x < time - self.oracle_length, -params.lag_penalty / params.corridor_len, 0.0)
        distraction = jnp.where(x == 0, params.distract_reward, 0.0)
        reward = jnp.where(last, jnp.where(success, params.goal_reward, 0.0), lag + distraction)
        info = {"episode_success": success.astype(jnp.float32)}
        return self._observe(state, params), state, reward.astype(jnp.float32), last, info

    def _observe(self, state: NiState, params: NiParams) -> jax.Array:
        at_end = state.x == params.corridor_len + self.oracle_length
        cue = jnp.where(_sees_cue(state), state.goal, 0)
        return jnp.stack([at_end.astype(jnp.int32), jnp.where(at_end, state.y, cue)]).astype(jnp.float32)

    def action_space(self, params: NiParams | None = None) -> spaces.Discrete:
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params: NiParams | None = None) -> spaces.Box:
        return spaces.Box(-1.0, 1.0, (2,), jnp.float32)

    def render(self, state: NiState, params: NiParams) -> np.ndarray:
        """The maze as a picture, uint8 [height, width, 3]."""
        steps = horizon(params.corridor_len, self.oracle_length)
        scene = Scene(
            junction=params.corridor_len + self.oracle_length,
            x=int(state.x),
            y=int(state.y),
            cue=int(state.goal),
            cue_seen=bool(_sees_cue(state)),
            caption=f"step {int(state.time)} of {steps}",
        )
        return draw(scene)


def _sees_cue(state: NiState) -> jax.Array:
    """Whether this is the first visit to the cue's place."""
    return (state.x == 0) & (state.cue_time == state.time)
