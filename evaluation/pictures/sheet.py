"""Sheet: a picture whose images, marks and texts are placed to the pixel. Drawn without a display."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import CircleCollection, LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.transforms import Affine2D
from PIL import Image, ImageColor

from evaluation.predictions.images import grey

Bytes = npt.NDArray[np.uint8]
Points = npt.NDArray[np.floating]
Colours = str | Sequence[str]

MARGIN = 16
INK, FAINT = "#1a1a1a", "#666666"
_DPI = 100
_POINTS_PER_PIXEL = 72 / _DPI

# Share of the heat map's colour; the rest is the image, so that one sees where one is.
HEAT_SHARE = 0.7
_MID_GREY = 128.0

# Steps of a heat map and shades of grey under it in a picture that must be small, tried in this order.
FEW_COLOURS = ((24, 6), (16, 5), (12, 4), (8, 3), (6, 2), (4, 1))

# Legible to people who do not tell red from green, and in print: its lightness grows with the value.
_HEAT = (HEAT_SHARE * 255 * colormaps["viridis"](np.arange(256))[:, :3]).astype(np.float32)


@dataclass(frozen=True)
class Panel:
    """Where an image lies on a sheet.

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
        """The first column beyond it."""
        return self.left + self.width

    @property
    def bottom(self) -> int:
        """The first row beyond it."""
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
    """A white picture to put things on.

    Matplotlib draws the marks and the texts, without axes: those take most of the time of a figure, and
    resample every image.
    """

    def __init__(self, width: int, height: int, text_size: int) -> None:
        """An empty sheet.

        Args:
            width: of the sheet, pixels.
            height: of the sheet, pixels.
            text_size: of the texts, pixels.
        """
        self._canvas = np.full((height, width, 3), 255, dtype=np.uint8)
        self._figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="none")
        # Any: what is needed of it has no annotations.
        self._agg: Any = FigureCanvasAgg(self._figure)
        # From pixels of the sheet, whose first row is the upper one, to Matplotlib's.
        self._pixels = Affine2D().translate(0.5, 0.5).scale(1, -1).translate(0, height)
        self.text_size = text_size

    def image(self, image: Bytes, left: int, top: int, width: int) -> Panel:
        """Puts an image (H, W, 3) or (H, W) on the sheet, `width` pixels wide."""
        height = round(image.shape[0] * width / image.shape[1])
        pixels = image
        if width != image.shape[1]:
            pixels = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
        self._canvas[top : top + height, left : left + width] = (
            pixels if pixels.ndim == 3 else pixels[..., None]
        )
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
        written = self._figure.text(
            left,
            base,
            text,
            fontsize=self.text_size * _POINTS_PER_PIXEL,
            weight="bold" if bold else "normal",
            color=colour,
            transform=self._pixels,
            parse_math=False,
        )
        width = self._width(written)
        while width > room and len(text) > 1:
            text = text[: min(len(text) - 1, int(len(text) * room / width))]
            written.set_text(f"{text}…")
            width = self._width(written)
        return left + width

    def legend(self, entries: Sequence[tuple[str, str]], left: float, base: float) -> float:
        """Writes texts in one line, each behind a patch of its colour; returns where more may be written."""
        side = 0.7 * self.text_size
        for colour, text in entries:
            patch = Rectangle((left, base - side), side, side, color=colour, transform=self._pixels)
            self._figure.add_artist(patch)
            left = self.text(text, left + 1.4 * side, base) + self.text_size
        return left

    def dots(self, panel: Panel, points: Points, colours: Colours, diameter: float) -> None:
        """Draws dots, of a diameter in pixels of the sheet, at points (N, 2) of a panel."""
        self._circles(panel, points, np.full(len(points), diameter), facecolors=colours, linewidths=0)

    def circles(self, panel: Panel, points: Points, diameters: Points, colour: str, width: float) -> None:
        """Draws circles of diameters (N,), in pixels of the image, around points (N, 2) of a panel."""
        line = width * _POINTS_PER_PIXEL
        across = diameters * panel.scale
        self._circles(panel, points, across, facecolors="none", edgecolors=colour, linewidths=line)

    def lines(self, segments: Points, colours: Colours, width: float) -> None:
        """Draws lines, (N, 2, 2): both ends of each, pixels of the sheet."""
        drawn = LineCollection(
            segments.tolist(),
            colors=colours,
            linewidths=width * _POINTS_PER_PIXEL,
            alpha=0.8,
            # Matplotlib would move a level line to another row.
            snap=False,
            transform=self._pixels,
        )
        self._figure.add_artist(drawn)

    def colour_bar(self, left: int, top: int, height: int, width: int) -> None:
        """The colours of a heat map over grey, from 0 at the bottom to 1 at the top."""
        values = np.repeat(np.linspace(255, 0, height).round().astype(np.uint8)[:, None], width, axis=1)
        self.image(heat_map(np.full((height, width, 3), _MID_GREY, np.uint8), values), left, top, width)
        for value in (0.0, 0.5, 1.0):
            base = top + (1 - value) * (height - 1) + 0.35 * self.text_size
            self.text(f"{value:g}", left + width + 0.4 * self.text_size, base)

    def png(self) -> bytes:
        """The contents of a PNG file."""
        return _png(self._drawn())

    def small_png(self, max_bytes: int, marks: Sequence[str]) -> bytes:
        """The same in few colours, whose number is lowered until the file is small enough.

        Args:
            max_bytes: of the file; more only if the fewest colours are still too many.
            marks: the colours of the marks; those of heat maps and grey images are known.
        """
        drawn = self._drawn()
        for steps, shades in FEW_COLOURS:
            small = _png(drawn.quantize(palette=_palette(steps, shades, marks), dither=Image.Dither.NONE))
            if len(small) <= max_bytes:
                break
        return small

    def _drawn(self) -> Image.Image:
        self._agg.draw()
        marks = Image.fromarray(np.asarray(self._agg.buffer_rgba()))
        paper = Image.fromarray(self._canvas).convert("RGBA")
        return Image.alpha_composite(paper, marks).convert("RGB")

    def _width(self, text: Text) -> float:
        return float(text.get_window_extent(self._agg.get_renderer()).width)

    def _circles(self, panel: Panel, points: Points, across: Points, **looks: Any) -> None:
        """Circles of diameters (N,) in pixels of the sheet, cut off at the panel's edge."""
        areas = np.pi / 4 * (across * _POINTS_PER_PIXEL) ** 2
        circles = CircleCollection(areas, offsets=panel.place(points), offset_transform=self._pixels, **looks)
        self._figure.add_artist(circles)
        corner = (panel.left - 0.5, panel.top - 0.5)
        circles.set_clip_path(Rectangle(corner, panel.width, panel.height, transform=self._pixels))


def heat_map(image: Bytes, values: Bytes) -> Bytes:
    """A map as colours over the grey image.

    Args:
        image: (H, W, 3) RGB.
        values: (H, W), 0 to 255.

    Returns:
        (H, W, 3) RGB.
    """
    mixed: Bytes = (_HEAT[values] + ((1 - HEAT_SHARE) * grey(image))[..., None]).astype(np.uint8)
    return mixed


def _palette(steps: int, shades: int, marks: Sequence[str]) -> Image.Image:
    """Colours of a heat map in steps over shades of grey, as many greys as steps, and marks over both.

    It does not depend on the picture, so that a colour means the same in all of them.
    """
    values = np.linspace(0, 255, steps)
    heat = _HEAT[values.round().astype(np.int64)]
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
