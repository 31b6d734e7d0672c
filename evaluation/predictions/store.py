"""Keeps predictions on disk, so that other metrics, and protocols with the same extraction, need no new one.

The key of an entry is made from all that decides it: the model, the bytes of the image, the settings. Each
entry is a file, `<first two digits>/<digest>.r2d2p`: a magic word, the SHA-256 of the rest, and the rest, a
numpy archive. An incomplete entry counts as missing and is written again.

Several processes may share a folder: files appear whole or not at all, and one process at a time removes the
least recently used ones when the folder has grown beyond its limit.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from r2d2.containers import Keypoints
from r2d2.formats.array_archive import parse_arrays
from r2d2.storage.atomic import atomic_file
from r2d2.storage.cache import LruFolder

Arrays = dict[str, npt.NDArray[Any]]

SUFFIX = ".r2d2p"
MAGIC = b"R2D2 predictions 1\n"
GIB = 2**30

_CHECKSUM = hashlib.sha256().digest_size


# Part of every key; grows whenever the same network would say something else of the same image.
VERSION = 1

# Bits of a number of a stored descriptor, one of them for the sign. With 16, half as large again, a few of a
# thousand matches change, and with them what a robust estimator draws.
BITS = 24


class PredictionStore:
    """A PredictionStore holds named arrays on disk, found by what they were made from.

    Attributes:
        warning: why nothing is stored any more, e.g. because the disk is full; None while all is well.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Opens a store; the folder is made when something is written.

        Args:
            folder: holds nothing else.
            max_bytes: of all entries together, at least 0; 0 stores nothing.
        """
        self.folder = folder
        self.warning: str | None = None
        self._entries = LruFolder(folder, max_bytes, SUFFIX)

    def read(self, key: Mapping[str, Any]) -> Arrays | None:
        """Reads the arrays, of any shape, of this key; None if there is nothing, or nothing whole."""
        path = self._path(key)
        try:
            content = path.read_bytes()
            self._entries.use(path)
        except OSError:
            return None
        return _unpack(content)

    def write(self, key: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Stores arrays of any shape, unless they do not fit or an earlier attempt failed; see `warning`."""
        content = _pack(arrays)
        if self.warning is not None or not self._entries.fits(len(content)):
            return
        try:
            with atomic_file(self._path(key)) as file:
                file.write(content)
            self._entries.wrote(len(content))
        except OSError as error:
            self.warning = f"predictions are not stored any more: {self.folder}: {error.strerror or error}"

    def _path(self, key: Mapping[str, Any]) -> Path:
        text = json.dumps(key, sort_keys=True, separators=(",", ":"))
        return self._entries.path(hashlib.sha256(text.encode()).hexdigest())


def encode_keypoints(keypoints: Keypoints) -> Arrays:
    """Converts N keypoints to arrays for a store: three bytes for each number of a descriptor.

    Returns:
        keypoints (N, 3), scores (N,), image_size (2,) int64, descriptor_step (N, 1) float64, and
            descriptor_bytes (N, D, 3) uint8.
    """
    descriptors = keypoints.descriptors.astype(np.float64)
    largest = np.abs(descriptors).max(axis=1, keepdims=True, initial=0)
    step = np.where(largest > 0, largest, 1) / (2 ** (BITS - 1) - 1)
    whole = np.round(descriptors / step).astype("<i4")
    return {
        "keypoints": keypoints.keypoints,
        "scores": keypoints.scores,
        "image_size": np.array(keypoints.image_size, dtype=np.int64),
        "descriptor_step": step.astype(np.float64),
        "descriptor_bytes": whole.view(np.uint8).reshape(*whole.shape, 4)[..., :3],
    }


def decode_keypoints(arrays: Mapping[str, npt.NDArray[Any]]) -> Keypoints:
    """Inverts `encode_keypoints`, up to 2**-23 of the largest number of each descriptor.

    Args:
        arrays: keypoints (N, 3), scores (N,), image_size (2,), descriptor_step (N, 1) and descriptor_bytes
            (N, D, 3), as `encode_keypoints` makes them.
    """
    stored = arrays["descriptor_bytes"]
    padded = np.zeros((*stored.shape[:2], 4), dtype=np.uint8)
    # Into the upper bytes, so that the sign is where it belongs.
    padded[..., 1:] = stored
    whole = padded.view("<i4")[..., 0] >> 8
    width, height = (int(side) for side in arrays["image_size"])
    return Keypoints(
        keypoints=arrays["keypoints"],
        descriptors=(whole * arrays["descriptor_step"]).astype(np.float32),
        scores=arrays["scores"],
        image_size=(width, height),
    )


def _pack(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    payload = buffer.getvalue()
    return MAGIC + hashlib.sha256(payload).digest() + payload


def _unpack(content: bytes) -> Arrays | None:
    start = len(MAGIC) + _CHECKSUM
    payload = content[start:]
    if content[:start] != MAGIC + hashlib.sha256(payload).digest():
        return None
    try:
        return parse_arrays(payload)
    except ValueError:
        # Whole, and yet not ours.
        return None
