"""Pictures of the matches of a pair, drawn within milliseconds, without a display."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from evaluation.pictures.examples import MatchExample
from evaluation.predictions.images import grey

# Told apart by people who do not tell red from green: Okabe and Ito's bluish green and vermilion.
CORRECT, WRONG = "#009e73", "#d55e00"

# A match is called correct up to this error, pixels: MMA@3 is the field's headline.
CORRECT_WITHIN = 3

# More lines than these hide the images.
MAX_LINES = 200


def drawn(total: int) -> npt.NDArray[np.int64]:
    """Chooses the matches that are drawn: (K,) int64, indices of all, or of MAX_LINES evenly spread ones."""
    return np.linspace(0, total - 1, min(total, MAX_LINES)).astype(np.int64)


def coloured(errors: npt.NDArray[np.float64]) -> list[tuple[npt.NDArray[np.bool_], str]]:
    """Which matches have which colour, in the order of drawing: the wrong ones first, to hide no correct one.

    Args:
        errors: (K,), pixels.

    Returns:
        masks (K,) and colours.
    """
    correct = errors <= CORRECT_WITHIN
    return [(~correct, WRONG), (correct, CORRECT)]


KEYPOINT = "#56b4e9"
PICTURE_WIDTH, CAPTION_HEIGHT = 1440, 40


def match_picture(example: MatchExample) -> Image.Image:
    """Both images side by side with their keypoints and, drawn between them, the matches; above it, in words.

    Green: the error is at most 3 pixels; red: it is larger. Of many matches an evenly drawn part is shown.
    """
    matches = match_thumbnail(example, PICTURE_WIDTH)
    picture = Image.new("RGB", (matches.width, matches.height + CAPTION_HEIGHT), "white")
    picture.paste(matches, (0, CAPTION_HEIGHT))
    pencil = ImageDraw.Draw(picture)
    place = (picture.width // 2, CAPTION_HEIGHT // 2)
    pencil.text(place, match_caption(example), "black", ImageFont.load_default(CAPTION_HEIGHT * 0.5), "mm")
    return picture


def match_caption(example: MatchExample) -> str:
    """What a picture of matches shows, in words."""
    right = int((example.errors <= CORRECT_WITHIN).sum())
    total = len(example.matches)
    part = f", {MAX_LINES} drawn" if total > MAX_LINES else ""
    return (
        f"{example.sequence} 1 / {example.image}: {right} of {total} matches within {CORRECT_WITHIN} px"
        f" ({len(example.keypoints1)} and {len(example.keypoints2)} keypoints{part})"
    )


def match_thumbnail(example: MatchExample, width: int) -> Image.Image:
    """The same as `match_picture`, without words and of any size.

    Args:
        example: what is drawn.
        width: pixels.
    """
    # Twice as large at first: halving it smooths the lines.
    scale = 2 * width / (example.image1.shape[1] + example.image2.shape[1])
    images = [_resized_grey(image, scale) for image in (example.image1, example.image2)]
    canvas = Image.new("RGB", (2 * width, max(image.height for image in images)), "white")
    canvas.paste(images[0], (0, 0))
    canvas.paste(images[1], (images[0].width, 0))
    pencil = ImageDraw.Draw(canvas)
    shift = np.array([example.image1.shape[1], 0])
    for x, y in np.concatenate([example.keypoints1, example.keypoints2 + shift]) * scale:
        pencil.rectangle((x - 1, y - 1, x + 1, y + 1), fill=KEYPOINT)
    for lines, colour in _match_lines(example, shift):
        for (x1, y1), (x2, y2) in lines * scale:
            pencil.line((x1, y1, x2, y2), fill=colour, width=2)
    return canvas.resize((width, round(canvas.height / 2)), Image.Resampling.BOX)


def _resized_grey(image: npt.NDArray[np.uint8], scale: float) -> Image.Image:
    small = Image.fromarray(grey(image))
    return small.resize((round(small.width * scale), round(small.height * scale)), Image.Resampling.BILINEAR)


def _match_lines(
    example: MatchExample, shift: npt.NDArray[np.int64]
) -> list[tuple[npt.NDArray[np.floating], str]]:
    """The lines that are drawn, (K, 2, 2) as start and end, with their colours, in the order of drawing."""
    shown = drawn(len(example.matches))
    starts = example.keypoints1[example.matches[shown, 0]]
    ends = example.keypoints2[example.matches[shown, 1]] + shift
    lines = np.stack([starts, ends], axis=1)
    return [(lines[chosen], colour) for chosen, colour in coloured(example.errors[shown])]
