"""PredictionStore: predictions made once and kept on disk, so that another metric or protocol costs no other.

An entry is found by what decides it: the model, the bytes of the image, the settings. It is a file of its
own, `<first two digits>/<digest>.r2d2p`: a magic word, the SHA-256 of the rest, and the rest, a numpy
archive. An entry that is not whole is taken for none and written again.

Several processes may share a folder: files appear whole or not at all, and one process at a time removes the
least recently used ones when the folder has grown beyond its limit.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from r2d2.atomic import atomic_file
from r2d2.containers import Keypoints

Arrays = dict[str, npt.NDArray[Any]]

SUFFIX = ".r2d2p"
MAGIC = b"R2D2 predictions 1\n"
GIB = 2**30

# Removal goes on until this share of the limit is left, so that it is rare.
KEPT = 0.9
# Other processes write too: after as large a share of the limit, the folder is looked through again.
LOOK_AGAIN = 0.02
# A file that its writer left unfinished, by being killed, is removed after as many seconds.
ABANDONED = 3600.0

_CHECKSUM = hashlib.sha256().digest_size


# Part of every key; grows whenever the same network would say something else of the same image.
VERSION = 1

# Bits of a number of a stored descriptor, one of them for the sign. With 16, half as large again, a few of a
# thousand matches change, and with them what a robust estimator draws.
BITS = 24


class PredictionStore:
    """Named arrays on disk, found by what they were made from.

    Attributes:
        warning: why nothing is stored any more, e.g. because the disk is full; None while all is well.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """A store; the folder is made when something is written.

        Args:
            folder: holds nothing else.
            max_bytes: of all entries together, at least 0; 0 stores nothing.
        """
        if max_bytes < 0:
            raise ValueError(f"max_bytes is {max_bytes}; it must be at least 0")
        self.folder, self.max_bytes = folder, max_bytes
        self.warning: str | None = None
        self._written_since_look = float("inf")

    def read(self, key: Mapping[str, Any]) -> Arrays | None:
        """What was written under this key; None if there is nothing, or nothing whole."""
        path = self._path(key)
        try:
            content = path.read_bytes()
            # Now it is the most recently used.
            os.utime(path)
        except OSError:
            return None
        return _unpack(content)

    def write(self, key: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Stores arrays, unless it would not fit or an earlier attempt failed; see `warning`."""
        content = _pack(arrays)
        if self.warning is not None or len(content) > self.max_bytes * KEPT:
            return
        try:
            with atomic_file(self._path(key)) as file:
                file.write(content)
            self._written_since_look += len(content)
            if self._written_since_look > LOOK_AGAIN * self.max_bytes:
                self._make_room()
                self._written_since_look = 0
        except OSError as error:
            self.warning = f"predictions are not stored any more: {self.folder}: {error.strerror or error}"

    def _path(self, key: Mapping[str, Any]) -> Path:
        text = json.dumps(key, sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(text.encode()).hexdigest()
        return self.folder / digest[:2] / (digest + SUFFIX)

    def _make_room(self) -> None:
        """Removes the least recently used entries beyond the limit, and files that nobody will finish."""
        try:
            with FileLock(self.folder / "lock", timeout=0):
                entries = self._entries()
                surplus = sum(size for _, size, _ in entries) - self.max_bytes
                if surplus <= 0:
                    return
                surplus += int((1 - KEPT) * self.max_bytes)
                for _, size, path in entries:
                    path.unlink(missing_ok=True)
                    surplus -= size
                    if surplus <= 0:
                        return
        except Timeout:
            # Another process is removing already.
            return

    def _entries(self) -> list[tuple[int, int, Path]]:
        """(time of last use, bytes, path) of all entries, the least recently used first."""
        entries = []
        # These patterns match hidden names too, which files have while they are written.
        for path in self.folder.glob("??/*"):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            if path.suffix == SUFFIX:
                entries.append((status.st_mtime_ns, status.st_size, path))
            elif time.time() - status.st_mtime > ABANDONED:
                path.unlink(missing_ok=True)
        return sorted(entries)


def encode_keypoints(keypoints: Keypoints) -> Arrays:
    """Keypoints as arrays for a store: three bytes for each number of a descriptor, the rest as it is."""
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
    """The inverse of `encode_keypoints`, up to 2**-23 of the largest number of each descriptor."""
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
        with np.load(io.BytesIO(payload), allow_pickle=False) as arrays:
            return dict(arrays)
    except (ValueError, KeyError, EOFError, zlib.error, zipfile.BadZipFile):
        # Whole, and yet not ours.
        return None
