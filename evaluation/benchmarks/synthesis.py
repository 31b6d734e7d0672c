"""Renders a photograph from known viewpoints and in known light, so that the truth is exact.

A view is a homography from pixels of an image to pixels of the photograph. Every image is sampled from the
photograph itself, never from another image, so that none is a copy of a copy.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter

from r2d2.geometry import apply_homography, frame_corners, resize_homography, scaling, translation
from r2d2.warp import homography_aflow, warp

Homography = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]
Size = tuple[int, int]

# Share of the photograph that image 1 shows, along the side that limits it: the rest is room to look around.
COVERAGE = 0.85

# At strength 1. The mildest of five steps then has 6 degrees and a scale of 1.10.
ROTATION = math.radians(30.0)
ZOOM = 1.6
# Change of depth, hence of scale, from the middle of image 1 to a corner.
TILT = 0.3
# How far the middle of the view moves, as a share of the shorter side.
SHIFT = 0.1

# Pixels of the photograph per pixel of image 1, at most; larger photographs are reduced first.
MAX_REDUCTION = 2.0

# Each pixel is the mean of as many samples along x and along y.
SAMPLES = 3

# At strength 1: factors 2 ** (+-GAMMA) on the exponent, 1 -+ BRIGHTNESS and 1 - CONTRAST on the levels,
# 1 +- CAST on each colour, then blur (standard deviation, pixels) and noise (the same, grey levels).
GAMMA = 0.9
BRIGHTNESS = 0.4
CONTRAST = 0.4
CAST = 0.25
BLUR = 1.0
NOISE = 8.0


def first_view(photo: Size, size: Size) -> Homography:
    """Returns the view of image 1: the middle of the photograph, upright.

    Args:
        photo: its width and height, pixels.
        size: width and height of image 1, pixels; a photograph that is smaller is enlarged.

    Returns:
        (3, 3), from pixels of image 1 to pixels of the photograph.
    """
    (photo_width, photo_height), (width, height) = photo, size
    scale = COVERAGE * min(photo_width / width, photo_height / height)
    window = (scale * width, scale * height)
    corner = translation((photo_width - window[0]) / 2, (photo_height - window[1]) / 2)
    return corner @ resize_homography(width, height, *window)


def random_viewpoint(
    strength: float, view: Homography, photo: Size, size: Size, rng: np.random.Generator
) -> Homography:
    """Draws a homography from image 1 to an image of the same size that the photograph fills.

    The view is rotated, tilted, moved aside and enlarged. `strength` fixes the amounts, `rng` draws the
    directions. If the photograph does not reach into the corners, the image is enlarged until it does.

    Args:
        strength: in [0, 1].
        view: (3, 3), of image 1, from its pixels to pixels of the photograph.
        photo: width and height of the photograph, pixels.
        size: width and height of the images, pixels.
        rng: draws the directions.

    Returns:
        homography_1tok: (3, 3), rounded to 12 digits, so that a text file holds it exactly.
    """
    width, height = size
    sign = 1.0 if rng.random() < 0.5 else -1.0
    tilt, aside = rng.uniform(0, 2 * math.pi, size=2)
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    shift = strength * SHIFT * min(size) * np.array([math.cos(aside), math.sin(aside)])
    slope = strength * TILT / (math.hypot(width, height) / 2)
    perspective = np.eye(3)
    perspective[2, :2] = slope * math.cos(tilt), slope * math.sin(tilt)
    turn = _rotation(sign * strength * ROTATION) @ perspective @ translation(*-(middle + shift))
    zoom = ZOOM**strength
    while True:
        homography = _rounded(translation(*middle) @ scaling(zoom, zoom) @ turn)
        if _fills(view @ np.linalg.inv(homography), photo, size):
            return homography
        zoom *= 1.02
        assert zoom < 100, "the middle of the view lies outside the photograph"


def reduce_photo(photo: Pixels, size: Size) -> Pixels:
    """Shrinks a photograph (H, W, 3) uint8 if image 1 would skip most of its pixels.

    Args:
        photo: (H, W, 3) uint8 RGB.
        size: width and height of image 1, pixels.

    Returns:
        (h, w, 3) uint8 RGB, at most MAX_REDUCTION pixels for each pixel of image 1 along a side.
    """
    height, width = photo.shape[:2]
    scale = COVERAGE * min(width / size[0], height / size[1])
    if scale <= MAX_REDUCTION:
        return photo
    reduced = (round(width * MAX_REDUCTION / scale), round(height * MAX_REDUCTION / scale))
    return np.asarray(Image.fromarray(photo).resize(reduced, Image.Resampling.LANCZOS))


def render(photo: Pixels, view: Homography, size: Size) -> Pixels:
    """Renders what a view shows, antialiased: each pixel is the mean of 3 x 3 bilinear samples.

    Args:
        photo: (H, W, 3) uint8 RGB.
        view: (3, 3), from pixels of the result to pixels of the photograph.
        size: (width, height) of the result, pixels.

    Returns:
        (h, w, 3) uint8 RGB of that size.
    """
    width, height = size
    fine = (SAMPLES * width, SAMPLES * height)
    aflow = homography_aflow(view @ resize_homography(*fine, width, height), fine[1], fine[0])
    # In float64 nothing but the photograph decides how a grey level is rounded.
    source = torch.from_numpy(photo.astype(np.float64)).permute(2, 0, 1)[None]
    sampled, valid = warp(source, aflow[None])
    assert bool(valid.all()), "the view leaves the photograph"
    pixels = F.avg_pool2d(sampled, SAMPLES)[0].permute(1, 2, 0)
    return np.asarray(pixels.round().clamp(0, 255).to(torch.uint8).numpy())


def _rotation(angle: float) -> Homography:
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])


def _rounded(homography: Homography) -> Homography:
    normalised = homography / homography[2, 2]
    return np.array([[float(f"{value:.12g}") for value in row] for row in normalised])


def _fills(view: Homography, photo: Size, size: Size) -> bool:
    """Whether the corners of the view lie within the photograph's pixel centres, and so all of it."""
    corners = apply_homography(view, frame_corners(*size))
    return bool((corners >= 0).all() and (corners <= np.array(photo) - 1).all())


def relight(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Makes an image darker or brighter, flatter, tinted, blurred and noisy.

    Amounts are fixed by `strength`; the direction, the tint and the noise are drawn.

    Args:
        image: (H, W, 3) RGB.
        strength: in [0, 1]; 0 changes nothing.
        rng: draws.

    Returns:
        The changed image, (H, W, 3).
    """
    darker = rng.random() < 0.5
    tint = rng.uniform(-CAST, CAST, size=3)
    blurred = Image.fromarray(image).filter(ImageFilter.GaussianBlur(strength * BLUR))
    levels = np.asarray(blurred, dtype=np.float64) / 255
    levels = levels ** (2 ** (strength * (GAMMA if darker else -GAMMA)))
    levels = 0.5 + (levels - 0.5) * (1 - strength * CONTRAST)
    levels *= 1 + strength * (-BRIGHTNESS if darker else BRIGHTNESS)
    levels *= 1 + strength * tint
    levels += rng.normal(scale=strength * NOISE / 255, size=levels.shape)
    return np.asarray((levels.clip(0, 1) * 255).round().astype(np.uint8))
