"""Pictures of boards, for people."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]


class Board:
    """A grid of square tiles, drawn tile by tile; places are (row, column).

    Args:
        rows, columns: number of tiles.
        tile: their side in pixels.
        gap: pixels between them.
    """

    def __init__(self, rows: int, columns: int, tile: int = 36, gap: int = 2):
        self.tile, self.pitch = tile, tile + gap
        self.image = Image.new("RGB", (columns * self.pitch + gap, rows * self.pitch + gap), (15, 15, 20))
        self.draw = ImageDraw.Draw(self.image)
        self.gap = gap

    def _box(self, place: tuple[int, int], margin: int = 0) -> tuple[int, int, int, int]:
        """Left, top, right and bottom pixel of a tile, both ends within it."""
        top, left = (self.gap + self.pitch * at + margin for at in place)
        side = self.tile - 2 * margin - 1
        return left, top, left + side, top + side

    def fill(self, place: tuple[int, int], colour: Colour) -> None:
        """Colours a tile."""
        self.draw.rectangle(self._box(place), colour)

    def disc(self, place: tuple[int, int], colour: Colour) -> None:
        """Draws a disc on a tile."""
        self.draw.ellipse(self._box(place, self.tile // 5), colour)

    def frame(self, place: tuple[int, int], colour: Colour) -> None:
        """Draws a frame along the inner edge of a tile."""
        self.draw.rectangle(self._box(place), outline=colour, width=3)

    def write(self, place: tuple[int, int], text: str, colour: Colour) -> None:
        """Writes a short text on a tile."""
        left, top, right, bottom = self._box(place)
        middle = ((left + right) / 2, (top + bottom) / 2)
        self.draw.text(middle, text, colour, ImageFont.load_default(0.6 * self.tile), anchor="mm")

    def picture(self) -> np.ndarray:
        """What was drawn: uint8 [y, x, rgb]."""
        return np.asarray(self.image)
