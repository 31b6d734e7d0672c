"""Reads and writes the keypoints of one image in the layout of the R2D2 authors' `.r2d2` files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from r2d2.containers import Keypoints
from r2d2.formats.array_archive import read_arrays
from r2d2.storage.atomic import atomic_file


def save_keypoints(path: Path, keypoints: Keypoints) -> None:
    """Writes keypoints as a numpy archive, in the layout of the R2D2 authors' `.r2d2` files; atomic.

    `imsize` (width, height), `keypoints` (N, 3), `descriptors` (N, D), `scores` (N,), by ascending score.
    """
    with atomic_file(path) as file:
        np.savez(
            file,
            imsize=np.array(keypoints.image_size, dtype=np.int64),
            keypoints=keypoints.keypoints[::-1].astype(np.float32),
            descriptors=keypoints.descriptors[::-1].astype(np.float32),
            scores=keypoints.scores[::-1].astype(np.float32),
        )


def load_keypoints(path: Path) -> Keypoints:
    """Reads what `save_keypoints` wrote, or another tool in its layout; best first. Unpickles nothing.

    Raises:
        ValueError: names the file if it is missing, damaged or of another layout.
    """
    if not path.is_file():
        raise ValueError(f"there is no file of keypoints {path}")
    names = ("imsize", "keypoints", "descriptors", "scores")
    try:
        arrays = read_arrays(path, names)
        size, keypoints, descriptors, scores = (arrays[name] for name in names)
        width, height = (int(side) for side in size)
        reverse = slice(None, None, -1)
        order = np.argsort(-scores[reverse], kind="stable")
        keypoints, descriptors, scores = (
            values[reverse][order].astype(np.float32) for values in (keypoints, descriptors, scores)
        )
        return Keypoints(keypoints, descriptors, scores, (width, height))
    except (
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        AttributeError,
        OverflowError,
    ) as error:
        raise ValueError(f"{path} is no file of keypoints ({error})") from error
