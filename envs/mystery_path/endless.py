"""Rules of the endless form: a path of segments to the right, drawn as the agent comes to them.

Columns 8 k to 8 k + 6 hold segment k, a layout from the left side to the right one; column 8 k + 7 holds its last
cell, from which the next segment goes on. Cell (x, y) has the id 7 x + y, so that segment k is cells 56 k to
56 k + 55.
"""

import bisect
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment

from envs.mystery_path import generator, rendering
from envs.mystery_path.environment import MysteryPath
from envs.mystery_path.generator import SIZE
from envs.mystery_path.rendering import SCREEN, TILE

SEGMENTS = 64
"""Segments at most. The last cell of the last one truncates the episode, see envs/mystery_path/__init__.py."""

SEGMENT_CELLS = SIZE * (SIZE + 1)
COLUMNS = (SIZE + 1) * SEGMENTS
_WINDOW = 15  # columns that can hold what is seen of the past path: 7 on both sides of the agent's


class EndlessLayout(NamedTuple):
    """What an episode hides.

    Attributes:
        start: the row the path starts in, int32.
        segments: the first of the path's segments, n of them: every cell's place on its segment, 1 at the first
            and one more with every step, 0 off the path; uint8 [n, 56].
        key: random key from which the further ones are drawn.
    """

    start: jax.Array
    segments: jax.Array
    key: jax.Array


def bar_levels(stamina_level: int) -> tuple[int, ...]:
    """The greatest stamina with which each pixel row of the stamina bar is red, rounded as in the original."""

    def is_green(stamina: int, row: int) -> bool:
        return int(SCREEN * (1 - stamina / stamina_level)) <= row

    levels = range(stamina_level)
    return tuple(bisect.bisect(levels, False, key=lambda s: is_green(s, row)) - 1 for row in range(SCREEN))


@struct.dataclass
class EndlessParams(environment.EnvParams):
    """The original's reset parameters; those with other names:

    Attributes:
        max_steps_in_episode: max_steps.
        straight_step: pixels of a step, as agent_speed gives them, 0 to 12.
        camera_offset: pixels from the screen's left edge to that of the agent's cell, as camera_offset_scale gives
            them, 0 to 66.
        past_columns: columns of the past path that are drawn beside the agent's and the one behind it, 0 to 5.
        bar_levels: those of stamina_level.
        time_limit_terminates: whether the time limit terminates, as in the original, rather than truncates.
    """

    max_steps_in_episode: int = 2**31 - 1
    straight_step: int = 3
    camera_offset: int = 60
    past_columns: int = 5
    bar_levels: tuple[int, ...] = bar_levels(20)
    show_past_path: bool = True
    show_background: bool = False
    show_stamina: bool = False
    visual_feedback: bool = True
    stamina_level: int = 20
    reward_fall_off: float = 0.0
    reward_path_progress: float = 0.1
    reward_step: float = 0.0
    time_limit_terminates: bool = False


@struct.dataclass
class EndlessState(environment.EnvState):
    """State of an episode, which may be batched.

    Attributes:
        time: steps taken.
        x, y: the agent's centre in pixels, to the right from the path's first column and down.
        heading: eighths of a turn to the left of up, 0 to 7.
        off_path: whether the last step left the path; the next one puts the agent back.
        num_fails: times it did.
        stamina: steps left, unless the agent comes to a cell it has not been to since its last fall.
        max_x: greatest column in which the agent was on the path.
        tiles_visited: cells that have paid.
        dead: whether the last step ended the episode otherwise than by its length.
        last_cell: the cell of the path that the agent was on last.
        rested: rows of the agent's column that it has been to since its last fall, as bits.
        fallen: rows in which it fell off in columns max_x and max_x + 1, as bits, row -1 first; int32 [2].
        start: the row the path starts in.
        place: of every cell on its segment of the path, from 1; 0 off the path; uint8 [56 * SEGMENTS].
        visited: cells that have paid their reward for progress, and the first; bool [56 * SEGMENTS].
        drawn: segments drawn so far.
        end: the row the last of them ends in.
        key: data of the random key of the further ones, uint32.
    """

    time: jax.Array
    x: jax.Array
    y: jax.Array
    heading: jax.Array
    off_path: jax.Array
    num_fails: jax.Array
    stamina: jax.Array
    max_x: jax.Array
    tiles_visited: jax.Array
    dead: jax.Array
    last_cell: jax.Array
    rested: jax.Array
    fallen: jax.Array
    start: jax.Array
    place: jax.Array
    visited: jax.Array
    drawn: jax.Array
    end: jax.Array
    key: jax.Array

    @property
    def position(self) -> jax.Array:
        """Centre (x, y) of the agent in pixels, int32 [..., 2]."""
        return jnp.stack([self.x, self.y], -1)

    @property
    def rotation(self) -> jax.Array:
        """Degrees to the left of up, int32: 0 up, 180 down, 270 right."""
        return 45 * self.heading


class EndlessMysteryPath(MysteryPath):
    """Moves by pixels. Actions: 0 nothing, 1 right, 2 up, 3 down."""

    num_actions = 4

    def move(self, state: EndlessState, action: jax.Array, params: EndlessParams) -> tuple[jax.Array, ...]:
        x = state.x + params.straight_step * (action == 1)
        y = state.y + params.straight_step * ((action == 3).astype(jnp.int32) - (action == 2))
        heading = jnp.asarray(np.array([-1, 6, 0, 4], np.int32))[action]
        return x, y, jnp.where(heading < 0, state.heading, heading)

    def reset_env(self, key: jax.Array, params: EndlessParams) -> tuple[jax.Array, EndlessState]:
        key, start_key = jax.random.split(key)
        start = jax.random.randint(start_key, (), 0, SIZE)
        return self.reset_to(EndlessLayout(start, jnp.zeros((0, SEGMENT_CELLS), jnp.uint8), key), params)

    def reset_to(self, layout: EndlessLayout, params: EndlessParams) -> tuple[jax.Array, EndlessState]:
        """Starts an episode with a given layout.

        Returns:
            (observation, state).

        Raises:
            ValueError: the segments are no [n, 56] with n at most SEGMENTS.
        """
        shape = jnp.shape(layout.segments)
        if shape[1:] != (SEGMENT_CELLS,) or shape[0] > SEGMENTS:
            allowed = f"must be of shape (n, {SEGMENT_CELLS}) with n at most {SEGMENTS}, uint8"
            raise ValueError(f"layout.segments of shape {shape}: {allowed}")
        start, zero = jnp.asarray(layout.start, jnp.int32), jnp.int32(0)
        segments = jnp.asarray(layout.segments, jnp.uint8)
        place = jnp.zeros(SEGMENTS * SEGMENT_CELLS, jnp.uint8).at[: segments.size].set(segments.ravel())
        state = EndlessState(
            time=zero,
            x=jnp.int32(TILE // 2),
            y=TILE * start + TILE // 2,
            heading=jnp.int32(6),
            off_path=jnp.bool_(False),
            num_fails=zero,
            stamina=jnp.asarray(params.stamina_level, jnp.int32),
            max_x=zero,
            tiles_visited=zero,
            dead=jnp.bool_(False),
            last_cell=start,
            rested=zero,
            fallen=jnp.zeros(2, jnp.int32),
            start=start,
            place=place,
            visited=jnp.zeros(place.shape, bool).at[start].set(True),
            drawn=jnp.int32(shape[0]),
            end=jnp.argmax(segments[-1, -SIZE:]).astype(jnp.int32) if shape[0] else start,
            key=jax.random.key_data(layout.key),
        )
        state = _extend(state)
        return self.get_obs(state, params), state

    def step_env(self, key: jax.Array, state: EndlessState, action: jax.Array | int, params: EndlessParams):
        x, y, heading = self.move(state, jnp.asarray(action, jnp.int32), params)
        # The step after a fall does nothing but put the agent back on the first cell.
        x = jnp.where(state.off_path, TILE // 2, x)
        y = jnp.where(state.off_path, TILE * state.start + TILE // 2, y)
        heading = jnp.where(state.off_path, state.heading, heading)

        column, row = x // TILE, y // TILE  # the row may be -1 or 7, off the screen
        inside = jnp.clip(row, 0, SIZE - 1)
        cell = SIZE * column + inside
        on_path = (row == inside) & (state.place[cell] > 0)
        off_path = ~on_path
        progress = on_path & ~state.visited[cell]
        reward = jnp.where(progress, params.reward_path_progress, 0.0)
        reward = jnp.where(off_path, params.reward_fall_off, reward) + params.reward_step

        # A cell gives stamina once between falls. Columns behind the agent are then out of its reach.
        rested = jnp.where(column == state.x // TILE, state.rested, 0)
        new = on_path & (rested >> inside & 1 == 0)
        rested = jnp.where(off_path, 0, rested | 1 << inside)
        stamina = jnp.where(new | off_path, params.stamina_level, state.stamina) - 1

        # A fall ends the episode if it is left of the farthest column, or where one has been before. So falls need
        # not be remembered but in the farthest column and the one a step ahead of it.
        ahead = jnp.clip(column - state.max_x, 0, 1)
        here = jnp.where(off_path, 1 << (row + 1), 0)
        again = (column < state.max_x) | (state.fallen[ahead] & here != 0)
        fallen = state.fallen.at[ahead].set(state.fallen[ahead] | here)
        farther = on_path & (column > state.max_x)
        fallen = jnp.where(farther, jnp.stack([fallen[1], jnp.int32(0)]), fallen)

        state = state.replace(
            time=state.time + 1,
            x=x,
            y=y,
            heading=heading,
            off_path=off_path,
            num_fails=state.num_fails + off_path,
            stamina=stamina,
            max_x=jnp.where(farther, column, state.max_x),
            tiles_visited=state.tiles_visited + progress,
            dead=(off_path & again) | (stamina == 0),
            last_cell=jnp.where(on_path, cell, state.last_cell),
            rested=rested,
            fallen=fallen,
            visited=state.visited.at[cell].set(state.visited[cell] | on_path),
        )
        state = _extend(state)
        terminated = state.dead | (self._time_is_up(state, params) & params.time_limit_terminates)
        info = {
            "episode_fails": state.num_fails.astype(jnp.float32),
            "episode_tiles_visited": state.tiles_visited.astype(jnp.float32),
            "episode_max_x": state.max_x.astype(jnp.float32),
        }
        return self.get_obs(state, params), state, reward.astype(jnp.float32), terminated, info

    def is_truncated(self, state: EndlessState, params: EndlessParams) -> jax.Array:
        return self._time_is_up(state, params) & ~state.dead & jnp.logical_not(params.time_limit_terminates)

    def _time_is_up(self, state: EndlessState, params: EndlessParams) -> jax.Array:
        return super()._time_is_up(state, params) | (state.max_x == COLUMNS - 1)

    def get_obs(
        self, state: EndlessState, params: EndlessParams | None = None, key: jax.Array | None = None
    ) -> jax.Array:
        """What the agent sees of a state."""
        params = self.default_params if params is None else params
        left = state.x - TILE // 2 - params.camera_offset  # of the screen, in pixels of the path
        # The ice moves with the agent and jumps back when it has moved a tile or more.
        period = jnp.maximum(-(-TILE // jnp.maximum(params.straight_step, 1)) * params.straight_step, 1)
        return rendering.endless_frame(
            past=_past_path(state, params, left // TILE),
            shift=left % TILE,
            x=params.camera_offset + TILE // 2,
            y=state.y,
            heading=state.heading,
            cross=state.off_path & params.visual_feedback,
            ice=(state.x - TILE // 2) % period,
            show_ice=params.show_background,
            red=jnp.sum(state.stamina <= jnp.asarray(params.bar_levels, jnp.int32), dtype=jnp.int32),
            show_bar=params.show_stamina,
        )

    def render(self, state: EndlessState, params: EndlessParams | None = None) -> np.ndarray:
        """Draws a state for people: uint8 [420, 420, 3], rows y, columns x; on the host.

        Other than the agent, the viewer sees the hidden path in dark grey (lighter where it has paid its reward)
        and its first cell in dark blue, where the agent sees black.
        """
        params = self.default_params if params is None else params
        left = int(state.x) - TILE // 2 - int(params.camera_offset)
        cells = SIZE * (left // TILE) + np.arange(8 * SIZE)
        known = (cells >= 0) & (cells < len(state.place))
        path, visited = (np.where(known, np.asarray(x)[cells * known], 0) for x in (state.place, state.visited))
        first = np.flatnonzero(cells == int(state.start))
        origin = int(first[0]) if len(first) else None
        observed = np.asarray(jax.jit(self.get_obs)(state, params))
        return rendering.picture(observed, path > 0, visited > 0, origin, None, left % TILE)


def _extend(state: EndlessState) -> EndlessState:
    """Draws segments until there is one beyond the agent's.

    Where many environments are stepped together, the loop runs as often as the one that lacks most needs it: in
    most steps not at all.
    """
    wanted = jnp.minimum(state.max_x // (SIZE + 1) + 2, SEGMENTS)

    def draw(path):
        drawn, place, end, key = path
        key, segment_key = jax.random.split(jax.random.wrap_key_data(key))
        segment, end = generator.segment(segment_key, end)
        place = jax.lax.dynamic_update_slice(place, segment, (SEGMENT_CELLS * drawn,))
        return drawn + 1, place, end, jax.random.key_data(key)

    path = (state.drawn, state.place, state.end, state.key)
    drawn, place, end, key = jax.lax.while_loop(lambda path: path[0] < wanted, draw, path)
    return state.replace(drawn=drawn, place=place, end=end, key=key)


def _past_path(state: EndlessState, params: EndlessParams, first: jax.Array) -> jax.Array:
    """Rows of the past path that are drawn in 8 columns from `first`, as bits: int32 [8].

    The path is drawn back from the cell before the agent's last one to the first cell that is past_columns + 1
    columns left of the agent, or to its beginning.
    """
    column = state.x // TILE
    begin = jnp.clip(column - _WINDOW // 2, 0, COLUMNS - _WINDOW)
    cells = SIZE * begin + np.arange(SIZE * _WINDOW, dtype=np.int32)
    place = jax.lax.dynamic_slice(state.place, (SIZE * begin,), (SIZE * _WINDOW,))
    order = jnp.where(place > 0, _order(cells, place), -1)
    before = (order >= 0) & (order < _order(state.last_cell, state.place[state.last_cell]))
    far = cells // SIZE <= jnp.maximum(column - 1 - params.past_columns, 0)
    farthest = jnp.max(jnp.where(before & far, order, -1))
    seen = before & (order >= farthest) & (column > 0) & params.show_past_path
    bits = jnp.sum(seen.reshape(_WINDOW, SIZE) << np.arange(SIZE, dtype=np.int32), 1, dtype=jnp.int32)
    columns = first - begin + np.arange(SCREEN // TILE + 1, dtype=np.int32)
    return jnp.where((columns >= 0) & (columns < _WINDOW), bits[jnp.clip(columns, 0, _WINDOW - 1)], 0)


def _order(cell: jax.Array, place: jax.Array) -> jax.Array:
    """Integers that grow along the path."""
    return cell // SEGMENT_CELLS * SEGMENT_CELLS + place
