"""Lighting: the same image under another light, seen by a worse camera."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

Pixels = npt.NDArray[np.uint8]

# At strength 1: factors 2 ** (+-GAMMA) on the exponent, 1 -+ BRIGHTNESS and 1 - CONTRAST on the levels,
# 1 +- CAST on each colour, then blur (standard deviation, pixels) and noise (the same, grey levels).
GAMMA = 0.9
BRIGHTNESS = 0.4
CONTRAST = 0.4
CAST = 0.25
BLUR = 1.0
NOISE = 8.0


def relight(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Darker or brighter, flatter, tinted, blurred and noisy.

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
