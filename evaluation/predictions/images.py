"""Decodes a benchmark's images once, keeps them in memory, and resizes them as a protocol says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from r2d2.data.images import read_image

Image = npt.NDArray[np.uint8]
_Version = tuple[int, int]


def size_at(size: tuple[int, int], shorter_side: int | None) -> tuple[int, int]:
    """Returns (width, height) of an image whose shorter side has `shorter_side` pixels; None: as it is.

    The longer side is rounded down to whole pixels, as in glue-factory.
    """
    if shorter_side is None:
        return size
    width, height = size
    longer = shorter_side * max(size) // min(size)
    return (shorter_side, longer) if width <= height else (longer, shorter_side)


def resized(image: Image, shorter_side: int | None) -> Image:
    """Resizes an image to the size of `size_at`: bilinear, antialiased where it shrinks.

    Args:
        image: (H, W, 3) uint8 RGB.
        shorter_side: of the result, pixels; None: the image as it is.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    size = (image.shape[1], image.shape[0])
    wanted = size_at(size, shorter_side)
    if wanted == size:
        return image
    return np.asarray(PillowImage.fromarray(image).resize(wanted, PillowImage.Resampling.BILINEAR))


class ImageStore:
    """Reads images and keeps as many of them as fit into a limit.

    A full store keeps what it holds, and decodes further images each time they are read. A benchmark is read
    in the same order each time, so a store that drops the oldest image would never have the next one. A file
    that changed is decoded anew.
    """

    def __init__(self, max_bytes: int = 2 * 2**30) -> None:
        """Makes an empty store.

        Args:
            max_bytes: of decoded images, at least 0.
        """
        if max_bytes < 0:
            raise ValueError(f"max_bytes is {max_bytes}; it must be at least 0")
        self.max_bytes = max_bytes
        self.bytes_held = 0
        self._images: dict[Path, tuple[_Version, Image]] = {}

    def __len__(self) -> int:
        return len(self._images)

    def read(self, path: Path) -> Image:
        """Reads the image of a file: (H, W, 3) uint8 RGB, not writeable.

        Raises:
            ImageRefused: if the file cannot be used; see `read_image`.
        """
        version = _version(path)
        kept = self._images.get(path)
        if kept is not None and kept[0] == version:
            return kept[1]
        self._forget(path)
        image = read_image(path)
        image.flags.writeable = False
        if self.bytes_held + image.nbytes <= self.max_bytes:
            self._images[path] = (version, image)
            self.bytes_held += image.nbytes
        return image

    def _forget(self, path: Path) -> None:
        if path in self._images:
            self.bytes_held -= self._images.pop(path)[1].nbytes


def _version(path: Path) -> _Version:
    """What changes when a file is written; (0, 0) if it is not there, which `read_image` will say."""
    if not path.is_file():
        return (0, 0)
    status = path.stat()
    return (status.st_mtime_ns, status.st_size)


def grey(image: Image) -> Image:
    """Turns an image (H, W, 3) uint8 into its grey, (H, W) uint8, so that the only colours are the marks'."""
    return np.asarray(PillowImage.fromarray(image).convert("L"))
