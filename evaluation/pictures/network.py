"""Draws what a network sees: the maps and keypoints of images, and the matches of a pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.metrics.matching import IndexPairs
from evaluation.metrics.mma import CORRECT_WITHIN
from evaluation.pictures.maps import KEPT_SIDE, ImageMaps
from evaluation.pictures.matches import draw_matches, draw_pair, drawn
from evaluation.pictures.sheet import (
    CORRECT,
    FAINT,
    KEYPOINT,
    MARGIN,
    NEUTRAL,
    WRONG,
    Bytes,
    Panel,
    Sheet,
    heat_map,
)
from evaluation.predictions.images import grey
from r2d2.containers import FloatArray

# More circles than these hide the image.
MAX_CIRCLES = 100

# A picture that is kept of every epoch has at most so many bytes.
EPOCH_BYTES = 300_000

_GAP = 12
_EPOCH_TEXT = 13
_TEXT = 18
_LARGE_SIDE, _IMAGE_WIDTH = 1100, 1000
_PAIR_WIDTH, _HIGHEST = 1800, 1200


@dataclass(frozen=True)
class PairMatches:
    """A PairMatches holds the matches of two images.

    Attributes:
        matches: (K, 2), indices into the keypoints of both.
        errors: (K,), pixels of image 2; None if no homography is known.
    """

    matches: IndexPairs
    errors: npt.NDArray[np.float64] | None


def epoch_picture(maps: Sequence[ImageMaps], title: str) -> bytes:
    """Draws the keypoints and maps of a few images after one epoch: a PNG of at most EPOCH_BYTES.

    The same images give a picture of the same layout, so that epochs can be compared.

    Args:
        maps: at least one; one row each.
        title: the first line.
    """
    line, bar = 2 * _EPOCH_TEXT, 4 * _EPOCH_TEXT
    sizes = [_fitted(seen.image, KEPT_SIDE) for seen in maps]
    column = max(width for width, _ in sizes) + _GAP
    height = sum(line + rows for _, rows in sizes)
    sheet = Sheet(2 * MARGIN + 3 * column + bar, 2 * MARGIN + line + height, _EPOCH_TEXT)
    sheet.text(title, MARGIN, MARGIN + _EPOCH_TEXT, bold=True)
    top = MARGIN + line
    for seen, (width, rows) in zip(maps, sizes, strict=True):
        top += line
        first, second, third = (MARGIN + column * index for index in range(3))
        panel = _image(sheet, _summary(seen), grey(seen.image), first, top, width)
        sheet.dots(panel, seen.keypoints, KEYPOINT, 2.5)
        _image(sheet, "repeatability", heat_map(seen.image, seen.repeatability), second, top, width)
        _image(sheet, "reliability", heat_map(seen.image, seen.reliability), third, top, width)
        sheet.colour_bar(MARGIN + 3 * column, top, rows, _EPOCH_TEXT)
        top += rows
    return sheet.small_png(EPOCH_BYTES, [KEYPOINT])


def image_picture(seen: ImageMaps, title: str) -> bytes:
    """Draws the keypoints, large, and both maps beside them: a PNG.

    Args:
        seen: an image with keypoints of known diameter.
        title: the first line.
    """
    line, bar = 2 * _TEXT, 4 * _TEXT
    width, height = _fitted(seen.image, _LARGE_SIDE)
    half = (height - line - _GAP) // 2
    small = max(1, round(half * width / height))
    right = MARGIN + width + 2 * _GAP
    needed = right + small + _GAP + bar + MARGIN
    sheet = Sheet(max(_IMAGE_WIDTH, needed), 2 * MARGIN + 2 * line + height, _TEXT)
    _title(sheet, title)
    top = MARGIN + 2 * line
    _with_patches(sheet, seen, MARGIN, top, width)
    upper = _image(sheet, "repeatability", heat_map(seen.image, seen.repeatability), right, top, small)
    lowest = top + height - upper.height
    lower = _image(sheet, "reliability", heat_map(seen.image, seen.reliability), right, lowest, small)
    for panel in (upper, lower):
        sheet.colour_bar(panel.right + _GAP, panel.top, panel.height, _TEXT)
    return sheet.png()


def pair_picture(seen: tuple[ImageMaps, ImageMaps], found: PairMatches, title: str) -> bytes:
    """Draws the matches, keypoints and maps of two images side by side: a PNG.

    Args:
        seen: both, with keypoints of known diameter.
        found: their matches.
        title: the first line.
    """
    line, bar = 2 * _TEXT, 3 * _TEXT
    ratios = [image.image.shape[1] / image.image.shape[0] for image in seen]
    height = min(_HIGHEST, round(_PAIR_WIDTH / sum(ratios)))
    widths = [max(1, round(height * ratio)) for ratio in ratios]
    lefts = [MARGIN, MARGIN + widths[0] + _GAP]
    # Four maps and a colour bar, with gaps between them, take the width of the two images and their gap.
    low = round((sum(widths) - 3 * _GAP - bar) / (2 * sum(ratios)))
    sheet = Sheet(_PAIR_WIDTH + _GAP + 2 * MARGIN, 2 * MARGIN + 4 * line + 2 * height + low, _TEXT)
    _title(sheet, title)
    top = MARGIN + 2 * line
    _matches(sheet, seen, found, lefts, top, widths)
    top += height + line
    for image, left, width in zip(seen, lefts, widths, strict=True):
        _with_patches(sheet, image, left, top, width)
    top += height + line
    left = MARGIN
    for image, ratio in zip(seen, ratios, strict=True):
        for name, values in (("repeatability", image.repeatability), ("reliability", image.reliability)):
            heat, width = heat_map(image.image, values), max(1, round(low * ratio))
            panel = _image(sheet, f"{image.name}: {name}", heat, left, top, width)
            left = panel.right + _GAP
    sheet.colour_bar(left, top, panel.height, _TEXT)
    return sheet.png()


def apart(keypoints: FloatArray, count: int = MAX_CIRCLES) -> npt.NDArray[np.int64]:
    """Chooses the best keypoints whose patches hardly overlap.

    Args:
        keypoints: (N, 3): x, y, patch diameter, pixels, best first.
        count: at most so many are chosen.

    Returns:
        (K,) int64, their indices, best first.
    """
    chosen: list[int] = []
    free = np.ones(len(keypoints), dtype=bool)
    while free.any() and len(chosen) < count:
        index = int(np.argmax(free))
        chosen.append(index)
        x, y, diameter = keypoints[index]
        distance = np.hypot(keypoints[:, 0] - x, keypoints[:, 1] - y)
        free &= distance >= (keypoints[:, 2] + diameter) / 2
        free[index] = False
    return np.array(chosen, dtype=np.int64)


def _fitted(image: Bytes, side: int) -> tuple[int, int]:
    """Width and height of an image whose longer side is `side` pixels on the sheet."""
    height, width = image.shape[:2]
    factor = side / max(height, width)
    return max(1, round(width * factor)), max(1, round(height * factor))


def _title(sheet: Sheet, title: str) -> None:
    end = sheet.text(title, MARGIN, MARGIN + _TEXT, bold=True)
    note = "circles: patches of some of the best keypoints"
    sheet.text(note, end + _TEXT, MARGIN + _TEXT, colour=FAINT)


def _image(sheet: Sheet, caption: str, image: Bytes, left: int, top: int, width: int) -> Panel:
    sheet.text(caption, left, top - 0.5 * sheet.text_size, room=width)
    return sheet.image(image, left, top, width)


def _with_patches(sheet: Sheet, seen: ImageMaps, left: int, top: int, width: int) -> None:
    """The image with a dot for each keypoint and a circle for the patch of some of the best."""
    panel = _image(sheet, _summary(seen), grey(seen.image), left, top, width)
    sheet.dots(panel, seen.keypoints, KEYPOINT, 4)
    shown = seen.keypoints[apart(seen.keypoints)]
    sheet.circles(panel, shown, shown[:, 2], KEYPOINT, 1.5)


def _summary(seen: ImageMaps) -> str:
    return f"{seen.name}: {_count(len(seen.keypoints), 'keypoint')}"


def _matches(
    sheet: Sheet,
    seen: tuple[ImageMaps, ImageMaps],
    found: PairMatches,
    lefts: Sequence[int],
    top: int,
    widths: Sequence[int],
) -> None:
    """Both images and lines between their matches; of many matches an evenly chosen part."""
    total = len(found.matches)
    shown = drawn(total)
    panels = draw_pair(sheet, [one.image for one in seen], lefts, top, widths)
    starts, ends = (one.keypoints[found.matches[shown, side]] for side, one in enumerate(seen))
    if found.errors is None:
        draw_matches(sheet, panels, starts, ends, NEUTRAL)
        legend = [(NEUTRAL, f"{_count(total, 'match', 'es')}; no homography says which are correct")]
    else:
        draw_matches(sheet, panels, starts, ends, found.errors[shown])
        right = int((found.errors <= CORRECT_WITHIN).sum())
        legend = [
            (CORRECT, f"{_count(right, 'match', 'es')} within {CORRECT_WITHIN} px"),
            (WRONG, f"{_count(total - right, 'match', 'es')} farther off"),
        ]
    base = top - 0.5 * sheet.text_size
    end = sheet.legend(legend, lefts[0], base)
    if len(shown) < total:
        sheet.text(f"{len(shown)} of them are drawn", end, base, colour=FAINT)


def _count(number: int, noun: str, plural: str = "s") -> str:
    return f"{number:,} {noun if number == 1 else noun + plural}"
