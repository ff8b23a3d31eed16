"""RockSample (Smith and Simmons 2004) as in POBAX (arXiv 2508.00046): id `rocksample`.

A rover on a grid of n x n cells, position (row, column); k rocks, each good or bad, lie on different cells with
column <= n - 2. The map, where the rocks lie, is drawn once by `make` (from `map_seed`; uniform over subsets of
k cells) and is the same in every episode. An episode draws which rocks are good (fair and independent) and the
start (uniform over the cells with column <= n - 2, those of rocks included). With d the Euclidean distance of
rock i in cells:

    actions  0 north (row - 1), 1 east (column + 1), 2 south, 3 west, within the grid; 4 sample; 5 + i check rock i
    sample   on a good rock +10, and it turns bad; on a bad one -10; elsewhere 0
    check    reads whether rock i is good; right with probability (1 + 2^(-d / 20)) / 2: always on the rock itself
    end      +10 on entering column n - 1, terminated; steps cost nothing
    shows    [one-hot row (n), one-hot column (n), readings (k)]; readings are zeros, but +1 (good) or -1 (bad) for
             the rock just checked

The limit of 1000 steps truncates. The original gives its agents the last action too (`PreviousActionReward`).

Memory is worth little here: the map is fixed, the position is seen, and the reading on a rock is right and in
view when the next action is chosen, so a tour of the map that checks each rock underfoot needs none (see
`reference`).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from envs.checks import check_positive

IDS = ("rocksample",)
NORTH, EAST, SOUTH, WEST, SAMPLE, CHECK = range(6)  # CHECK + i checks rock i
REWARD = 10.0
HALF_DISTANCE = 20.0  # cells at which a reading's edge over guessing is half of its greatest
_LARGEST = 128  # cells a side


def options(env_id: str) -> dict[str, Any]:
    """n: cells a side; k: rocks; map_seed: of the map; max_episode_steps: the time limit."""
    return {"n": 11, "k": 11, "map_seed": 0, "max_episode_steps": 1000}


def make(env_id: str, n: int, k: int, map_seed: int, max_episode_steps: int):
    """Builds RockSample; see `envs.make`."""
    if not 2 <= n <= _LARGEST:
        raise ValueError(f"env.n={n}: must be from 2 to {_LARGEST}")
    if not 1 <= k <= n * (n - 1):
        raise ValueError(
            f"env.k={k}: must be from 1 to {n * (n - 1)}, the cells that a map with n={n} has for rocks"
        )
    if map_seed < 0:
        raise ValueError(f"env.map_seed={map_seed}: must be at least 0")
    check_positive("env.max_episode_steps", max_episode_steps)
    return RockSample(draw_map(n, k, map_seed), n), EnvParams(max_steps_in_episode=max_episode_steps)


def reference(
    env_id: str, n: int, k: int, map_seed: int, max_episode_steps: int
) -> dict[str, dict[str, Any]] | None:
    """Known returns of the four published sizes; see `envs.reference`."""
    if (n, k) not in _KNOWN or max_episode_steps != options(env_id)["max_episode_steps"]:
        return None
    random, tour, discounted_tour, remembers, discounted = _KNOWN[n, k]
    note = "a closed tour of the map's rocks that checks each underfoot and samples it if good: a lower bound, "
    note += f"12 random maps x 20 episodes; {discounted_tour} discounted by 0.99"
    better = "nearest unchecked rock first, then out: a lower bound, 400 episodes on random maps; "
    better += f"{discounted} discounted by 0.99"
    if (n, k) == (11, 11):
        note += "; published 8.4"
        better += "; published RNN 12.7"
    return {
        "random": {"value": random, "mark": "measured", "note": "20,000 episodes on the map of map_seed 0"},
        "without_memory": {"value": tour, "mark": "measured", "note": note},
        "with_memory": {"value": remembers, "mark": "measured", "note": better},
    }


# (n, k): return of random actions; of a tour without memory, discounted too; with memory, discounted too.
_KNOWN = {
    (5, 5): (3.25, 33.8, 26.3, 35.2, 31.4),
    (7, 8): (-3.6, 46.8, 34.8, 50.3, 41.8),
    (11, 11): (-7.6, 62.4, 42.0, 63.9, 47.6),
    (15, 15): (-4.2, 75.0, 46.0, 85.4, 55.9),
}


def draw_map(n: int, k: int, seed: int) -> np.ndarray:
    """Rows and columns of k rocks on different cells with column <= n - 2: int32 [k, 2]."""
    order = np.argsort(np.asarray(jax.random.bits(jax.random.key(seed), (n * (n - 1),))), kind="stable")
    return np.stack(np.divmod(order[:k], n - 1), axis=1).astype(np.int32)


@struct.dataclass
class EnvParams(environment.EnvParams):
    max_steps_in_episode: int = 1000


@struct.dataclass
class EnvState(environment.EnvState):
    """time: steps taken; position: int32 [2] (row, column); rocks: int32 [k, 2], their places; good: bool [k]."""

    time: jax.Array
    position: jax.Array
    rocks: jax.Array
    good: jax.Array


class RockSample(environment.Environment[EnvState, EnvParams]):
    """RockSample on one map. Observations are float32 [2 n + k].

    Args:
        rocks: int [k, 2], rows and columns of the rocks.
        n: cells a side.
    """

    def __init__(self, rocks: np.ndarray, n: int):
        super().__init__()
        self.rocks, self.n = np.asarray(rocks, np.int32), n

    @property
    def name(self) -> str:
        return "rocksample"

    @property
    def default_params(self) -> EnvParams:
        return EnvParams()

    @property
    def num_actions(self) -> int:
        return CHECK + len(self.rocks)

    def action_space(self, params: EnvParams | None = None) -> spaces.Discrete:
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params: EnvParams | None = None) -> spaces.Box:
        size = 2 * self.n + len(self.rocks)
        low = np.where(np.arange(size) < 2 * self.n, 0.0, -1.0).astype(np.float32)
        return spaces.Box(low, np.ones(size, np.float32), (size,), jnp.float32)

    def draw_layout(self, key: jax.Array, params: EnvParams) -> dict[str, jax.Array]:
        """`rocks` int32 [k, 2] (the map), `start` int32 [2], `good` bool [k]."""
        start_key, good_key = jax.random.split(key)
        cell = jax.random.randint(start_key, (), 0, self.n * (self.n - 1))
        good = jax.random.bernoulli(good_key, shape=(len(self.rocks),))
        start = jnp.stack([cell // (self.n - 1), cell % (self.n - 1)])
        return {"rocks": jnp.asarray(self.rocks), "start": start, "good": good}

    def reset_to(self, layout: dict[str, jax.Array], params: EnvParams) -> tuple[jax.Array, EnvState]:
        """Starts an episode with these rocks (any map of k), start and good rocks; draws nothing."""
        position, rocks = (jnp.asarray(layout[name], jnp.int32) for name in ("start", "rocks"))
        state = EnvState(time=jnp.int32(0), position=position, rocks=rocks, good=jnp.asarray(layout["good"], bool))
        return self._observe(state, jnp.zeros(len(self.rocks))), state

    def reset_env(self, key: jax.Array, params: EnvParams) -> tuple[jax.Array, EnvState]:
        return self.reset_to(self.draw_layout(key, params), params)

    def step_env(self, key: jax.Array, state: EnvState, action: jax.Array | int, params: EnvParams):
        # A check moves nobody: the distance before the step is that after it.
        checked = jnp.arange(len(self.rocks)) == jnp.asarray(action) - CHECK  # [k]
        squares = jnp.sum((state.rocks - state.position) ** 2, axis=-1)  # [k]
        distance = jnp.sqrt(jnp.sum(squares * checked).astype(jnp.float32))
        right = jax.random.uniform(key) < (1 + 2 ** (-distance / HALF_DISTANCE)) / 2
        return self.step_with(right, state, action, params)

    def step_with(self, right: jax.Array, state: EnvState, action: jax.Array | int, params: EnvParams):
        """A step in which a reading, if one is taken, is right or not (bool); draws nothing."""
        action = jnp.asarray(action)
        sampled = (action == SAMPLE) & (state.rocks == state.position).all(-1)  # [k]
        reward = REWARD * jnp.sum(sampled * jnp.where(state.good, 1.0, -1.0))
        south = (action == SOUTH).astype(jnp.int32) - (action == NORTH).astype(jnp.int32)
        east = (action == EAST).astype(jnp.int32) - (action == WEST).astype(jnp.int32)
        position = jnp.clip(state.position + jnp.stack([south, east]), 0, self.n - 1)
        state = state.replace(time=state.time + 1, position=position, good=state.good & ~sampled)
        terminated = position[1] == self.n - 1
        checked = jnp.arange(len(self.rocks)) == action - CHECK  # [k]
        readings = checked * jnp.where(state.good == right, 1.0, -1.0)
        return self._observe(state, readings), state, reward + REWARD * terminated, terminated, {}

    def _observe(self, state: EnvState, readings: jax.Array) -> jax.Array:
        place = state.position[:, None] == jnp.arange(self.n)  # [2, n]
        return jnp.concatenate([place.ravel().astype(jnp.float32), readings])

    def render(self, state: EnvState, params: EnvParams | None = None) -> np.ndarray:
        """Draws a state for people, on the host: uint8 [n t, n t, 3] with t pixels a cell.

        Sand, and a green column: the way out. The rover is a blue square; a good rock is a green disc, a bad one a
        dark red one. Which is which the agent does not see.
        """
        t = max(8, 440 // self.n)
        y, x = np.mgrid[:t, :t] / (t - 1) - 0.5  # of a cell's pixels, from its centre
        disc, square = np.hypot(x, y) < 0.36, np.maximum(abs(x), abs(y)) < 0.22
        picture = np.full((self.n, t, self.n, t, 3), _SAND, np.uint8)
        picture[:, :, -1] = _WAY_OUT
        picture[:, 0], picture[:, :, :, 0] = _LINE, _LINE
        for (row, column), good in zip(np.asarray(state.rocks), np.asarray(state.good), strict=True):
            picture[row, :, column][disc] = _GOOD if good else _BAD
        row, column = np.asarray(state.position)
        picture[row, :, column][square] = _ROVER
        return picture.reshape(self.n * t, self.n * t, 3)


_SAND, _WAY_OUT, _LINE = (226, 205, 160), (180, 220, 170), (200, 178, 130)
_GOOD, _BAD, _ROVER = (40, 150, 70), (120, 40, 35), (40, 90, 200)
