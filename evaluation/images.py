"""ImageStore: a benchmark's images, decoded once and kept in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from r2d2.data.images import read_image

Image = npt.NDArray[np.uint8]
_Version = tuple[int, int]


class ImageStore:
    """Reads images and keeps as many of them as fit into a limit.

    When the store is full, what it holds stays and further images are decoded each time they are read: a
    benchmark is read in the same order again and again, where dropping the oldest would never find anything.
    A file that changed is decoded anew.
    """

    def __init__(self, max_bytes: int = 2 * 2**30) -> None:
        """An empty store.

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
        """The image of a file: (H, W, 3) uint8 RGB, not writeable.

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
