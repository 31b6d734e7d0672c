"""Draws the matches of a pair, without a display."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from evaluation.metrics.mma import CORRECT_WITHIN
from evaluation.pictures.examples import MatchExample
from evaluation.pictures.sheet import CORRECT, KEYPOINT, MARGIN, WRONG, Bytes, Panel, Points, Sheet
from evaluation.predictions.images import grey

# More lines than these hide the images.
MAX_LINES = 200


def drawn(total: int) -> npt.NDArray[np.int64]:
    """Chooses the matches that are drawn: (K,) int64, indices of all, or of MAX_LINES evenly spread ones."""
    return np.linspace(0, total - 1, min(total, MAX_LINES)).astype(np.int64)


def coloured(errors: npt.NDArray[np.float64]) -> list[tuple[npt.NDArray[np.bool_], str]]:
    """Returns which matches have which colour: the wrong ones first, so that they hide no correct one.

    Args:
        errors: (K,), pixels.

    Returns:
        masks (K,) and colours.
    """
    correct = errors <= CORRECT_WITHIN
    return [(~correct, WRONG), (correct, CORRECT)]


PICTURE_WIDTH, CAPTION_HEIGHT = 1440, 40


def match_picture(example: MatchExample) -> Image.Image:
    """Draws both images side by side, their keypoints and matches, and says above them what they are.

    Green: the error is at most 3 pixels; red: it is larger. Of many matches an evenly drawn part is shown.
    """
    return _drawn(example, PICTURE_WIDTH, CAPTION_HEIGHT)


def match_thumbnail(example: MatchExample, width: int) -> Image.Image:
    """Draws the same as `match_picture`, without words and `width` pixels wide."""
    return _drawn(example, width, 0)


def draw_pair(
    sheet: Sheet, images: Sequence[Bytes], lefts: Sequence[int], top: int, widths: Sequence[int]
) -> list[Panel]:
    """Puts two images (H, W, 3) in grey beside each other on a sheet."""
    places = zip(images, lefts, widths, strict=True)
    return [sheet.image(grey(image), left, top, width) for image, left, width in places]


def draw_matches(
    sheet: Sheet, panels: Sequence[Panel], starts: Points, ends: Points, colour: str | npt.NDArray[np.float64]
) -> None:
    """Draws a line from each point of one image to its match in the other.

    Args:
        sheet: with both images.
        panels: where they are.
        starts: (K, 2), pixels of the first image.
        ends: (K, 2), pixels of the second image.
        colour: (K,), the errors in pixels, by which correct and wrong matches differ; or the colour of all
            lines.
    """
    segments = np.stack([panels[0].place(starts), panels[1].place(ends)], axis=1)
    parts = [(slice(None), colour)] if isinstance(colour, str) else coloured(colour)
    for chosen, of_lines in parts:
        sheet.lines(segments[chosen], of_lines, 1.6)


def match_caption(example: MatchExample) -> str:
    """Describes a picture of matches in words."""
    right = int((example.errors <= CORRECT_WITHIN).sum())
    total = len(example.matches)
    part = f", {MAX_LINES} drawn" if total > MAX_LINES else ""
    return (
        f"{example.sequence} 1 / {example.image}: {right} of {total} matches within {CORRECT_WITHIN} px"
        f" ({len(example.keypoints1)} and {len(example.keypoints2)} keypoints{part})"
    )


def _drawn(example: MatchExample, width: int, top: int) -> Image.Image:
    """The images below `top` rows for the caption, if there are any."""
    images = (example.image1, example.image2)
    scale = width / sum(image.shape[1] for image in images)
    middle = round(images[0].shape[1] * scale)
    height = max(round(image.shape[0] * scale) for image in images)
    sheet = Sheet(width, top + height, CAPTION_HEIGHT // 2)
    panels = draw_pair(sheet, images, (0, middle), top, (middle, width - middle))
    for panel, keypoints in zip(panels, (example.keypoints1, example.keypoints2), strict=True):
        sheet.dots(panel, keypoints, KEYPOINT, 2.5)
    shown = drawn(len(example.matches))
    first, second = example.matches[shown].T
    draw_matches(sheet, panels, example.keypoints1[first], example.keypoints2[second], example.errors[shown])
    if top:
        sheet.text(match_caption(example), MARGIN, 0.65 * top)
    return sheet.picture()
