"""Defines Sheet: a picture whose images, marks and texts are placed to the pixel, without a display."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageColor, ImageDraw, ImageFont

from evaluation.predictions.images import grey

Bytes = npt.NDArray[np.uint8]
Points = npt.NDArray[np.floating]
Colours = str | Sequence[str]

MARGIN = 16
INK, FAINT = "#1a1a1a", "#666666"

# Okabe and Ito's colours, which colour-blind people can distinguish: of correct and wrong matches,
# of those that are neither, of keypoints.
CORRECT, WRONG, NEUTRAL, KEYPOINT = "#009e73", "#d55e00", "#56b4e9", "#e69f00"

# Marks are drawn so many times as large: shrinking them smooths their edges.
_FINE = 2
# Of lines, 0 to 255: one sees what they cross.
_LINE_ALPHA = 204

# Share of the heat map's colour; the rest is the image, so that one sees where one is.
HEAT_SHARE = 0.7
_MID_GREY = 128.0

# Steps of a heat map and shades of grey under it in a picture that must be small, tried in this order.
FEW_COLOURS = ((24, 6), (16, 5), (12, 4), (8, 3), (6, 2), (4, 1))


@dataclass(frozen=True)
class Panel:
    """A Panel says where an image lies on a sheet.

    Attributes:
        left, top: of its first pixel, pixels of the sheet.
        width, height: pixels of the sheet.
        scale: pixels of the sheet per pixel of the image.
    """

    left: int
    top: int
    width: int
    height: int
    scale: float

    @property
    def right(self) -> int:
        """Returns the first column to the right of it."""
        return self.left + self.width

    @property
    def bottom(self) -> int:
        """Returns the first row below it."""
        return self.top + self.height

    def place(self, points: Points) -> npt.NDArray[np.float64]:
        """Converts positions in pixels of the image to pixels of the sheet.

        Args:
            points: (N, 2 or more), x and y first.

        Returns:
            (N, 2) float64.
        """
        return (points[:, :2].astype(np.float64) + 0.5) * self.scale - 0.5 + [self.left, self.top]


class Sheet:
    """A Sheet is a white picture to put images, marks and texts on."""

    def __init__(self, width: int, height: int, text_size: int) -> None:
        """Makes an empty sheet.

        Args:
            width: of the sheet, pixels.
            height: of the sheet, pixels.
            text_size: of the texts, pixels.
        """
        self._paper = Image.new("RGB", (width, height), "white")
        self._marks = Image.new("RGBA", (_FINE * width, _FINE * height))
        self._pencil = ImageDraw.Draw(self._marks)
        self.text_size = text_size

    def image(self, image: Bytes, left: int, top: int, width: int) -> Panel:
        """Puts an image (H, W, 3) or (H, W) on the sheet, `width` pixels wide."""
        height = round(image.shape[0] * width / image.shape[1])
        pixels = Image.fromarray(image)
        if width != image.shape[1]:
            pixels = pixels.resize((width, height), Image.Resampling.LANCZOS)
        self._paper.paste(pixels, (left, top))
        return Panel(left, top, width, height, width / image.shape[1])

    def text(
        self,
        text: str,
        left: float,
        base: float,
        *,
        room: float = np.inf,
        bold: bool = False,
        colour: str = INK,
    ) -> float:
        """Writes on the line `base`, from `left` on, at most `room` pixels; returns where the text ends."""
        font = _font(_FINE * self.text_size, bold)
        whole, kept = text, len(text)
        while font.getlength(text) > _FINE * room and kept > 1:
            kept -= 1
            text = f"{whole[:kept]}…"
        self._pencil.text((_FINE * left, _FINE * base), text, colour, font, anchor="ls")
        return left + font.getlength(text) / _FINE

    def legend(self, entries: Sequence[tuple[str, str]], left: float, base: float) -> float:
        """Writes texts in one line, each behind a patch of its colour; returns where more may be written."""
        side = 0.7 * self.text_size
        for colour, text in entries:
            corners = (_FINE * left, _FINE * (base - side), _FINE * (left + side), _FINE * base)
            self._pencil.rectangle(corners, colour)
            left = self.text(text, left + 1.4 * side, base) + self.text_size
        return left

    def dots(self, panel: Panel, points: Points, colours: Colours, diameter: float) -> None:
        """Draws dots, of a diameter in pixels of the sheet, at points (N, 2) of a panel."""
        each = [colours] * len(points) if isinstance(colours, str) else colours
        with self._inside(panel, points) as (pencil, centres):
            for centre, colour in zip(centres, each, strict=True):
                pencil.ellipse(_box(centre, _FINE * diameter), colour)

    def circles(self, panel: Panel, points: Points, diameters: Points, colour: str, width: float) -> None:
        """Draws circles of diameters (N,), in pixels of the image, around points (N, 2) of a panel."""
        across = _FINE * (diameters * panel.scale + width)
        with self._inside(panel, points) as (pencil, centres):
            for centre, diameter in zip(centres, across, strict=True):
                pencil.ellipse(_box(centre, diameter), outline=colour, width=round(_FINE * width))

    def lines(self, segments: Points, colours: Colours, width: float) -> None:
        """Draws lines, (N, 2, 2): both ends of each, pixels of the sheet."""
        each = [colours] * len(segments) if isinstance(colours, str) else colours
        for ((x1, y1), (x2, y2)), colour in zip(_fine(segments), each, strict=True):
            seen_through = (*ImageColor.getrgb(colour)[:3], _LINE_ALPHA)
            self._pencil.line((x1, y1, x2, y2), seen_through, round(_FINE * width))

    def colour_bar(self, left: int, top: int, height: int, width: int) -> None:
        """Draws the colours of a heat map over grey, from 0 at the bottom to 1 at the top."""
        values = np.repeat(np.linspace(255, 0, height).round().astype(np.uint8)[:, None], width, axis=1)
        self.image(heat_map(np.full((height, width, 3), _MID_GREY, np.uint8), values), left, top, width)
        for value in (0.0, 0.5, 1.0):
            base = top + (1 - value) * (height - 1) + 0.35 * self.text_size
            self.text(f"{value:g}", left + width + 0.4 * self.text_size, base)

    def picture(self) -> Image.Image:
        """Returns the picture with all that was put on it so far."""
        marks = self._marks.resize(self._paper.size, Image.Resampling.BOX)
        return Image.alpha_composite(self._paper.convert("RGBA"), marks).convert("RGB")

    def png(self) -> bytes:
        """Returns the contents of a PNG file."""
        return _png(self.picture())

    def small_png(self, max_bytes: int, marks: Sequence[str]) -> bytes:
        """Returns a PNG with fewer colours, as few as the limit on the file's size requires.

        Args:
            max_bytes: of the file; more only if the fewest colours are still too many.
            marks: the colours of the marks; those of heat maps and grey images are known.
        """
        drawn = self.picture()
        for steps, shades in FEW_COLOURS:
            small = _png(drawn.quantize(palette=_palette(steps, shades, marks), dither=Image.Dither.NONE))
            if len(small) <= max_bytes:
                break
        return small

    @contextmanager
    def _inside(self, panel: Panel, points: Points) -> Iterator[tuple[ImageDraw.ImageDraw, Points]]:
        """A pencil whose marks end at the panel's edges, and its places of points (N, 2) of the panel."""
        marks = Image.new("RGBA", (_FINE * panel.width, _FINE * panel.height))
        corner = (_FINE * panel.left, _FINE * panel.top)
        yield ImageDraw.Draw(marks), _fine(panel.place(points)) - corner
        self._marks.alpha_composite(marks, corner)


@cache
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    """Matplotlib's own font, which has the letters of most languages."""
    from matplotlib.font_manager import findfont

    return ImageFont.truetype(findfont(f"DejaVu Sans:{'bold' if bold else 'normal'}"), size)


@cache
def _heat() -> npt.NDArray[np.float32]:
    """The share of viridis in each value's colour, (256, 3), grey levels.

    It is legible to colour-blind people, and in print: its lightness grows with the value.
    """
    from matplotlib import colormaps

    shares: npt.NDArray[np.float64] = colormaps["viridis"](np.arange(256))[:, :3]
    return (HEAT_SHARE * 255 * shares).astype(np.float32)


def _fine(points: Points) -> npt.NDArray[np.float64]:
    """Pixels of the sheet (..., 2) as those of the marks: the middle of one is that of the other."""
    return (points.astype(np.float64) + 0.5) * _FINE - 0.5


def _box(centre: Points, diameter: float) -> tuple[int, int, int, int]:
    """The first and the last column and row of a circle around a point (2,), pixels of the marks."""
    left, top = (round(value - (diameter - 1) / 2) for value in centre.tolist())
    return left, top, left + round(diameter) - 1, top + round(diameter) - 1


def heat_map(image: Bytes, values: Bytes) -> Bytes:
    """Draws a map as colours over the grey image.

    Args:
        image: (H, W, 3) RGB.
        values: (H, W), 0 to 255.

    Returns:
        (H, W, 3) RGB.
    """
    mixed: Bytes = (_heat()[values] + ((1 - HEAT_SHARE) * grey(image))[..., None]).astype(np.uint8)
    return mixed


def _palette(steps: int, shades: int, marks: Sequence[str]) -> Image.Image:
    """Colours of a heat map in steps over shades of grey, as many greys as steps, and marks over both.

    It does not depend on the picture, so that a colour means the same in all of them.
    """
    values = np.linspace(0, 255, steps)
    heat = _heat()[values.round().astype(np.int64)]
    under = (np.arange(shades) + 0.5) * 255 / shades * (1 - HEAT_SHARE)
    over_grey = (heat[:, None, :] + under[None, :, None]).reshape(-1, 3)
    greys = np.repeat(values[:, None], 3, axis=1)
    full = np.array([ImageColor.getrgb(mark) for mark in marks], dtype=np.float64).reshape(-1, 3)
    # The soft edges of the marks.
    edges = [(full + ground) / 2 for ground in (0, 255)]
    colours = np.concatenate([over_grey, greys, full, *edges]).round().astype(np.uint8)
    assert len(colours) <= 256, f"a palette has {len(colours)} colours"
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours.tobytes())
    return palette


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "png")
    return file.getvalue()
