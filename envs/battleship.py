"""Battleship of POBAX (arXiv 2508.00046): id `battleship`. Find hidden ships by shooting at cells.

A board of n x n cells hides ships of lengths 5, 4, 3, 2 (n = 10), 3, 2 (n = 5) or 2 (n = 3). They are placed in
this order, each in a fair orientation and then uniformly over the places of this orientation that overlap no
earlier ship; ships may touch. Action a shoots at row a // n, column a % n.

    reward   -1 per step, but +n n in the step in which the last cell of all ships is hit, which terminates:
             the return of an episode of T steps is n n - (T - 1)
    shows    [hit (1), cells not yet shot at (n n)]; `hit` is 1 if this shot is the first to hit a cell of a ship

The limit of 1000 steps truncates. The original gives the second part as a mask of legal actions. Here it is a
part of the observation and every shot is legal, as for the original's environment: one at a cell shot at before
changes nothing, shows no hit, and costs its step. What is seen tells where one has shot, not what was hit
there: that must be remembered. Where the last shot went is told by `PreviousActionReward` or by comparing two
observations.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from envs.checks import check_positive

IDS = ("battleship",)
SHIPS = {10: (5, 4, 3, 2), 5: (3, 2), 3: (2,)}
"""Lengths of the ships by the board's size, in the order in which they are placed."""


def options(env_id: str) -> dict[str, Any]:
    """n: cells a side, 3, 5 or 10; max_episode_steps: the time limit."""
    return {"n": 10, "max_episode_steps": 1000}


def make(env_id: str, n: int, max_episode_steps: int):
    """Builds Battleship; see `envs.make`."""
    if n not in SHIPS:
        raise ValueError(f"env.n={n}: must be one of {', '.join(map(str, SHIPS))}")
    check_positive("env.max_episode_steps", max_episode_steps)
    return Battleship(n), EnvParams(max_steps_in_episode=max_episode_steps)


def reference(env_id: str, n: int, max_episode_steps: int) -> dict[str, dict[str, Any]] | None:
    """Known returns with the default limit; see `envs.reference`."""
    if max_episode_steps != options(env_id)["max_episode_steps"]:
        return None
    # L cells of ships among N take N (1 + 1/2 + .. + 1/L) shots at any cells, (N + 1) L / (L + 1) at new ones.
    cells, ships = n**2, sum(SHIPS[n])
    any_shots = cells - (cells * sum(1 / i for i in range(1, ships + 1)) - 1)
    new_cells = cells - (ships / (ships + 1) * (cells + 1) - 1)
    without_memory = (new_cells, "computed", "uniformly at a cell not yet shot at: a lower bound")
    hunter = "any cell not yet shot at, the neighbours of a hit first, 2,000 episodes: a lower bound"
    with_memory = {
        10: (
            40.5,
            "measured",
            f"{hunter}; all cells of ships known 87; published RNN 12, with lambda-discrepancy 19",
        ),
        5: (10.7, "measured", hunter),
        3: (5.5, "computed", "all beliefs enumerated"),
    }[n]
    if n == 10:
        without_memory = (8.0, "published", "POBAX, 10 M steps, read off a plot; uniformly at a new cell 6.73")
    rows = {
        "random": (any_shots, "computed", "uniform over all cells"),
        "without_memory": without_memory,
        "with_memory": with_memory,
    }
    return {name: dict(zip(("value", "mark", "note"), row, strict=True)) for name, row in rows.items()}


@struct.dataclass
class EnvParams(environment.EnvParams):
    max_steps_in_episode: int = 1000


@struct.dataclass
class EnvState(environment.EnvState):
    """time: steps taken; board: bool [n, n], cells of ships; shot: bool [n, n], cells shot at."""

    time: jax.Array
    board: jax.Array
    shot: jax.Array


class Battleship(environment.Environment[EnvState, EnvParams]):
    """Battleship on n x n cells. Observations are float32 [1 + n n].

    `episode_success` is 1 in the step in which the last cell of all ships is hit.
    """

    def __init__(self, n: int = 10):
        super().__init__()
        self.n = n

    @property
    def name(self) -> str:
        return "battleship"

    @property
    def default_params(self) -> EnvParams:
        return EnvParams()

    @property
    def num_actions(self) -> int:
        return self.n**2

    def action_space(self, params: EnvParams | None = None) -> spaces.Discrete:
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params: EnvParams | None = None) -> spaces.Box:
        return spaces.Box(0.0, 1.0, (1 + self.n**2,), jnp.float32)

    def draw_layout(self, key: jax.Array, params: EnvParams) -> dict[str, jax.Array]:
        """`board`: bool [n, n]."""
        board = jnp.zeros((self.n, self.n), bool)
        for length, ship_key in zip(SHIPS[self.n], jax.random.split(key, len(SHIPS[self.n])), strict=True):
            board |= _draw_ship(ship_key, board, length)
        return {"board": board}

    def reset_to(self, layout: dict[str, jax.Array], params: EnvParams) -> tuple[jax.Array, EnvState]:
        """Starts an episode with these ships; draws nothing."""
        board = jnp.asarray(layout["board"], bool)
        state = EnvState(time=jnp.int32(0), board=board, shot=jnp.zeros_like(board))
        return self._observe(state, jnp.array(False)), state

    def reset_env(self, key: jax.Array, params: EnvParams) -> tuple[jax.Array, EnvState]:
        return self.reset_to(self.draw_layout(key, params), params)

    def step_env(self, key: jax.Array, state: EnvState, action: jax.Array | int, params: EnvParams):
        here = (jnp.arange(self.n**2) == jnp.asarray(action)).reshape(self.n, self.n)
        hit = (here & state.board & ~state.shot).any()
        state = state.replace(time=state.time + 1, shot=state.shot | here)
        terminated = ~(state.board & ~state.shot).any()
        reward = jnp.where(terminated, float(self.n**2), -1.0)
        info = {"episode_success": terminated.astype(jnp.float32)}
        return self._observe(state, hit), state, reward, terminated, info

    def _observe(self, state: EnvState, hit: jax.Array) -> jax.Array:
        return jnp.concatenate([hit[None], ~state.shot.ravel()]).astype(jnp.float32)

    def render(self, state: EnvState, params: EnvParams | None = None) -> np.ndarray:
        """Draws a state for people, on the host: uint8 [40 n, 40 n, 3].

        Water is blue, a ship grey where the agent has not shot yet; a hit is red with a cross, a miss a white dot.
        """
        y, x = np.mgrid[:_TILE, :_TILE] / (_TILE - 1) - 0.5  # of a cell's pixels, from its centre
        dot = np.hypot(x, y) < 0.12
        cross = (np.minimum(abs(x - y), abs(x + y)) < 0.1) & (np.maximum(abs(x), abs(y)) < 0.32)
        picture = np.full((self.n, _TILE, self.n, _TILE, 3), _WATER, np.uint8)
        for row, column in np.ndindex(self.n, self.n):
            ship, shot = bool(state.board[row, column]), bool(state.shot[row, column])
            cell = picture[row, :, column]
            if ship:
                cell[:] = _HIT if shot else _SHIP
            if shot:
                cell[cross if ship else dot] = 255
        picture[:, 0], picture[:, :, :, 0] = _LINE, _LINE
        return picture.reshape(self.n * _TILE, self.n * _TILE, 3)


_TILE = 40  # pixels
_WATER, _SHIP, _HIT, _LINE = (46, 105, 165), (120, 125, 130), (200, 50, 40), (35, 80, 130)


def _draw_ship(key: jax.Array, board: jax.Array, length: int) -> jax.Array:
    """The cells of one more ship beside those on the board: bool [n, n]."""
    n = board.shape[0]
    turn_key, place_key = jax.random.split(key)
    vertical = jax.random.bernoulli(turn_key)
    turned = jnp.where(vertical, board.T, board)  # here every ship lies along a row
    starts = n - length + 1
    free = ~jnp.stack([turned[:, i : i + starts] for i in range(length)]).any(0).ravel()  # [n * starts]
    which = jax.random.randint(place_key, (), 0, free.sum())
    place = jnp.argmax(jnp.cumsum(free) > which)  # the first place with `which` free ones before it
    row, column = place // starts, place % starts
    cells = jnp.arange(n)
    ship = (cells == row)[:, None] & (cells >= column) & (cells < column + length)
    return jnp.where(vertical, ship.T, ship)
