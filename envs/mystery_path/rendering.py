"""Pictures of Mystery Path, pixel for pixel those of Memory Gym 1.0.2."""

import jax
import jax.numpy as jnp
import numpy as np

TILE = 12  # pixels
SCREEN = 84
MIN_CENTRE, MAX_CENTRE = 6, 78
_FARTHEST = 18  # the endless form's agent may leave the screen by a cell, beyond the least and greatest centre

_COLOURS = {"o": (250, 204, 153), "#": (50, 50, 50), "X": (255, 0, 0)}
_TRANSPARENT = 1  # a value that no channel of a colour has

# The agent as a picture (rows y, columns x), upper left corner at its centre - 8: o body, # hand, .
# transparent. Shapes of Memory Gym, MIT licence, (c) 2022 Marco Pleines. The upright ones are turns of the
# first by 90 degrees, the diagonal ones are not turns of each other.
_AGENT_0 = """
...............
...............
...##.oooo.##..
..####oooo####.
..####oooo####.
...##oooooo##..
..oooooooooooo.
..oooooooooooo.
..oooooooooooo.
..oooooooooooo.
...oooooooooo..
....oooooooo...
.....oooooo....
......oooo.....
...............
"""
_AGENT_45 = """
......##.......
.....####......
.....####o.....
.....o##ooo....
....oooooooo...
...oooooooooo..
.##ooooooooooo.
####oooooooooo.
####oooooooooo.
.##ooooooooooo.
...oooooooooo..
....oooooooo...
.....oooooo....
......oooo.....
...............
"""
_AGENT_135 = """
...............
...............
......oooo.....
.....oooooo....
....oooooooo...
...oooooooooo..
.##ooooooooooo.
####oooooooooo.
####oooooooooo.
.##ooooooooooo.
...oooooooooo..
....ooo##ooo...
.....o####o....
......####.....
.......##......
"""
_AGENT_225 = """
...............
...............
......oooo.....
.....oooooo....
....oooooooo...
...oooooooooo..
..oooooooooo##.
..ooooooooo####
..ooooooooo####
..oooooooooo##.
...oooooooooo..
....ooo##ooo...
.....o####o....
......####.....
.......##......
"""
_AGENT_315 = """
.......##......
......####.....
......####.....
.....oo##oo....
....oooooooo...
...oooooooooo..
..oooooooooo##.
..ooooooooo####
..ooooooooo####
..oooooooooo##.
...oooooooooo..
....oooooooo...
.....oooooo....
......oooo.....
...............
"""
# Upper left corner at the agent's centre - 5.
_CROSS = """
XX......XX
XXX....XXX
.XXX..XXX.
..XXXXXX..
...XXXX...
...XXXX...
..XXXXXX..
.XXX..XXX.
XXX....XXX
XX......XX
"""


def _pixels(drawing: str) -> np.ndarray:
    """A drawing as uint8 [x, y, rgb]."""
    rows = [[_COLOURS.get(letter, (_TRANSPARENT,) * 3) for letter in line] for line in drawing.split()]
    return np.array(rows, np.uint8).swapaxes(0, 1)


def _sprites() -> np.ndarray:
    """The agent facing 0, 45, .., 315 degrees to the left of up, without and with the cross: [8, 2, x, y, rgb]."""
    upright = [_pixels(_AGENT_0) for _ in range(4)]
    for turns, sprite in enumerate(upright):
        inner = sprite[2:14, 2:14]  # the square around the centre, which lies between pixels
        inner[:] = np.rot90(inner, turns, (1, 0))
    diagonal = [_pixels(drawing) for drawing in (_AGENT_45, _AGENT_135, _AGENT_225, _AGENT_315)]
    plain = np.stack([each for pair in zip(upright, diagonal, strict=True) for each in pair])
    cross = _pixels(_CROSS)
    crossed = plain.copy()
    inside = crossed[:, 3 : 3 + len(cross), 3 : 3 + len(cross)]
    inside[:] = np.where(cross == _TRANSPARENT, inside, cross)
    return np.stack([plain, crossed], 1)


SPRITES = _sprites()
SPRITE = SPRITES.shape[2]
_OFFSET = 8  # from the upper left corner of a sprite to the agent's centre

# A frame [x, y, rgb] is 84 rows, one for each x, of 84 * 3 bytes. Each is a piece of a row of a table: the
# sprite's row in the middle of a long transparent one, from which a window is cut, over a row of the
# background. XLA's CPU backend copies pieces of rows fast; writing a patch into the background is more than
# 10 times slower, and computing every pixel from bit masks more than twice.
_BEFORE = MAX_CENTRE + _FARTHEST - _OFFSET  # transparent pixels before the sprite's


def _sprite_rows() -> np.ndarray:
    """[8 * 2 * (SPRITE + 1), bytes]; the last row of each sprite is transparent."""
    width = SCREEN + MAX_CENTRE - MIN_CENTRE + 2 * _FARTHEST
    rows = np.full((8, 2, SPRITE + 1, width, 3), _TRANSPARENT, np.uint8)
    rows[:, :, :SPRITE, _BEFORE : _BEFORE + SPRITE] = SPRITES
    return rows.reshape(8 * 2 * (SPRITE + 1), -1)


def _background_rows() -> np.ndarray:
    """[8 * 8, bytes]: 8 * (the origin's tile, 7: none) + (the goal's tile, 7: none)."""
    rows = np.zeros((8, 8, SCREEN, 3), np.uint8)
    for tile in range(SCREEN // TILE):
        inside = slice(TILE * tile, TILE * (tile + 1))
        rows[tile, :, inside, 2] = 255
        rows[:, tile, inside, 1] = 255
    return rows.reshape(8 * 8, -1)


def _tile(colour: tuple[int, int, int]) -> np.ndarray:
    """uint8 [12, 12, rgb]: a light grey border around a colour."""
    tile = np.full((TILE, TILE, 3), 210, np.uint8)
    tile[1:-1, 1:-1] = colour
    return tile


def _endless_rows() -> np.ndarray:
    """[3 * 2 * 128 + 85, bytes]: the ground, then the stamina bar.

    The ground is black, or a column inside a tile of ice, or one on its border; on it lie tiles of the past path,
    cut inside or on their border, one for every bit of 7. The bar has 0 to 84 red pixels and green ones below.
    """
    ice, past = _tile((125, 177, 250)), _tile((255, 255, 255))
    ground = np.stack([np.zeros_like(ice[0]), ice[1], ice[0]])[:, None, None, None]
    tiles = np.stack([past[1], past[0]])[:, None, None]
    there = np.arange(128)[:, None] >> np.arange(SCREEN // TILE) & 1
    rows = np.where(there[..., None, None], tiles, ground)  # [3, 2, 128, 7, 12, rgb]
    red = np.arange(SCREEN) < np.arange(SCREEN + 1)[:, None]
    bar = np.where(red[..., None], np.uint8([255, 0, 0]), np.uint8([0, 255, 0]))
    return np.concatenate([rows.reshape(3 * 2 * 128, -1), bar.reshape(SCREEN + 1, -1)])


_SPRITE_ROWS, _BACKGROUND_ROWS, _ENDLESS_ROWS = _sprite_rows(), _background_rows(), _endless_rows()
_BAR_ROWS, _BAR_LEFT = 3 * 2 * 128, 80
_PIXELS = np.arange(SCREEN, dtype=np.int32)


def frame(x, y, heading, cross, origin, goal, show_origin, show_goal) -> jax.Array:
    """The observation of the original, uint8 [84, 84, 3] in its order [x, y, rgb]: the transpose of a picture.

    Args:
        x, y: the agent's centre in pixels, 6 to 78.
        heading: eighths of a turn to the left of up, 0 to 7.
        cross: whether the red cross is drawn on the agent.
        origin, goal: cell ids.
        show_origin, show_goal: whether their tiles are drawn.
    """
    # Flags known while compiling would have XLA compute backgrounds of whole batches then, for seconds.
    show_origin, show_goal = jax.lax.optimization_barrier((jnp.asarray(show_origin), jnp.asarray(show_goal)))
    column = _PIXELS // TILE
    origin_tile = jnp.where((column == origin // 7) & show_origin, origin % 7, 7)
    goal_tile = jnp.where((column == goal // 7) & show_goal, goal % 7, 7)
    background = jnp.asarray(_BACKGROUND_ROWS)[8 * origin_tile + goal_tile]
    return _with_agent(background, x, y, heading, cross)


def endless_frame(past, shift, x, y, heading, cross, ice, show_ice, red, show_bar) -> jax.Array:
    """The observation of the endless form, uint8 [84, 84, 3] in the order [x, y, rgb].

    Args:
        past: rows in which the past path is drawn, as bits, of 8 columns from the screen's left edge; int32 [8].
        shift: pixels of the first of these columns that lie left of the screen, 0 to 11.
        x, y: the agent's centre on the screen in pixels; y is -12 to 96.
        heading: eighths of a turn to the left of up.
        cross: whether the red cross is drawn on the agent.
        ice: pixels by which the tiles of ice are moved to the left.
        show_ice: whether they are drawn.
        red: red pixels of the stamina bar, 0 to 84.
        show_bar: whether it is drawn.
    """
    show_ice, show_bar = jax.lax.optimization_barrier((jnp.asarray(show_ice), jnp.asarray(show_bar)))
    column, inside = (_PIXELS + shift) // TILE, (_PIXELS + shift) % TILE
    ground = jnp.where(show_ice, 1 + _is_border((_PIXELS + ice) % TILE), 0)
    # Of a path tile at the screen's edge with two columns left, the original makes both border.
    two_left = ((shift == TILE - 2) & (column == 0)) | ((shift == 2) & (column == SCREEN // TILE))
    row = (2 * ground + (_is_border(inside) | two_left)) * 128 + past[column]
    row = jnp.where(show_bar & (_PIXELS >= _BAR_LEFT), _BAR_ROWS + red, row)
    return _with_agent(jnp.asarray(_ENDLESS_ROWS)[row], x, y, heading, cross)


def _is_border(pixel: jax.Array) -> jax.Array:
    return (pixel == 0) | (pixel == TILE - 1)


def _with_agent(background: jax.Array, x, y, heading, cross) -> jax.Array:
    """[84, 84, 3] of background rows [84, bytes] and what is drawn over them."""
    row = _PIXELS - x + _OFFSET  # [84], of the sprite
    row = jnp.where((row >= 0) & (row < SPRITE), row, SPRITE)
    row += (heading * 2 + cross) * (SPRITE + 1)
    start = 3 * (MAX_CENTRE + _FARTHEST - y)
    cut = jax.vmap(lambda row: jax.lax.dynamic_slice(jnp.asarray(_SPRITE_ROWS), (row, start), (1, 3 * SCREEN))[0])
    sprite = cut(row)  # [84, 84 * 3]
    return jnp.where(sprite == _TRANSPARENT, background, sprite).reshape(SCREEN, SCREEN, 3)


_SCALE = 5
_UNSEEN_PATH, _VISITED_PATH = 45, 90  # grey


def picture(
    observed: np.ndarray,
    path: np.ndarray,
    visited: np.ndarray,
    origin: int | None,
    goal: int | None,
    shift: int = 0,
) -> np.ndarray:
    """A frame for people: upscaled, in picture order, with the hidden path, origin and goal in dim colours.

    Args:
        observed: what the agent sees, uint8 [84, 84, 3] in the order [x, y, rgb].
        path, visited: bool [49], or [7 * columns] from the screen's left edge.
        origin, goal: cell ids in them; None where there is none.
        shift: pixels of the first column that lie left of the screen.

    Returns:
        uint8 [420, 420, 3] in the order [y, x, rgb]. Path cells are dark grey, those that have paid their reward
        lighter, origin and goal dark blue and dark green where the agent does not see them; lines part the cells.
    """
    tiles = np.zeros((len(path), 3), np.uint8)
    tiles[path] = _UNSEEN_PATH
    tiles[visited] = _VISITED_PATH
    for cell, colour in ((origin, (0, 0, 120)), (goal, (0, 120, 0))):
        if cell is not None:
            tiles[cell] = colour
    hidden = tiles.reshape(-1, 7, 3).repeat(TILE, 0).repeat(TILE, 1)[shift : shift + SCREEN]
    pixels = np.where(observed.any(-1, keepdims=True), observed, hidden).swapaxes(0, 1)
    pixels = pixels.repeat(_SCALE, 0).repeat(_SCALE, 1)
    rows, columns = (_SCALE * np.arange(first, SCREEN, TILE) for first in (TILE, TILE - shift))
    for index in (rows, (slice(None), columns)):
        pixels[index] = np.maximum(pixels[index], 25)
    return pixels
