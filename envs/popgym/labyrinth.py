"""LabyrinthExplore and LabyrinthEscape: walk through a maze of which the 3 x 3 cells around are seen.

A maze of h x h rooms is a grid of G x G cells, G = 2h + 1; rooms are the cells with odd row and column, and the
passages between them form a tree. Places are (row, column).
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment

from envs.popgym.packing import increase, pack, read
from envs.popgym.pictures import Board
from envs.popgym.task import Layout, TimedParams, TimedTask, encode, success

FREE, WALL, START, GOAL = range(4)
CODE_BITS = 2
NUM_CODES = 5  # of a cell and of an action; cells have no fifth one
NO_ACTION = 4
MOVES = np.array([(0, -1), (0, 1), (-1, 0), (1, 0)], np.int32)  # left, right, up, down


@struct.dataclass
class LabyrinthState(environment.EnvState):
    """State of a labyrinth.

    Attributes:
        time: steps taken, int32.
        grid: codes of the cells row by row (FREE, WALL, START, GOAL), packed.
        position: (row, column) of the agent, int32 [2].
        visited: cells where the agent has been, packed as bits.
        free: number of free cells of the maze, int32.
        left: how many of them the agent has not been to, int32.
    """

    time: jax.Array
    grid: jax.Array
    position: jax.Array
    visited: jax.Array
    free: jax.Array
    left: jax.Array


class _Labyrinth(TimedTask):
    """What both tasks share: mazes, moves and views.

    Actions: 0 left, 1 right, 2 up, 3 down; a move into a wall or off the grid stays. The observation holds nine
    cells row by row and the action just taken, at the start `NO_ACTION`. The view is cut off at the grid's border
    and filled up with walls at the bottom and the right: on the upper and the left border, where only the start
    is, the agent is not in its middle.
    """

    ROOMS = {"Easy": 5, "Medium": 7, "Hard": 9}
    STEPS, SCALE = 1023, 1024
    shows_goal: bool

    def __init__(self, level: str = "Easy"):
        self.rooms = self.ROOMS[level]
        self.side = 2 * self.rooms + 1
        layout = {"grid": (self.side, self.side), "start": (2,), "end": (2,)}
        super().__init__(level, (9 + 1) * NUM_CODES, len(MOVES), self.STEPS, layout)

    def sample_layout(self, key: jax.Array, params: TimedParams) -> Layout:
        """Draws a maze.

        Returns:
            `grid` int32 [G, G] (FREE or WALL; start and end still are walls), `start`, `end` int32 [2]: places on
            opposite borders, beside a room each.
        """
        grid_key, side_key, room_key = jax.random.split(key, 3)
        side = jax.random.randint(side_key, (), 0, 4)
        first, last = 2 * jax.random.randint(room_key, (2,), 0, self.rooms) + 1
        near = jnp.where(side % 2 == 0, 0, self.side - 1)
        start, end = jnp.stack([near, first]), jnp.stack([self.side - 1 - near, last])
        upright = side < 2
        turned = (jnp.where(upright, place, place[::-1]).astype(jnp.int32) for place in (start, end))
        return {"grid": hunt_and_kill(grid_key, self.rooms), **dict(zip(("start", "end"), turned, strict=True))}

    def start(self, layout: Layout) -> tuple[jax.Array, LabyrinthState]:
        grid = jnp.asarray(layout["grid"], jnp.int32)
        start, end = (jnp.asarray(layout[name], jnp.int32) for name in ("start", "end"))
        free = jnp.sum(grid == FREE, dtype=jnp.int32)
        codes, cells = grid.ravel(), np.arange(self.side**2)
        if self.shows_goal:
            codes = jnp.where(cells == self._cell(end), GOAL, codes)
        codes = jnp.where(cells == self._cell(start), START, codes)
        state = LabyrinthState(
            time=jnp.int32(0),
            grid=pack(codes, CODE_BITS),
            position=start,
            visited=pack(cells == self._cell(start), 1),
            free=free,
            left=free,
        )
        return self._observe(state, jnp.int32(NO_ACTION)), state

    def _move(self, state: LabyrinthState, action: jax.Array) -> tuple[jax.Array, LabyrinthState]:
        """(whether the cell is new to the agent, the state after the move)."""
        target = jnp.clip(state.position + jnp.asarray(MOVES)[action], 0, self.side - 1)
        blocked = read(state.grid, self._cell(target), CODE_BITS) == WALL
        position = jnp.where(blocked, state.position, target)
        cell = self._cell(position)
        new = read(state.visited, cell, 1) == 0
        is_free = read(state.grid, cell, CODE_BITS) == FREE
        return new, state.replace(
            time=state.time + 1,
            position=position,
            visited=increase(state.visited, cell, new, 1),
            left=state.left - (new & is_free),
        )

    def _cell(self, place: jax.Array) -> jax.Array:
        return place[0] * self.side + place[1]

    def _view(self, state: LabyrinthState) -> tuple[jax.Array, jax.Array, jax.Array]:
        """(rows [3], columns [3] that are seen, whether each of the nine is within the view [3, 3])."""
        first = jnp.maximum(state.position - 1, 0)
        last = jnp.minimum(state.position + 1, self.side - 1)
        rows, columns = first[0] + np.arange(3), first[1] + np.arange(3)
        return rows, columns, (rows <= last[0])[:, None] & (columns <= last[1])

    def _observe(self, state: LabyrinthState, action: jax.Array) -> jax.Array:
        rows, columns, within = self._view(state)
        seen = read(state.grid, self._cell((rows[:, None], columns)), CODE_BITS)
        return encode((jnp.where(within, seen, WALL).ravel(), NUM_CODES), (action, NUM_CODES))

    def render(self, state: LabyrinthState, params: TimedParams | None = None) -> np.ndarray:
        """Draws a state for people: uint8 [y, x, rgb]; on the host.

        Walls are dark, free cells light and greenish where the agent, a blue disc, has been; the start is orange,
        the goal green. What the agent does not see is dimmed.
        """
        cells = np.arange(self.side**2)
        grid, visited = np.asarray(read(state.grid, cells, CODE_BITS)), np.asarray(read(state.visited, cells, 1))
        rows, columns, within = map(np.asarray, self._view(state))
        seen = {(int(rows[i]), int(columns[j])) for i, j in np.argwhere(within)}
        colours = {FREE: (235, 235, 225), WALL: (60, 60, 75), START: (240, 160, 60), GOAL: (60, 200, 80)}
        board = Board(self.side, self.side, tile=22, gap=0)
        for cell in cells:
            place = divmod(int(cell), self.side)
            been = grid[cell] == FREE and visited[cell]
            colour = (185, 220, 185) if been else colours[int(grid[cell])]
            board.fill(place, colour if place in seen else tuple(value * 3 // 5 for value in colour))
        board.disc(tuple(map(int, state.position)), (40, 90, 220))
        return board.picture()


class LabyrinthExplore(_Labyrinth):
    """Visits every free cell: each new one pays 1 / (number of them), every other step costs 1/1024."""

    shows_goal = False

    def step_env(self, key: jax.Array, state: LabyrinthState, action: jax.Array | int, params: TimedParams):
        action = jnp.asarray(action, jnp.int32)
        new, state = self._move(state, action)
        reward = jnp.where(new, 1 / state.free.astype(jnp.float32), np.float32(-1 / self.SCALE))
        all_visited = state.left == 0
        terminated = self._terminated(all_visited, state, params)
        return self._observe(state, action), state, reward, terminated, success(all_visited)


class LabyrinthEscape(_Labyrinth):
    """Walks to the goal, which pays 1; every step costs 1/1024."""

    shows_goal = True

    def step_env(self, key: jax.Array, state: LabyrinthState, action: jax.Array | int, params: TimedParams):
        action = jnp.asarray(action, jnp.int32)
        _, state = self._move(state, action)
        at_goal = read(state.grid, self._cell(state.position), CODE_BITS) == GOAL
        reward = at_goal.astype(jnp.float32) - np.float32(1 / self.SCALE)
        terminated = self._terminated(at_goal, state, params)
        return self._observe(state, action), state, reward, terminated, success(at_goal)


def hunt_and_kill(key: jax.Array, rooms: int) -> jax.Array:
    """Draws a maze of rooms x rooms: int32 [G, G], FREE or WALL, G = 2 rooms + 1.

    A walk opens rooms from an evenly drawn one on: always an evenly drawn one of the closed neighbours of the room
    it is in, and where there is none, it goes on from an evenly drawn open room that has some. The original draws
    rooms until it hits such a one and gives up after G^2 draws, which leaves a room closed in one of 13,400 mazes.
    """
    # A frame of no rooms around the rooms: then the neighbours of room r are at fixed distances in the list.
    stride = rooms + 2
    steps = np.array([-1, 1, -stride, stride], np.int32)
    inside = np.zeros((stride, stride), bool)
    inside[1:-1, 1:-1] = True
    first_key, walk_key = jax.random.split(key)
    row, column = jax.random.randint(first_key, (2,), 1, rooms + 1)
    first = row * stride + column
    places = np.arange(stride**2)

    def open_next(walk, luck):
        present, closed, origin = walk
        neighbours = jnp.stack([jnp.roll(closed, -step) for step in steps])  # closed or not: [4, places]
        has_closed = neighbours.any(0)
        frontier = inside.ravel() & ~closed & has_closed
        stuck = ~jnp.any((places == present) & has_closed)
        present = jnp.where(stuck, _any_of(frontier, luck[0]), present)
        direction = _any_of(jnp.any(neighbours & (places == present), 1), luck[1])
        opened = present + jnp.asarray(steps)[direction]
        origin = jnp.where(places == opened, direction, origin)
        return (opened, closed & (places != opened), origin), None

    walk = (first, inside.ravel() & (places != first), jnp.full(stride**2, -1, jnp.int32))
    luck = jax.random.uniform(walk_key, (rooms**2 - 1, 2))
    _, _, origin = jax.lax.scan(open_next, walk, luck)[0]

    # origin: the direction in which each room was entered, -1 in the first. A door lies on the other side of it.
    came = origin.reshape(stride, stride)[1:-1, 1:-1]
    grid = jnp.full((2 * rooms + 1, 2 * rooms + 1), WALL, jnp.int32).at[1::2, 1::2].set(FREE)
    beside = ((1, 2), (1, 0), (2, 1), (0, 1))  # entered by a step to the left: the door is on the right, and so on
    for direction, (y, x) in enumerate(beside):
        doors = grid[y : y + 2 * rooms : 2, x : x + 2 * rooms : 2]
        grid = grid.at[y : y + 2 * rooms : 2, x : x + 2 * rooms : 2].set(jnp.where(came == direction, FREE, doors))
    return grid


def _any_of(mask: jax.Array, luck: jax.Array) -> jax.Array:
    """The index of one of the true values of a mask, drawn evenly by a number from 0 to below 1."""
    order = jnp.cumsum(mask.astype(jnp.int32))
    wanted = (luck * order[-1]).astype(jnp.int32) + 1
    return jnp.sum(order < wanted, dtype=jnp.int32)
