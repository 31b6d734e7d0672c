"""Reads features made elsewhere: files beside the images, in the format of D2-Net's benchmark.

`<image>.<tag>` is a numpy archive of `keypoints` (N, 2 or more: x, y, perhaps a scale, in pixels of the image
file, (0, 0) the centre of the top-left pixel), `descriptors` (N, D) and `scores` (N,), higher is better.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from r2d2.containers import FloatArray, Keypoints
from r2d2.formats.array_archive import read_arrays

Real = npt.NDArray[np.float64]

# Descriptors stored with 16 bits are of unit length up to a thousandth.
UNIT_TOLERANCE = 2e-3

NAMES = ("keypoints", "descriptors", "scores")
FORMAT = "keypoints (N, 2 or more), descriptors (N, D) and scores (N,)"


@dataclass(frozen=True)
class _Features:
    """What a file holds, in its order: keypoints (N, C), descriptors (N, D), scores (N,) or None."""

    keypoints: Real
    descriptors: Real
    scores: Real | None

    def chosen(self, indices: npt.NDArray[np.integer]) -> _Features:
        scores = None if self.scores is None else self.scores[indices]
        return _Features(self.keypoints[indices], self.descriptors[indices], scores)


def read_features(path: Path, image_size: tuple[int, int], top_k: int | None, notes: Notes) -> Keypoints:
    """Reads the features of one image and repairs what can be repaired.

    Descriptors that are not of unit length are normalised. Features with the same position and the same
    descriptor are kept once; several descriptors at one place are no duplicates. If a file has no scores, the
    order of its keypoints counts. All of this is noted, and so are files without keypoints and keypoints
    outside the image.

    Args:
        path: the file.
        image_size: (width, height) of the image, pixels.
        top_k: keeps as many with the highest scores; None: all.
        notes: gets what was repaired or is doubtful.

    Returns:
        The keypoints, best first; those without a scale have scale 1.

    Raises:
        ValueError: names the file if it is missing, damaged, of another layout or holds NaN, infinity or a
            descriptor of length 0; or if `top_k` asks for scores and there are none.
    """
    found = _read(path)
    _refuse_nonsense(path, found)
    if not len(found.keypoints):
        notes.add("no keypoints", path)
    found = _sorted(_without_duplicates(found, path, notes), path, top_k, notes)
    descriptors = _unit_length(found.descriptors, path, notes)
    keypoints = np.ones((len(found.keypoints), 3), np.float32)
    columns = min(found.keypoints.shape[1], 3)
    keypoints[:, :columns] = found.keypoints[:, :columns]
    outside = np.any(
        (found.keypoints[:, :2] < -0.5) | (found.keypoints[:, :2] > np.array(image_size) - 0.5), axis=1
    )
    if outside.any():
        notes.add("keypoints outside the image: are they in pixels of the image file?", path)
    scores = np.zeros(len(keypoints)) if found.scores is None else found.scores
    return Keypoints(keypoints, descriptors, scores.astype(np.float32), image_size)


def _read(path: Path) -> _Features:
    if not path.is_file():
        raise ValueError(f"there is no file of features {path}; every image needs one beside it")
    try:
        arrays = read_arrays(path, NAMES)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} is no file of features ({error}): it must hold {FORMAT}") from error
    for name in ("keypoints", "descriptors"):
        if name not in arrays:
            raise ValueError(f"{path} lacks '{name}': it must hold {FORMAT}")
    for name, values in arrays.items():
        # Of a member that is no array numpy gives the bytes.
        if not isinstance(values, np.ndarray):
            raise ValueError(f"{path}: '{name}' is no array; it must hold numbers")
        if values.dtype.kind not in "fiu":
            raise ValueError(f"{path}: '{name}' holds {values.dtype}; it must hold numbers")
    return _shaped(path, {name: values.astype(np.float64) for name, values in arrays.items()})


def _shaped(path: Path, arrays: dict[str, Real]) -> _Features:
    keypoints, descriptors, scores = arrays["keypoints"], arrays["descriptors"], arrays.get("scores")
    if not keypoints.size:
        return _Features(np.zeros((0, 2)), np.zeros((0, 0)), None if scores is None else np.zeros(0))
    if keypoints.ndim != 2 or keypoints.shape[1] < 2:
        raise ValueError(f"{path}: 'keypoints' has shape {keypoints.shape}; it must be (N, 2 or more)")
    count = len(keypoints)
    if descriptors.ndim != 2 or count not in descriptors.shape:
        raise ValueError(f"{path}: 'descriptors' has shape {descriptors.shape}; it must be ({count}, D)")
    if _is_transposed(path, descriptors, count):
        descriptors = descriptors.T
    if scores is not None:
        if scores.size != count:
            raise ValueError(f"{path}: 'scores' has shape {scores.shape}; it must be ({count},)")
        scores = scores.reshape(count)
    return _Features(keypoints, descriptors, scores)


def _is_transposed(path: Path, descriptors: Real, count: int) -> bool:
    """Whether descriptors are (D, N); a square is read along the side that has unit length."""
    rows, columns = (np.abs(np.linalg.norm(descriptors, axis=a) - 1) < UNIT_TOLERANCE for a in (1, 0))
    if descriptors.shape != (count, count):
        return len(descriptors) != count
    if rows.all() == columns.all():
        raise ValueError(
            f"{path}: 'descriptors' has shape {descriptors.shape} and does not tell keypoints from "
            "numbers; it must be (N, D) with rows of unit length"
        )
    return bool(columns.all())


def _refuse_nonsense(path: Path, found: _Features) -> None:
    parts: dict[str, Any] = {"keypoints": found.keypoints, "descriptors": found.descriptors}
    parts |= {} if found.scores is None else {"scores": found.scores[:, None]}
    for name, values in parts.items():
        bad = int((~np.isfinite(values)).any(axis=1).sum())
        if bad:
            raise ValueError(f"{path}: '{name}' holds NaN or infinity in {bad} of {len(values)} rows")
    if found.descriptors.size and not found.descriptors.any(axis=1).all():
        raise ValueError(f"{path}: a descriptor is all zeros, so it points nowhere")


def _without_duplicates(found: _Features, path: Path, notes: Notes) -> _Features:
    """Of equal features the first; a position has three numbers with a scale, and any angle after them."""
    if not len(found.keypoints):
        return found
    rows = np.ascontiguousarray(np.hstack([found.keypoints, found.descriptors]))
    # Compared as bytes, which is ten times as quick as number by number.
    _, kept = np.unique(rows.view(np.dtype((np.void, rows.strides[0]))).ravel(), return_index=True)
    if len(kept) < len(found.keypoints):
        notes.add("duplicate keypoints were removed", path)
    return found.chosen(np.sort(kept))


def _sorted(found: _Features, path: Path, top_k: int | None, notes: Notes) -> _Features:
    """Best first, at most `top_k`; of equal scores those that come first."""
    if found.scores is not None:
        return found.chosen(np.argsort(-found.scores, kind="stable")[:top_k])
    if top_k is not None and len(found.keypoints) > top_k:
        raise ValueError(
            f"{path} holds {len(found.keypoints)} keypoints without 'scores'; "
            f"the protocol takes the best {top_k}"
        )
    notes.add("no scores: the order of the file counts as best first", path)
    return found


def _unit_length(descriptors: Real, path: Path, notes: Notes) -> FloatArray:
    lengths = np.linalg.norm(descriptors, axis=1, keepdims=True)
    if (np.abs(lengths - 1) > UNIT_TOLERANCE).any():
        notes.add("descriptors were not of unit length and were normalised", path)
        descriptors = descriptors / lengths
    return np.ascontiguousarray(descriptors, dtype=np.float32)


class Notes:
    """Notes count sentences about files."""

    def __init__(self) -> None:
        self._kinds: dict[str, tuple[int, Path | None]] = {}

    def add(self, kind: str, path: Path | None = None) -> None:
        """Notes that a sentence holds of a file, or of the whole evaluation.

        Args:
            kind: the sentence, without the file's name.
            path: the file.
        """
        count, first = self._kinds.get(kind, (0, path))
        self._kinds[kind] = (count + 1, first)

    def sentences(self) -> tuple[str, ...]:
        """Returns one sentence per kind, in the order of their first files: `... (30 files, first X)`."""
        return tuple(
            kind if first is None else f"{kind} ({count} file{'s' if count > 1 else ''}, first {first})"
            for kind, (count, first) in self._kinds.items()
        )
