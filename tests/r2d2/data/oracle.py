"""The recipe of a training pair, step by step on whole images: slow, plain, and written apart from r2d2.

Its own pixel coordinates, its own homography, the dense flow of the whole image, colours by way of HSV. The
tests compare distributions with it.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC
# What Pillow called ANTIALIAS.
LANCZOS = Image.Resampling.LANCZOS


@dataclass
class OraclePair:
    """Crops (c, c, 3) uint8, flow (c, c, 2) in pixels of crop 2, windows (left, top, width, height)."""

    image1: np.ndarray
    image2: np.ndarray
    aflow: np.ndarray
    window1: tuple
    window2: tuple


def make(photo, config, rng):
    """A pair from a photo (Pillow, RGB), or None if no try finds a window."""
    image1 = rescale(photo, config, rng)
    tilted, matrix = tilt(image1, config, rng)
    noise = rng.uniform(-config.noise / 2, config.noise / 2, (tilted.height, tilted.width, 3))
    tilted = Image.fromarray((np.asarray(tilted) + noise).round().clip(0, 255).astype(np.uint8))
    image2 = rescale(tilted, config, rng)
    image2 = jitter(image2, config, rng)
    aflow = dense_flow(matrix, image1.size, image2.size)
    windows = find_windows(aflow, image1.size, image2.size, config.crop_size, rng)
    if windows is None:
        return None
    return crop(image1, image2, aflow, *windows, config.crop_size)


def views(photo, sizes, matrix, windows, crop_size, noise, rng):
    """Both crops (c, c, 3) as the recipe resamples them, where all but the noise was drawn by somebody else.

    Given are the sizes of image 1 and 2, the matrix between Pillow's positions in them, and both windows.
    """
    image1 = photo.resize(sizes[0], BILINEAR)
    shrink = np.diag([sizes[0][0] / sizes[1][0], sizes[0][1] / sizes[1][1], 1])
    back = np.linalg.inv(shrink @ matrix)
    back = (back / back[2, 2]).ravel()[:8].tolist()
    tilted = np.asarray(image1.transform(sizes[0], Image.Transform.PERSPECTIVE, back, BICUBIC))
    noisy = (tilted + rng.uniform(-noise / 2, noise / 2, tilted.shape)).round().clip(0, 255).astype(np.uint8)
    image2 = Image.fromarray(noisy).resize(sizes[1], BILINEAR)
    return [
        np.asarray(image.crop((x, y, x + w, y + h)).resize((crop_size, crop_size), LANCZOS))
        for image, (x, y, w, h) in zip((image1, image2), windows, strict=True)
    ]


def rescale(image, config, rng):
    low, high = np.log(config.min_shorter_side), np.log(config.max_shorter_side)
    factor = np.exp(rng.uniform(low, high)) / min(image.size)
    return image.resize((round(image.width * factor), round(image.height * factor)), BILINEAR)


def tilt(image, config, rng):
    """The tilted image, and the matrix from positions of the image to positions of the tilted one.

    Positions are Pillow's: (0, 0) is the top left corner of the frame.
    """
    width, height = image.size
    t = rng.integers(1, int(np.ceil(config.tilt * max(width, height))), endpoint=True)
    frame = np.array([(0, 0), (width, 0), (width, height), (0, height)], float)
    grown = {
        "top": [(-t, 0), (width + t, 0), (width, height), (0, height)],
        "right": [(0, 0), (width, -t), (width, height + t), (0, height)],
        "bottom": [(0, 0), (width, 0), (width + t, height), (-t, height)],
        "left": [(0, -t), (width, 0), (width, height), (0, height + t)],
    }[rng.choice(["top", "right", "bottom", "left"])]
    back = fit(np.array(grown, float), frame)
    tilted = image.transform(image.size, Image.Transform.PERSPECTIVE, back.ravel()[:8], BICUBIC)
    return tilted, fit(frame, np.array(grown, float))


def fit(source, target):
    """The homography through four pairs of points, by least squares."""
    rows, values = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return np.append(np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0], 1).reshape(3, 3)


def jitter(image, config, rng):
    """In float throughout: Pillow's own enhancers cut off fractions and darken by a grey level or two."""
    rgb = np.asarray(image).astype(float)
    for k in rng.permutation(4):
        if k == 0:
            rgb = rgb * (1 + rng.uniform(-config.brightness, config.brightness))
        if k == 1:
            pivot = grey(rgb).mean()
            rgb = pivot + (rgb - pivot) * (1 + rng.uniform(-config.contrast, config.contrast))
        if k == 2:
            rgb = grey(rgb) + (rgb - grey(rgb)) * (1 + rng.uniform(-config.saturation, config.saturation))
        if k == 3:
            rgb = turn_hue(rgb, rng.uniform(-config.hue, config.hue))
        rgb = rgb.clip(0, 255)
    return Image.fromarray(rgb.round().astype(np.uint8))


def grey(rgb):
    return (rgb @ [0.299, 0.587, 0.114])[..., None]


def turn_hue(rgb, turns):
    """By way of hue, saturation and value, sector by sector."""
    red, green, blue = np.moveaxis(rgb, -1, 0)
    value, chroma = rgb.max(axis=-1), np.ptp(rgb, axis=-1)
    safe = np.where(chroma == 0, 1, chroma)
    sixths = np.select(
        [value == red, value == green],
        [(green - blue) / safe, 2 + (blue - red) / safe],
        4 + (red - green) / safe,
    )
    sixths = (sixths + 6 * turns) % 6
    p = value - chroma
    falling, rising = value - chroma * (sixths % 1), value - chroma * (1 - sixths % 1)
    sectors = [
        (value, rising, p),
        (falling, value, p),
        (p, value, rising),
        (p, falling, value),
        (rising, p, value),
        (value, p, falling),
    ]
    at = [np.floor(sixths) == k for k in range(6)]
    return np.stack([np.select(at, [sector[c] for sector in sectors]) for c in range(3)], axis=-1)


def dense_flow(matrix, size1, size2):
    """Where each pixel of image 1 lies in image 2, pixel centres at integers: (H, W, 2)."""
    x, y = np.meshgrid(np.arange(size1[0]) + 0.5, np.arange(size1[1]) + 0.5)
    u, v, w = np.tensordot(matrix, np.stack([x, y, np.ones_like(x)]), 1)
    return np.stack([u / w * size2[0] / size1[0], v / w * size2[1] / size1[1]], axis=-1) - 0.5


def find_windows(aflow, size1, size2, crop_size, rng):
    best, best_score, valid = None, 0, 0
    scale = np.sqrt(np.abs(np.linalg.det(np.stack(np.gradient(aflow, axis=(0, 1)), axis=-1))))
    for _ in range(250):
        x, y = rng.integers(size1[0]), rng.integers(size1[1])
        partner, s = aflow[y, x], scale[y, x]
        if not ((partner > -0.5) & (partner < np.array(size2) - 0.5)).all() or not 0.2 < s < 5:
            continue
        window1 = place((x, y), crop_size / s if s < 1 else crop_size, size1)
        window2 = place(partner, crop_size if s < 1 else crop_size * s, size2)
        if (value := score(aflow, window1, window2)) > best_score:
            best, best_score = (window1, window2), value
        valid += 1
        if valid == 5:
            break
    return best


def place(centre, side, size):
    span = [min(round(side), limit) for limit in size]
    corner = [
        min(max(round(c - s / 2), 0), limit - s) for c, s, limit in zip(centre, span, size, strict=True)
    ]
    return (*corner, *span)


def score(aflow, window1, window2):
    left, top, width, height = window1
    inside = aflow[top : top + height, left : left + width].reshape(-1, 2)
    relative = (inside + 0.5 - window2[:2]) / window2[2:]
    lands = ((relative >= 0) & (relative < 1)).all(axis=1)
    cells = np.zeros((16, 16), bool)
    cells[tuple((relative[lands] * 16).astype(int).T)] = True
    return min(lands.mean(), cells.mean())


def crop(image1, image2, aflow, window1, window2, crop_size):
    crops = []
    for image, (left, top, width, height) in ((image1, window1), (image2, window2)):
        cut = image.crop((left, top, left + width, top + height))
        crops.append(np.asarray(cut.resize((crop_size, crop_size), BILINEAR)))
    left, top, width, height = window1
    cut = aflow[top : top + height, left : left + width].astype(np.float32)
    planes = [
        np.asarray(Image.fromarray(cut[..., k]).resize((crop_size, crop_size), BILINEAR)) for k in (0, 1)
    ]
    flow = (np.stack(planes, axis=-1) + 0.5 - window2[:2]) * crop_size / np.array(window2[2:]) - 0.5
    return OraclePair(*crops, flow, window1, window2)
