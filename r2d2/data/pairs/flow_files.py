"""Reads flow files: Aachen's PNG of int16, Middlebury's `.flo`, KITTI's PNG of 16 bits.

Each is read once, as it is stored; numbers become flow only where they are asked for.
"""

from __future__ import annotations

import os
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from r2d2.data.images import MAX_PIXELS, ImageRefused, open_header, refusing
from r2d2.data.pairs.flow_field import Floats, FlowField, Ints, both
from r2d2.storage.files import StoredFile

# Parts of a pixel that the numbers in Aachen's files count, and in KITTI's; what those have for 0.
AACHEN_UNIT, KITTI_UNIT, KITTI_ZERO = 16, 64, 2**15

# "PIEH" as a number; and what no flow is larger than, in Middlebury's files.
MIDDLEBURY_MAGIC, MIDDLEBURY_UNKNOWN = 202021.25, 1e9
_HEADER_BYTES = 12


class AachenFlow(FlowField):
    """Reads a PNG whose bytes are int16 (x, y) per pixel, in 1/16 pixel; its mask is 0 where unknown.

    Raises:
        ImageRefused: if a file cannot be used, or the mask has another size.
    """

    def __init__(self, file: StoredFile, mask: StoredFile | None) -> None:
        with refusing(file), file.open() as content, open_header(content, file, ("PNG",)) as image:
            if image.mode != "RGBA":
                raise ImageRefused(file, f"a PNG of mode {image.mode}; flow has four bytes a pixel (RGBA)")
            self._flow = np.asarray(image).view("<i2")
            self.size = image.size
        self._known: npt.NDArray[np.bool_] | None = None
        if mask is not None:
            self._known = _read_mask(mask)
            if self._known.shape != self._flow.shape[:2]:
                height, width = self._known.shape
                raise ImageRefused(mask, f"{width}x{height} pixels; its flow has {_text(self.size)}")

    def relative(self, rows: Ints, columns: Ints) -> Floats:
        """Returns the flow at pixels, NaN where the mask says that it is unknown.

        Args:
            rows: int64 of any shape, y of the pixels.
            columns: int64 of any shape that `rows` broadcasts with, x of the pixels.

        Returns:
            (..., 2) float32: x and y of the flow, pixels, in steps of 1 / AACHEN_UNIT.
        """
        flow = self._flow[rows, columns].astype(np.float32) / np.float32(AACHEN_UNIT)
        if self._known is not None:
            flow[~self._known[rows, columns]] = np.nan
        return flow


class MiddleburyFlow(FlowField):
    """Reads a `.flo` file: magic number, width, height, then float32 (x, y); unknown beyond 1e9.

    Raises:
        ImageRefused: if the file cannot be used.
    """

    def __init__(self, file: StoredFile) -> None:
        if file.size > _HEADER_BYTES + 8 * MAX_PIXELS:
            raise ImageRefused(
                file, f"{file.size} bytes; at most {MAX_PIXELS // 10**6} million pixels are read"
            )
        with refusing(file), file.open() as content:
            self.size = width, height = _middlebury_size(content, file)
            numbers = content.read(8 * width * height)
        if len(numbers) != 8 * width * height:
            raise ImageRefused(file, "it became shorter while it was read")
        # A pixel's two numbers as one, which is gathered faster.
        self._flow = np.frombuffer(numbers, "<c8").reshape(height, width)

    def relative(self, rows: Ints, columns: Ints) -> Floats:
        """Returns the flow at pixels, NaN where the file marks it as unknown by a huge value.

        Args:
            rows: int64 of any shape, y of the pixels.
            columns: int64 of any shape that `rows` broadcasts with, x of the pixels.

        Returns:
            (..., 2) float32: x and y of the flow, pixels.
        """
        found = self._flow[rows, columns]
        flow = found.view("<f4").reshape(*found.shape, 2)
        # Comparisons with NaN are false.
        flow[~both(np.abs(flow) < MIDDLEBURY_UNKNOWN)] = np.nan
        return flow.astype(np.float32, copy=False)


class KittiFlow(FlowField):
    """Reads a PNG of three 16-bit channels: x and y as 64 times the flow + 2^15, and whether known.

    Raises:
        ImageRefused: if the file cannot be used.
    """

    def __init__(self, file: StoredFile) -> None:
        high, low = (_read_bytes(file, order) for order in ("RGB;16B", "RGB;16L"))
        self._high, self._low = high, low
        self.size = (high.shape[1], high.shape[0])

    def relative(self, rows: Ints, columns: Ints) -> Floats:
        """Returns the flow at pixels, NaN where the file's third channel marks it as unknown.

        Args:
            rows: int64 of any shape, y of the pixels.
            columns: int64 of any shape that `rows` broadcasts with, x of the pixels.

        Returns:
            (..., 2) float32: x and y of the flow, pixels, in steps of 1 / KITTI_UNIT.
        """
        values = self._high[rows, columns].astype(np.int32) * 256 + self._low[rows, columns]
        flow = (values[..., :2] - KITTI_ZERO).astype(np.float32) / np.float32(KITTI_UNIT)
        flow[values[..., 2] == 0] = np.nan
        return flow


def _middlebury_size(content: BinaryIO, file: StoredFile) -> tuple[int, int]:
    """(width, height) by the header, which is compared with the file's size before anything else is read."""
    size = content.seek(0, os.SEEK_END)
    content.seek(0)
    header = content.read(_HEADER_BYTES)
    if len(header) < _HEADER_BYTES or np.frombuffer(header, "<f4", 1)[0] != MIDDLEBURY_MAGIC:
        raise ImageRefused(file, "no .flo file: its first bytes are not PIEH")
    width, height = np.frombuffer(header, "<i4", 2, offset=4).tolist()
    expected = _HEADER_BYTES + 8 * width * height
    if width < 1 or height < 1 or size != expected:
        raise ImageRefused(file, f"{size} bytes; {width}x{height} pixels need {expected}")
    return width, height


def _read_mask(file: StoredFile) -> npt.NDArray[np.bool_]:
    with refusing(file), file.open() as content, open_header(content, file, ("PNG",)) as image:
        pixels = np.asarray(image)
    known: npt.NDArray[np.bool_] = np.any(pixels if pixels.ndim == 3 else pixels[..., None], axis=-1)
    return known


def _read_bytes(file: StoredFile, order: str) -> npt.NDArray[np.uint8]:
    """One byte of each 16-bit channel of a PNG: the higher with "RGB;16B", the lower with "RGB;16L".

    The numbers of a PNG are big-endian. Told that they are little-endian, Pillow keeps their other byte.
    """
    with refusing(file), file.open() as content, open_header(content, file, ("PNG",)) as image:
        tiles = getattr(image, "tile", [])
        if image.mode != "RGB" or len(tiles) != 1 or tiles[0][3] != "RGB;16B":
            raise ImageRefused(file, f"a PNG of mode {image.mode}; flow has three channels of 16 bits")
        image.tile = [tiles[0]._replace(args=order)]
        return np.array(image)


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
