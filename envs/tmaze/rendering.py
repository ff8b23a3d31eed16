"""Pictures of T-Mazes, all in one style: corridor, arms, agent, and what the cue says.

The cue is a sign at the corridor's beginning: an arrow to the goal's arm, or a field of that arm's colour. It
is bright while the agent sees it and faint while it must be remembered. The goal's arm is green and the other
red, unless the maze has colours of its own. Long corridors are drawn shorter; places are dots where there is
room.
"""

import dataclasses

import numpy as np

WIDTH, HEIGHT = 480, 176
GREEN, BLUE = (94, 176, 110), (82, 134, 214)
_RED = (222, 138, 124)
_PAPER, _FLOOR, _WALL, _INK, _FAINT = (250, 248, 243), (222, 219, 210), (92, 90, 86), (40, 40, 44), (176, 173, 166)
_CUE, _AGENT = (247, 178, 44), (46, 58, 118)
_SCALE = 2  # drawn larger and made smaller: smooth edges

# Pixels of the picture, x to the right and y down.
_LEFT, _RIGHT = 92, WIDTH - 36  # centres of the first and the farthest place
_MIDDLE = 76  # the corridor's line
_HALF = 17  # of the corridor's width
_ARM = 2 * _HALF + 4  # from the junction's centre to an arm's
_PLACE = 36  # between two places at most
_SIGN = 54  # the sign's centre left of the first place's
_DOTS_FROM = 5  # pixels between two places that are marked


@dataclasses.dataclass(frozen=True)
class Scene:
    """What a picture shows.

    Attributes:
        junction: place of the junction; the corridor begins at place 0, where the cue is.
        x: the agent's place.
        y: 0, or the agent's arm: 1 upper, -1 lower.
        cue: the goal's arm, 1 upper or -1 lower.
        cue_seen: whether the agent sees it now.
        caption: words below.
        longest: place of the farthest junction that the picture has room for; 0: this junction's.
        heading: where the agent looks, 0 up, 1 right, 2 down, 3 left; None if it looks nowhere.
        colours: of the upper and the lower arm, red, green and blue; None: the goal's is green.
    """

    junction: int
    x: int
    y: int
    cue: int
    cue_seen: bool
    caption: str
    longest: int = 0
    heading: int | None = None
    colours: tuple[tuple[int, int, int], tuple[int, int, int]] | None = None


def draw(scene: Scene) -> np.ndarray:
    """The picture, uint8 [HEIGHT, WIDTH, 3]."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (WIDTH * _SCALE, HEIGHT * _SCALE), _PAPER)
    pen = _Pen(ImageDraw.Draw(image))
    _maze(pen, scene)
    _sign(pen, scene)
    _agent(pen, scene)
    cue = "the cue is in view" if scene.cue_seen else "the cue is out of view"
    font = ImageFont.load_default(13 * _SCALE)
    pen.canvas.text((16 * _SCALE, (HEIGHT - 24) * _SCALE), f"{scene.caption}; {cue}", fill=_INK, font=font)
    return np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))


class _Pen:
    """Shapes around a centre, in the picture's pixels."""

    def __init__(self, canvas):
        self.canvas = canvas

    def box(self, x0: float, y0: float, x1: float, y1: float, colour) -> None:
        self.canvas.rectangle([_SCALE * v for v in (x0, y0, x1, y1)], fill=colour)

    def disc(self, x: float, y: float, radius: float, colour) -> None:
        self.canvas.ellipse([_SCALE * v for v in (x - radius, y - radius, x + radius, y + radius)], fill=colour)

    def polygon(self, x: float, y: float, corners, quarter_turns: int, colour) -> None:
        """corners: (x, y) from the centre; turned clockwise."""
        for _ in range(quarter_turns % 4):
            corners = [(-dy, dx) for dx, dy in corners]
        self.canvas.polygon([(_SCALE * (x + dx), _SCALE * (y + dy)) for dx, dy in corners], fill=colour)


def _centre(scene: Scene, place: int) -> float:
    farthest = scene.longest or scene.junction
    return _LEFT + place * min(_PLACE, (_RIGHT - _LEFT) / max(farthest, 1))


def _maze(pen: _Pen, scene: Scene) -> None:
    edge = 3
    start, junction = _centre(scene, 0), _centre(scene, scene.junction)
    upper, lower = scene.colours or ((GREEN, _RED) if scene.cue > 0 else (_RED, GREEN))
    for grown, floor in ((edge, _WALL), (0, _FLOOR)):
        half, reach = _HALF + grown, _ARM + _HALF + grown
        pen.box(start - half, _MIDDLE - half, junction + half, _MIDDLE + half, floor)
        pen.box(junction - half, _MIDDLE - reach, junction + half, _MIDDLE + reach, floor)
    for side, colour in ((-1, upper), (1, lower)):
        centre = _MIDDLE + side * _ARM
        pen.box(junction - _HALF, centre - _HALF, junction + _HALF, centre + _HALF, colour)
    if _centre(scene, 1) - _centre(scene, 0) >= _DOTS_FROM:
        for place in range(scene.junction + 1):
            pen.disc(_centre(scene, place), _MIDDLE, 1.5, _FAINT)


def _sign(pen: _Pen, scene: Scene) -> None:
    x, y, side = _LEFT - _SIGN, _MIDDLE, 17
    pen.box(x, y - 1.5, _LEFT - _HALF - 3, y + 1.5, _WALL)
    pen.box(x - side - 2, y - side - 2, x + side + 2, y + side + 2, _WALL if scene.cue_seen else _FAINT)
    pen.box(x - side, y - side, x + side, y + side, _PAPER)
    if scene.colours:
        colour = scene.colours[0 if scene.cue > 0 else 1]
        inner = side if scene.cue_seen else 7
        pen.box(x - inner, y - inner, x + inner, y + inner, colour)
        return
    if scene.cue_seen:
        pen.box(x - side, y - side, x + side, y + side, _CUE)
    arrow = [(0, -12), (10, 0), (4, 0), (4, 12), (-4, 12), (-4, 0), (-10, 0)]
    pen.polygon(x, y, arrow, 0 if scene.cue > 0 else 2, _INK if scene.cue_seen else _FAINT)


def _agent(pen: _Pen, scene: Scene) -> None:
    x, y = _centre(scene, scene.x), _MIDDLE - scene.y * _ARM
    if scene.heading is None:
        pen.disc(x, y, 12, _AGENT)
        pen.disc(x, y, 4, _PAPER)
    else:
        pen.polygon(x, y, [(0, -14), (11, 11), (0, 6), (-11, 11)], scene.heading, _AGENT)
