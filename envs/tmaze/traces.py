"""TMaze-Traces: a T-Maze of coloured places, seen through a window of 3 x 3 (Eberhard et al., memory-traces).

A grid of 5 rows (down) and L + 2 columns (to the right), L = corridor_len: the corridor is row 2, columns 1 ..
L; the arms are the places (row 1, column L) and (row 3, column L); all else is wall. The place of the cue,
where the agent starts, is green or blue; of the arms one is green, the other blue. Entering an arm ends the
episode and pays 1 if it has the cue's colour, else 0. No other step pays or costs anything. The best return is
1, in L + 1 steps.

The agent looks right at first. Actions 0 forward, if there is no wall, 1 turn right, 2 turn left; with `no_ops`
also 3, 4 and 5, which do nothing (the grid world's pick up, put down and toggle).

Observation "symbolic", uint8 [3, 3, 2] = (tile, colour): rows from far to near, columns from left to right, the
agent in the middle of the last row, where the place below it is seen; walls do not block the view. Tiles: wall
(2, 6), floor (1, 7), green (1, 2), blue (1, 3), outside of the grid (0, 0). "one_hot", float32 [45]: the same
nine places, each one-hot over the five tiles in this order. The cue is seen from column 1, from column 2 unless
looking right, and from column 3 looking left. The time limit is 5 (L + 2)^2 by default.

Rules of https://github.com/onnoeberhard/memory-traces (MIT) on xminigrid 0.9.3 (Apache-2.0), whose agent has
the three first actions and sees the one-hot form.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from envs.tmaze.rendering import BLUE, GREEN, Scene, draw

FORWARD, TURN_RIGHT, TURN_LEFT = range(3)
UP, RIGHT, DOWN, LEFT = range(4)  # directions
ROWS, CORRIDOR_ROW = 5, 2
TILES = np.array([(2, 6), (1, 7), (1, 2), (1, 3), (0, 0)], np.uint8)
WALL, FLOOR, FIRST_COLOUR, OUTSIDE = 0, 1, 2, 4  # rows of TILES; the colours are green and blue


@struct.dataclass
class TracesParams(environment.EnvParams):
    max_steps_in_episode: int = 21_780
    corridor_len: int = 64


@struct.dataclass
class TracesState(environment.EnvState):
    """State of an episode, all int32.

    Attributes:
        time: steps taken.
        row, column: the agent's place.
        direction: where it looks, 0 up, 1 right, 2 down, 3 left.
        cue: 0 green, 1 blue.
        side: 1 if the upper arm is green, 0 if it is blue.
    """

    time: jax.Array
    row: jax.Array
    column: jax.Array
    direction: jax.Array
    cue: jax.Array
    side: jax.Array


def own_limit(corridor_len: int) -> int:
    """The default time limit in steps."""
    return 5 * (corridor_len + 2) ** 2


class TMazeTraces(environment.Environment[TracesState, TracesParams]):
    """See the module.

    Args:
        observation: "symbolic" or "one_hot".
        no_ops: whether the three actions without effect are among the action space.
    """

    def __init__(self, observation: str = "symbolic", no_ops: bool = False):
        super().__init__()
        self.observation, self.no_ops = observation, no_ops
        # Tiles and colours are names: how many values there are of each.
        self.observation_categories = (3, 8) if observation == "symbolic" else None

    @property
    def name(self) -> str:
        return "TMaze-Traces"

    @property
    def default_params(self) -> TracesParams:
        return TracesParams()

    @property
    def num_actions(self) -> int:
        return 6 if self.no_ops else 3

    def draw_layout(self, key: jax.Array, params: TracesParams) -> jax.Array:
        """(cue, side) as int32 [2], see `TracesState`."""
        return (jax.random.bits(key, (2,)) & 1).astype(jnp.int32)

    def reset_to(self, layout: jax.Array, params: TracesParams) -> tuple[jax.Array, TracesState]:
        """Starts an episode with these colours; see `draw_layout`."""
        cue, side = jnp.asarray(layout, jnp.int32)
        state = TracesState(
            time=jnp.int32(0),
            row=jnp.int32(CORRIDOR_ROW),
            column=jnp.int32(1),
            direction=jnp.int32(RIGHT),
            cue=cue,
            side=side,
        )
        return self._observe(state, params), state

    def reset_env(self, key: jax.Array, params: TracesParams) -> tuple[jax.Array, TracesState]:
        return self.reset_to(self.draw_layout(key, params), params)

    def step_env(self, key: jax.Array, state: TracesState, action: jax.Array | int, params: TracesParams):
        action = jnp.asarray(action)
        down, right = _ahead(state.direction)
        row, column = state.row + down, state.column + right
        moves = (action == FORWARD) & (_tile(state, row, column, params) != WALL)
        turn = (action == TURN_RIGHT).astype(jnp.int32) - (action == TURN_LEFT).astype(jnp.int32)
        state = state.replace(
            time=state.time + 1,
            row=jnp.where(moves, row, state.row),
            column=jnp.where(moves, column, state.column),
            direction=(state.direction + turn) % 4,
        )
        terminated = state.row != CORRIDOR_ROW
        success = terminated & (_tile(state, state.row, state.column, params) == FIRST_COLOUR + state.cue)
        reward = success.astype(jnp.float32)
        return self._observe(state, params), state, reward, terminated, {"episode_success": reward}

    def _observe(self, state: TracesState, params: TracesParams) -> jax.Array:
        down, right = _ahead(state.direction)
        far = np.array([[2], [1], [0]])  # places ahead of the agent
        aside = np.array([[-1, 0, 1]])  # places to its right
        rows = state.row + down * far + right * aside
        columns = state.column + right * far - down * aside
        tiles = _tile(state, rows, columns, params)  # [3, 3]
        if self.observation == "one_hot":
            return jax.nn.one_hot(tiles, len(TILES), dtype=jnp.float32).ravel()
        return jnp.asarray(TILES)[tiles]

    def action_space(self, params: TracesParams | None = None) -> spaces.Discrete:
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params: TracesParams | None = None) -> spaces.Box:
        if self.observation == "one_hot":
            return spaces.Box(0.0, 1.0, (9 * len(TILES),), jnp.float32)
        return spaces.Box(0, 7, (3, 3, 2), jnp.uint8)

    def render(self, state: TracesState, params: TracesParams) -> np.ndarray:
        """The maze as a picture, uint8 [height, width, 3]."""
        colours = (GREEN, BLUE) if int(state.side) else (BLUE, GREEN)
        seen = _sees_cue(int(state.column), int(state.direction))
        scene = Scene(
            junction=params.corridor_len - 1,
            x=int(state.column) - 1,
            y=CORRIDOR_ROW - int(state.row),
            heading=int(state.direction),
            cue=1 if int(state.cue) != int(state.side) else -1,
            cue_seen=seen and int(state.row) == CORRIDOR_ROW,
            colours=colours,
            caption=f"step {int(state.time)} of {params.max_steps_in_episode}",
        )
        return draw(scene)


def _ahead(direction: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The place ahead, relative to the agent's: (rows down, columns to the right)."""
    down = (direction == DOWN).astype(jnp.int32) - (direction == UP).astype(jnp.int32)
    right = (direction == RIGHT).astype(jnp.int32) - (direction == LEFT).astype(jnp.int32)
    return down, right


def _tile(state: TracesState, row: jax.Array, column: jax.Array, params: TracesParams) -> jax.Array:
    """Row of TILES that shows a place, or places of any shape."""
    upper, lower = FIRST_COLOUR + 1 - state.side, FIRST_COLOUR + state.side
    in_corridor = (row == CORRIDOR_ROW) & (column >= 1) & (column <= params.corridor_len)
    corridor = jnp.where(column == 1, FIRST_COLOUR + state.cue, FLOOR)
    in_arm = (column == params.corridor_len) & (abs(row - CORRIDOR_ROW) == 1)
    arm = jnp.where(row < CORRIDOR_ROW, upper, lower)
    inside = (row >= 0) & (row < ROWS) & (column >= 0) & (column < params.corridor_len + 2)
    tile = jnp.where(in_corridor, corridor, jnp.where(in_arm, arm, WALL))
    return jnp.where(inside, tile, OUTSIDE)


def _sees_cue(column: int, direction: int) -> bool:
    """Whether the view from a place of the corridor shows the cue."""
    return column == 1 or (column == 2 and direction != RIGHT) or (column == 3 and direction == LEFT)
