"""Defines MatchExample: a pair of images with keypoints and matches, for pictures, and its archive."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from r2d2.formats.array_archive import parse_arrays


@dataclass(frozen=True, eq=False)
class MatchExample:
    """A MatchExample is one pair of a benchmark with its keypoints and matches.

    Attributes:
        sequence: its name.
        image: k; the pair is (1, k).
        image1, image2: (H, W, 3) uint8 RGB; `image2` is image k.
        keypoints1, keypoints2: (N, 2) and (M, 2), x and y in pixels.
        matches: (K, 2), indices into both.
        errors: (K,), pixels of image k.
    """

    sequence: str
    image: int
    image1: npt.NDArray[np.uint8]
    image2: npt.NDArray[np.uint8]
    keypoints1: npt.NDArray[np.float32]
    keypoints2: npt.NDArray[np.float32]
    matches: npt.NDArray[np.int64]
    errors: npt.NDArray[np.float64]


_ARRAYS = ("image1", "image2", "keypoints1", "keypoints2", "matches", "errors")


def pack_examples(examples: tuple[MatchExample, ...]) -> bytes:
    """Packs examples into a numpy archive."""
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "sequences": np.array([e.sequence for e in examples], dtype=np.str_),
        "images": np.array([e.image for e in examples], dtype=np.int64),
    }
    for index, example in enumerate(examples):
        arrays |= {f"{index}/{name}": getattr(example, name) for name in _ARRAYS}
    return pack(arrays)


def unpack_examples(content: bytes, where: str) -> tuple[MatchExample, ...]:
    """Reads the examples in an archive of `pack_examples`.

    Args:
        content: the archive.
        where: it lies, for errors.

    Raises:
        ValueError: if the file holds something else.
    """
    with unpacked(content, f"{where} holds no matched pairs") as arrays:
        names, images = arrays["sequences"], arrays["images"]
        return tuple(
            MatchExample(str(name), int(image), **{key: arrays[f"{index}/{key}"] for key in _ARRAYS})
            for index, (name, image) in enumerate(zip(names, images, strict=True))
        )


Arrays = Mapping[str, npt.NDArray[Any]]


def pack(arrays: Arrays) -> bytes:
    """Packs arrays of any shape into a compressed archive."""
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    return content.getvalue()


@contextmanager
def unpacked(content: bytes, complaint: str) -> Iterator[Arrays]:
    """Gives the arrays of an archive, of any shape, for as long as the block lasts; nothing is executed.

    Args:
        content: of `pack`.
        complaint: the beginning of the sentence, if the block does not find there what it should.

    Raises:
        ValueError: if it does not.
    """
    try:
        yield parse_arrays(content)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{complaint}: {error}") from error
