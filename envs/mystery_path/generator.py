"""Layouts of Mystery Path: a hidden path between two sides of a 7 x 7 grid, drawn as Memory Gym 1.0.2 draws it.

Cell (x, y), x to the right and y down, has the id 7 x + y; every array [49] is in this order.

Walls are drawn at random, then a path around them is searched with random step costs. The search is Memory
Gym's, which is not A* in two respects that the law of the paths depends on: the next node is the first of the
open list that is better than its head, not the best; and a cheaper way to an open node changes its parent,
but not its cost.

Every iteration of the search is a few integer operations on the whole grid, without gather or scatter: that
is what vectorises where many layouts are drawn at once.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

SIZE = 7
CELLS = SIZE * SIZE
MAX_EXPANSIONS = CELLS - 1  # every cell but the goal
WALL_PROBABILITY = 0.33
INTERIOR = tuple(SIZE * x + y for x in range(1, 5) for y in range(1, 5))  # row and column 5 never have walls
BORDER = tuple(SIZE * x + y for x in range(SIZE) for y in range(SIZE) if {x, y} & {0, SIZE - 1})
_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1))  # the order in which neighbours are looked at


class Layout(NamedTuple):
    """What an episode hides.

    Attributes:
        path: the cells of the path with both ends, bool [49], cell id = 7 x + y.
        origin: the cell the agent starts in, int32.
        goal: the cell it must reach, int32.
    """

    path: jax.Array
    origin: jax.Array
    goal: jax.Array


class Search(NamedTuple):
    """Result of `find_path`.

    Attributes:
        path: bool [49].
        parent: the cell from which each cell was reached, int32 [49]; -1 for the origin and cells never reached.
        expansions: number of cells whose neighbours were looked at, int32.
        place: of each cell on the path, 1 at the origin and one more with every step; 0 off the path; int32 [49].
    """

    path: jax.Array
    parent: jax.Array
    expansions: jax.Array
    place: jax.Array


# The search works on a grid of 7 columns of 8 cells, cell 8 x + y, whose last row is wall: then the neighbours of
# cell c are c + 8, c - 8, c + 1 and c - 1 without exception, and 56 integers fill vector registers evenly.
_STRIDE = SIZE + 1
_PADDED = SIZE * _STRIDE
_X, _Y = np.divmod(np.arange(_PADDED, dtype=np.int32), _STRIDE)

# An open node is one integer: [order of insertion, 6 bits][cell, 6 bits][f, 18 bits], so that the least is
# the head of the list. f is cost + distance in units of 1/512: two different ones are at least 0.0025 apart
# on this grid, more than both rounding errors together, and equal ones stay equal, so the order is that of
# real numbers.
_F_BITS, _CELL_BITS = 18, 6
_F_UNIT = 512
_F_MASK = (1 << _F_BITS) - 1
_NOT_OPEN = np.int32(2**31 - 1)
_SQUARES = np.arange(2 * (SIZE - 1) ** 2 + 1)
_DISTANCE = np.rint(_F_UNIT * np.sqrt(_SQUARES)).astype(np.int32)  # of a squared distance


def find_path(origin: jax.Array, goal: jax.Array, walls: jax.Array, noise: jax.Array) -> Search:
    """Memory Gym's path search; deterministic.

    Args:
        origin, goal: cell ids, int32.
        walls: bool [49].
        noise: cost of the step from each cell in the directions +x, -x, +y, -y; integers 1 to 8, [49, 4].
    """
    cells = np.arange(_PADDED, dtype=np.int32)
    start, end = _to_padded(origin), _to_padded(goal)
    walls = jnp.pad(walls.reshape(SIZE, SIZE), ((0, 0), (0, 1)), constant_values=True)
    # cost[c]: the four costs of coming to cell c, 4 bits for each direction
    noise = jnp.pad(noise.astype(jnp.int32).reshape(SIZE, SIZE, 4), ((0, 0), (0, 1), (0, 0)))
    cost = sum(
        jnp.roll(noise[..., k], (dx, dy), axis=(0, 1)) << (4 * k) for k, (dx, dy) in enumerate(_DIRECTIONS)
    ).reshape(_PADDED)
    distance = jnp.asarray(_DISTANCE)[(_X - end // _STRIDE) ** 2 + (_Y - end % _STRIDE) ** 2]  # [56]

    class Nodes(NamedTuple):
        key: jax.Array  # open nodes, else _NOT_OPEN
        reachable: jax.Array  # neither wall nor closed
        g: jax.Array
        parent: jax.Array  # all [56]
        count: jax.Array  # inserted so far
        expansions: jax.Array

    def expand(_, nodes: Nodes) -> Nodes:
        head = jnp.min(nodes.key)
        better = (nodes.key & _F_MASK) < (head & _F_MASK)
        first_better = jnp.min(jnp.where(better, nodes.key, _NOT_OPEN))
        current = (jnp.where(first_better == _NOT_OPEN, head, first_better) >> _F_BITS) & ((1 << _CELL_BITS) - 1)
        running = current != end
        here = (cells == current) & running
        g = jnp.sum(jnp.where(here, nodes.g, 0), dtype=jnp.int32)

        step = cells - current
        shift = jnp.where(step == _STRIDE, 0, jnp.where(step == -_STRIDE, 4, jnp.where(step == 1, 8, 12)))
        beside = (jnp.abs(step) == _STRIDE) | (jnp.abs(step) == 1)
        looked_at = beside & nodes.reachable & running
        g = g + ((cost >> shift) & 15)  # [56]
        is_open = nodes.key != _NOT_OPEN
        new = looked_at & ~is_open
        # Which directions have new nodes, and how many come before each: shift / 4 is its place in the order.
        bits = jnp.sum(jnp.where(new, 1 << (shift >> 2), 0), dtype=jnp.int32)
        before = jnp.zeros_like(cells)
        for k in range(3):
            before += jnp.where(shift > 4 * k, (bits >> k) & 1, 0)
        key = ((nodes.count + before) << (_F_BITS + _CELL_BITS)) | (cells << _F_BITS) | (_F_UNIT * g + distance)
        return Nodes(
            key=jnp.where(here, _NOT_OPEN, jnp.where(new, key, nodes.key)),
            reachable=nodes.reachable & ~here,
            g=jnp.where(new, g, nodes.g),
            parent=jnp.where(new | (looked_at & (g < nodes.g)), current, nodes.parent),
            count=nodes.count + jax.lax.population_count(bits),
            expansions=nodes.expansions + running,
        )

    at_start = cells == start
    nodes = Nodes(
        key=jnp.where(at_start, cells << _F_BITS, _NOT_OPEN),  # its f is 0 and plays no part
        reachable=~walls.reshape(_PADDED),
        g=jnp.zeros(_PADDED, jnp.int32),
        parent=jnp.full(_PADDED, -1, jnp.int32),
        count=jnp.int32(1),
        expansions=jnp.int32(0),
    )
    nodes = jax.lax.fori_loop(0, MAX_EXPANSIONS, expand, nodes)

    def go_back(walk):
        cell, place = walk
        here = cells == cell
        # The places behind it move up by one.
        return jnp.sum(jnp.where(here, nodes.parent, 0), dtype=jnp.int32), place + ((place > 0) | here)

    _, place = jax.lax.while_loop(lambda walk: walk[0] >= 0, go_back, (end, jnp.zeros(_PADDED, jnp.int32)))
    parent = nodes.parent - (nodes.parent + 1) // _STRIDE  # cell ids of the grid without padding; -1 stays
    place = _without_padding(place)
    return Search(place > 0, _without_padding(parent), nodes.expansions, place)


def border_candidates(origin: jax.Array, goal: jax.Array, interior: jax.Array) -> jax.Array:
    """Border cells that may become walls.

    Neither origin nor goal nor beside them, and without an interior wall among the eight cells around.

    Args:
        origin, goal: cell ids, int32.
        interior: bool [49], walls inside the grid.

    Returns:
        bool [49].
    """
    walls = jnp.pad(interior.reshape(SIZE, SIZE), 1)
    walls = walls[:-2] | walls[1:-1] | walls[2:]
    walls = (walls[:, :-2] | walls[:, 1:-1] | walls[:, 2:]).reshape(CELLS)
    x, y = np.divmod(np.arange(CELLS, dtype=np.int32), SIZE)
    near = [jnp.abs(x - cell // SIZE) + jnp.abs(y - cell % SIZE) <= 1 for cell in (origin, goal)]
    return _IS_BORDER & ~walls & ~near[0] & ~near[1]


class Draws(NamedTuple):
    """The random part of a layout: what `draw` returns and `layout` takes.

    Attributes:
        origin, goal: cell ids, int32.
        walls, interior: bool [49]; the interior ones are among the walls.
        noise: int32 [49, 4], costs 1 to 8 of the steps from each cell in the directions +x, -x, +y, -y.
    """

    origin: jax.Array
    goal: jax.Array
    walls: jax.Array
    interior: jax.Array
    noise: jax.Array


def draw(key: jax.Array, sides: tuple[int, ...], start: jax.Array | None = None) -> Draws:
    """Draws ends, walls and step costs.

    Args:
        key: random key.
        sides: sides to draw the origin's from, each equally likely: 0 left, 1 right, 2 top, 3 bottom. The goal is
            on the opposite side.
        start: the origin's place on its side, int32 0 to 6; drawn if left out.
    """
    # Of words of 32 bits taken modulo a small number, no outcome is likelier than another by more than 2e-9.
    words = jax.random.bits(key, (4 + len(INTERIOR) + len(BORDER) + CELLS,))
    side, origin, goal, count, interior, priority, noise = jnp.split(
        words, np.cumsum([1, 1, 1, 1, len(INTERIOR), len(BORDER)])
    )
    side = jnp.asarray(sides, jnp.int32)[(side[0] % len(sides)).astype(jnp.int32)]
    origin, goal = (word[0].astype(jnp.int32) % SIZE for word in (origin >> 1, goal >> 1))
    origin = origin if start is None else start
    last = SIZE - 1
    near, far = (side % 2) * last, (1 - side % 2) * last  # coordinates of the origin's side and the goal's
    horizontal = side < 2
    origin = jnp.where(horizontal, SIZE * near + origin, SIZE * origin + near)
    goal = jnp.where(horizontal, SIZE * far + goal, SIZE * goal + far)

    is_wall = interior < np.uint32(round(WALL_PROBABILITY * 2**32))
    interior = jnp.zeros(CELLS, bool).at[np.array(INTERIOR)].set(is_wall)
    # The 4 or 8 candidates of least priority: a uniform choice without replacement. There are always 8 or more.
    candidate = border_candidates(origin, goal, interior)[np.array(BORDER)]  # [24]
    priority = (priority & np.uint32(0xFFFFFFE0)) | np.arange(len(BORDER), dtype=np.uint32)  # no two are equal
    rank = jnp.sum((priority[None] < priority[:, None]) & candidate[None], 1, dtype=jnp.int32)
    chosen = candidate & (rank < jnp.where(count[0] & 1 == 0, 4, 8))
    walls = interior.at[np.array(BORDER)].set(chosen)
    noise = ((noise[:, None] >> np.arange(0, 12, 3, dtype=np.uint32)) & 7).astype(jnp.int32) + 1
    return Draws(origin, goal, walls, interior, noise)


def layout(draws: Draws) -> Layout:
    """The layout that these draws make; deterministic."""
    found = find_path(draws.origin, draws.goal, draws.walls, draws.noise)
    return Layout(found.path, draws.origin, draws.goal)


def segment(key: jax.Array, start: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Draws a segment of an endless path: from the left side to the right one, and one cell on, in column 7.

    Args:
        key: random key.
        start: row of its first cell, int32.

    Returns:
        (place on the path of each cell, 1 at its first and 0 off it, uint8 [56]; row of its last cell, int32).
    """
    draws = draw(key, (0,), start)
    place = find_path(draws.origin, draws.goal, draws.walls, draws.noise).place
    end = draws.goal % SIZE
    transition = jnp.where(np.arange(SIZE) == end, jnp.max(place) + 1, 0)
    return jnp.concatenate([place, transition]).astype(jnp.uint8), end


_IS_BORDER = np.isin(np.arange(CELLS), BORDER)


def _to_padded(cell: jax.Array) -> jax.Array:
    return cell + cell // SIZE


def _without_padding(x: jax.Array) -> jax.Array:
    """[56] to [49]."""
    return x.reshape(SIZE, _STRIDE)[:, :SIZE].reshape(CELLS)
