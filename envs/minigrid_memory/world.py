"""The world of MiniGrid-Memory on the host: its grid, what is seen of it, and how that is drawn. NumPy only.

Nothing in the grid ever changes, so these run once, when an environment is made, for every place and direction.
Cells are numbered by what is drawn there; `SYMBOLS` gives the bytes (object, colour, state) of each.
"""

import numpy as np

UNSEEN, EMPTY, WALL, KEY, BALL, AGENT = range(6)
SYMBOLS = np.array([(0, 0, 0), (1, 0, 0), (2, 5, 0), (5, 1, 0), (6, 1, 0)], np.uint8)
"""Of UNSEEN to BALL; the agent's own cell is shown as EMPTY."""
CATEGORIES = (11, 6, 3)
"""Objects, colours and states that the original numbers."""

RIGHT, DOWN, LEFT, UP = range(4)
STEPS = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])
"""(x, y) of a step in each direction."""
FIRST_HALL = 4
"""The hallway begins here, and can end here."""


def grid(size: int, hallway_end: int, cue: int, top: int) -> np.ndarray:
    """Every cell of a world, int [x, y], y down.

    Args:
        size: cells of a side, odd.
        hallway_end: the hallway's last column; the junction is the next.
        cue: the object in the start room, 0 key, 1 ball.
        top: the object above the junction; the other one lies below.
    """
    x, y = np.mgrid[:size, :size]
    centre = size // 2
    aside = abs(y - centre)
    border = (x % (size - 1) == 0) | (y % (size - 1) == 0)
    room = ((1 <= x) & (x <= FIRST_HALL) & (aside == 2)) | ((x == FIRST_HALL) & (aside == 1))
    hallway = ((FIRST_HALL < x) & (x < hallway_end) & (aside == 1)) | ((x == hallway_end) & (aside > 0))
    cells = np.where(border | room | hallway | (x == hallway_end + 2), WALL, EMPTY)
    objects = (KEY, BALL)
    cells[1, centre - 1] = objects[cue]
    cells[hallway_end + 1, centre - 2] = objects[top]
    cells[hallway_end + 1, centre + 2] = objects[1 - top]
    return cells


def in_view(position: np.ndarray, direction: np.ndarray, view: int) -> tuple[np.ndarray, np.ndarray]:
    """The cells (x, y) before an agent, each int [..., i, j]: i from its left to its right, j from far to near.

    Args:
        position: (x, y), [..., 2].
        direction: [...].
        view: cells of a side, odd. The agent is in the middle of the last row.
    """
    i, j = np.mgrid[:view, :view]
    position = position[..., None, None, :]
    ahead = STEPS[direction][..., None, None, :]
    right = STEPS[(direction + 1) % 4][..., None, None, :]
    cells = position + ahead * (view - 1 - j)[..., None] + right * (i - view // 2)[..., None]
    return cells[..., 0], cells[..., 1]


def visible(walls: np.ndarray) -> np.ndarray:
    """Which cells of a view are seen, bool [..., i, j] as `walls`.

    Sight starts in the agent's cell. In a row it spreads to both sides up to the first wall, which is seen; the
    row before it starts with the neighbours, diagonal ones too, of every cell seen that is no wall.
    """
    view = walls.shape[-1]
    seen = np.zeros(walls.shape, bool)
    seen[..., view // 2, -1] = True
    for j in reversed(range(view)):
        row, open_row = seen[..., j], ~walls[..., j]  # views on the array
        for _ in range(view - 1):
            row |= _beside(row & open_row)
        if j:
            seen[..., j - 1] = _beside(row & open_row)
    return seen


def _beside(cells: np.ndarray) -> np.ndarray:
    """The cells of a row [..., i] and their neighbours."""
    wide = cells.copy()
    wide[..., 1:] |= cells[..., :-1]
    wide[..., :-1] |= cells[..., 1:]
    return wide


def look(cells: np.ndarray, position: np.ndarray, direction: np.ndarray, view: int) -> np.ndarray:
    """What an agent sees, int [..., i, j] with UNSEEN where it sees nothing.

    Outside the grid are walls, as in the original; nothing shows them, for the border hides them.

    Args:
        cells: a world, [x, y].
        position, direction, view: as for `in_view`.
    """
    x, y = in_view(position, direction, view)
    last = len(cells) - 1
    inside = (0 <= x) & (x <= last) & (0 <= y) & (y <= last)
    there = np.where(inside, cells[x.clip(0, last), y.clip(0, last)], WALL)
    return np.where(visible(there == WALL), there, UNSEEN)


def tile(kind: int, size: int, lit: bool = True, heading: int = UP) -> np.ndarray:
    """The picture of a cell, uint8 [row, column, rgb] of `size` pixels a side.

    It is drawn three times as large, and a pixel is the mean of nine, cut to an integer. Lit cells are the lighter
    ones: those that the agent sees.

    Args:
        kind: EMPTY to AGENT, or UNSEEN, an empty cell without light.
        size: pixels.
        lit: whether the cell is seen.
        heading: where the AGENT points.
    """
    centres = (np.arange(3 * size) + 0.5) / (3 * size)
    x, y = centres[None, :], centres[:, None]
    pixels = np.zeros((3 * size, 3 * size, 3))
    pixels[(x <= 0.031) | (y <= 0.031)] = 100
    green = (0, 255, 0)
    if kind == WALL:
        pixels[:] = 100
    elif kind == KEY:
        pixels[_box(x, y, 0.50, 0.63, 0.31, 0.88)] = green
        pixels[_box(x, y, 0.38, 0.50, 0.59, 0.66)] = green
        pixels[_box(x, y, 0.38, 0.50, 0.81, 0.88)] = green
        pixels[_disc(x, y, 0.56, 0.28, 0.190)] = green
        pixels[_disc(x, y, 0.56, 0.28, 0.064)] = 0
    elif kind == BALL:
        pixels[_disc(x, y, 0.5, 0.5, 0.31)] = green
    elif kind == AGENT:
        (ahead_x, ahead_y), (right_x, right_y) = STEPS[heading], STEPS[(heading + 1) % 4]
        ahead = (x - 0.5) * ahead_x + (y - 0.5) * ahead_y + 0.5
        aside = abs((x - 0.5) * right_x + (y - 0.5) * right_y)
        # A triangle with its base at 0.12 and its tip at 0.87, half as wide as 0.31 at the base.
        pixels[(ahead >= 0.12) & (aside * (0.87 - 0.12) <= 0.31 * (0.87 - ahead))] = (255, 0, 0)
    if lit and kind != UNSEEN:
        pixels = np.trunc(pixels + 0.3 * (255 - pixels))
    return pixels.reshape(size, 3, size, 3, 3).mean((1, 3)).astype(np.uint8)


def _box(x: np.ndarray, y: np.ndarray, left: float, right: float, top: float, bottom: float) -> np.ndarray:
    return (left <= x) & (x <= right) & (top <= y) & (y <= bottom)


def _disc(x: np.ndarray, y: np.ndarray, x0: float, y0: float, radius: float) -> np.ndarray:
    return (x - x0) ** 2 + (y - y0) ** 2 <= radius**2


def picture(cells: np.ndarray, position: np.ndarray, direction: int, view: int, size: int) -> np.ndarray:
    """The whole world from above with the agent, its view lit: uint8 [rows, columns, rgb].

    Args:
        cells: a world, [x, y].
        position, direction, view: as for `in_view`.
        size: pixels of a cell.
    """
    x, y = in_view(position, np.asarray(direction), view)
    seen = look(cells, position, np.asarray(direction), view) != UNSEEN
    inside = seen & (0 <= x) & (x < len(cells)) & (0 <= y) & (y < len(cells))
    lit = np.zeros(cells.shape, bool)
    lit[x[inside], y[inside]] = True
    shown = cells.copy()
    shown[tuple(position)] = AGENT
    tiles = np.stack(
        [[tile(kind, size, light, direction) for light in (False, True)] for kind in range(AGENT + 1)]
    )
    whole = tiles[shown, lit.astype(int)]  # [x, y, row, column, rgb]
    return whole.transpose(1, 2, 0, 3, 4).reshape(len(cells) * size, len(cells) * size, 3)
