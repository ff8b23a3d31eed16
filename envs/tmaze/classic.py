"""TMaze-v1, TMaze-v2 and TMazeOurs: the cue is in the first observation, and an arm ends the episode.

`TMaze-v1` (Bakker, 2002: places are told apart only as start, corridor and junction), `TMaze-v2` (arXiv
2310.15719: the position is seen as a Gray code) and `TMazeOurs` (the arms beside the corridor's end are places of
their own, which are entered). An episode that runs into the time limit is a failure.

Observations are float32, actions integers. With N = corridor_len:

TMaze-v1 and TMaze-v2: positions 0 .. N - 1, start at 0, junction at N - 1; actions 0 up, 1 down, 2 left, 3 right.
Left and right move by one within the corridor; at the junction they do nothing. Up and down do nothing in the
corridor; at the junction they end the episode with +4 if they match the cue and -1 if not. Every other step is
-0.1. The best return is 4 - 0.1 (N - 1).
    v1 shows 3 bits (start 011 if the cue is up, 110 if down; corridor 101; junction 010) and the distractors,
    v2 shows the cue ([0, 1] up, [1, 0] down; zeros after the first observation), 8 bits Gray code of the position
    (the highest first) and the distractors.
    Distractors are zeros in the first observation, then fair bits, drawn anew in every step.

TMazeOurs: x from 0 to N, junction at N; actions 0 right, 1 up, 2 left, 3 down; blocked moves stay. Up (y = 1) and
down (y = -1) at the junction end the episode: goal_reward if y is the cue, else -goal_penalty. Every other step is
-timestep_penalty. It shows [y, cue (1 or -1 in the first observation, else 0), 1 at the junction else 0, noise],
the noise one of -1, 0, 1, also in the first observation.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from envs.tmaze.rendering import Scene, draw

POSITION_BITS = 8
GOAL_REWARD, WRONG_REWARD, STEP_REWARD = 4.0, -1.0, -0.1  # of v1 and v2
UP, DOWN, LEFT, RIGHT = range(4)  # v1 and v2
FORK_RIGHT, FORK_UP, FORK_LEFT, FORK_DOWN = range(4)


@struct.dataclass
class EnvParams(environment.EnvParams):
    max_steps_in_episode: int = 1000
    corridor_len: int = 10


@struct.dataclass
class EnvState(environment.EnvState):
    """time: steps taken; position: 0 .. corridor_len - 1; cue: 0 up, 1 down (all int32)."""

    time: jax.Array
    position: jax.Array
    cue: jax.Array


class _TMaze(environment.Environment[EnvState, EnvParams]):
    """What TMaze-v1 and TMaze-v2 share; a subclass says what is seen of the place.

    Args:
        num_distractors: random bits at the end of the observation.
    """

    place_size: int

    def __init__(self, num_distractors: int = 6):
        super().__init__()
        self.num_distractors = num_distractors

    def first_place(self, state: EnvState) -> jax.Array:
        """What the first observation shows of place and cue: [place_size]."""
        raise NotImplementedError

    def place(self, state: EnvState, params: EnvParams) -> jax.Array:
        """What every later observation shows of the place: [place_size]."""
        raise NotImplementedError

    def reset_env(self, key: jax.Array, params: EnvParams) -> tuple[jax.Array, EnvState]:
        cue = jax.random.bits(key).astype(jnp.int32) & 1
        state = EnvState(time=jnp.int32(0), position=jnp.int32(0), cue=cue)
        return jnp.concatenate([self.first_place(state), jnp.zeros(self.num_distractors)]), state

    def step_env(self, key: jax.Array, state: EnvState, action: jax.Array | int, params: EnvParams):
        action = jnp.asarray(action)
        at_junction = state.position == params.corridor_len - 1
        terminated = at_junction & ((action == UP) | (action == DOWN))
        success = terminated & (action == state.cue)
        reward = jnp.where(terminated, jnp.where(success, GOAL_REWARD, WRONG_REWARD), STEP_REWARD)
        move = (action == RIGHT).astype(jnp.int32) - (action == LEFT).astype(jnp.int32)
        position = jnp.where(at_junction, state.position, jnp.maximum(state.position + move, 0))
        state = state.replace(time=state.time + 1, position=position)
        obs = jnp.concatenate([self.place(state, params), _fair_bits(key, self.num_distractors)])
        return obs, state, reward, terminated, {"episode_success": success.astype(jnp.float32)}

    @property
    def num_actions(self) -> int:
        return 4

    def action_space(self, params: EnvParams | None = None) -> spaces.Discrete:
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params: EnvParams | None = None) -> spaces.Box:
        return spaces.Box(0.0, 1.0, (self.place_size + self.num_distractors,), jnp.float32)

    def render(self, state: EnvState, params: EnvParams) -> np.ndarray:
        """The maze as a picture, uint8 [height, width, 3]; the arms are no places, so nobody is seen in them."""
        scene = Scene(
            junction=params.corridor_len - 1,
            x=int(state.position),
            y=0,
            cue=1 if int(state.cue) == UP else -1,
            cue_seen=int(state.time) == 0,
            caption=f"step {int(state.time)} of {params.max_steps_in_episode}",
        )
        return draw(scene)


class TMazeV1(_TMaze):
    """Start, corridor and junction are told apart; the position is not seen."""

    place_size = 3

    @property
    def name(self) -> str:
        return "TMaze-v1"

    @property
    def default_params(self) -> EnvParams:
        return EnvParams(max_steps_in_episode=5000)

    def first_place(self, state: EnvState) -> jax.Array:
        return jnp.where(state.cue == UP, jnp.array([0.0, 1.0, 1.0]), jnp.array([1.0, 1.0, 0.0]))

    def place(self, state: EnvState, params: EnvParams) -> jax.Array:
        at_junction = state.position == params.corridor_len - 1
        return jnp.where(at_junction, jnp.array([0.0, 1.0, 0.0]), jnp.array([1.0, 0.0, 1.0]))


class TMazeV2(_TMaze):
    """The position is seen as a Gray code."""

    place_size = 2 + POSITION_BITS

    @property
    def name(self) -> str:
        return "TMaze-v2"

    @property
    def default_params(self) -> EnvParams:
        return EnvParams()

    def first_place(self, state: EnvState) -> jax.Array:
        cue = jnp.where(state.cue == UP, jnp.array([0.0, 1.0]), jnp.array([1.0, 0.0]))
        return jnp.concatenate([cue, _bits(_gray_code(state.position), POSITION_BITS)[::-1]])

    def place(self, state: EnvState, params: EnvParams) -> jax.Array:
        return jnp.concatenate([jnp.zeros(2), _bits(_gray_code(state.position), POSITION_BITS)[::-1]])


@struct.dataclass
class ForkParams(environment.EnvParams):
    max_steps_in_episode: int = 1000
    corridor_len: int = 160
    goal_reward: float = 4.0
    goal_penalty: float = 1.0
    timestep_penalty: float = 0.1


@struct.dataclass
class ForkState(environment.EnvState):
    """time: steps taken; x: 0 .. corridor_len; y: -1, 0 or 1; cue: -1 or 1 (all int32)."""

    time: jax.Array
    x: jax.Array
    y: jax.Array
    cue: jax.Array


class TMazeFork(environment.Environment[ForkState, ForkParams]):
    """The T-Maze whose arms lie beside the end of the corridor."""

    @property
    def name(self) -> str:
        return "TMazeOurs"

    @property
    def default_params(self) -> ForkParams:
        return ForkParams()

    def reset_env(self, key: jax.Array, params: ForkParams) -> tuple[jax.Array, ForkState]:
        cue_key, noise_key = jax.random.split(key)
        cue = 2 * (jax.random.bits(cue_key).astype(jnp.int32) & 1) - 1
        state = ForkState(time=jnp.int32(0), x=jnp.int32(0), y=jnp.int32(0), cue=cue)
        return self._observe(noise_key, state, cue, params), state

    def step_env(self, key: jax.Array, state: ForkState, action: jax.Array | int, params: ForkParams):
        action = jnp.asarray(action)
        right = (action == FORK_RIGHT).astype(jnp.int32) - (action == FORK_LEFT).astype(jnp.int32)
        up = (action == FORK_UP).astype(jnp.int32) - (action == FORK_DOWN).astype(jnp.int32)
        y = jnp.where(state.x == params.corridor_len, up, 0)
        x = jnp.clip(state.x + right, 0, params.corridor_len)
        state = state.replace(time=state.time + 1, x=x, y=y)
        terminated = y != 0
        success = terminated & (y == state.cue)
        goal = jnp.where(success, params.goal_reward, -params.goal_penalty)
        reward = jnp.where(terminated, goal, -params.timestep_penalty).astype(jnp.float32)
        obs = self._observe(key, state, jnp.int32(0), params)
        return obs, state, reward, terminated, {"episode_success": success.astype(jnp.float32)}

    def _observe(self, key: jax.Array, state: ForkState, cue: jax.Array, params: ForkParams) -> jax.Array:
        # One word, where randint draws a key and two: thirds to 2^-32.
        noise = (jax.random.bits(key, dtype=jnp.uint32) % 3).astype(jnp.int32) - 1
        at_junction = ((state.x == params.corridor_len) & (state.y == 0)).astype(jnp.int32)
        return jnp.stack([state.y, cue, at_junction, noise]).astype(jnp.float32)

    @property
    def num_actions(self) -> int:
        return 4

    def action_space(self, params: ForkParams | None = None) -> spaces.Discrete:
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params: ForkParams | None = None) -> spaces.Box:
        return spaces.Box(-1.0, 1.0, (4,), jnp.float32)

    def render(self, state: ForkState, params: ForkParams) -> np.ndarray:
        """The maze as a picture, uint8 [height, width, 3]."""
        scene = Scene(
            junction=params.corridor_len,
            x=int(state.x),
            y=int(state.y),
            cue=int(state.cue),
            cue_seen=int(state.time) == 0,
            caption=f"step {int(state.time)} of {params.max_steps_in_episode}",
        )
        return draw(scene)


def _gray_code(n: jax.Array) -> jax.Array:
    return n ^ (n >> 1)


def _bits(word: jax.Array, count: int) -> jax.Array:
    """The lowest `count` bits of a word of 32, the lowest first, as float32 [count]."""
    return ((word >> np.arange(count, dtype=word.dtype)) & 1).astype(jnp.float32)


def _fair_bits(key: jax.Array, count: int) -> jax.Array:
    """Independent fair bits as float32 [count], 32 from every word drawn; bernoulli takes a word for each."""
    words = jax.random.bits(key, (-(-count // 32),))
    return jnp.concatenate([_bits(word, 32) for word in words])[:count] if count else jnp.zeros(0)
