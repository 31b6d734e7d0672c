"""Opens benchmarks in HPatches' layout: a folder of sequences, each six images and five homographies."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from r2d2.formats.names import require_text
from r2d2.formats.written_text import read_text
from r2d2.storage.cache import CacheSettings
from r2d2.storage.location import local_folder

Homography = npt.NDArray[np.float64]
Split = Literal["illumination", "viewpoint"]

SPLITS: tuple[Split, ...] = ("illumination", "viewpoint")

# In this order, should a folder hold the same image twice: lossless first.
SUFFIXES = (".ppm", ".pgm", ".png", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg", ".webp")

# Nine numbers, bytes.
_LONGEST_HOMOGRAPHY = 10_000

# Larger than 1600 x 1200 pixels: the D2-Net benchmark leaves them out, so every published number does.
LEFT_OUT = frozenset(
    {
        "i_contruction",  # spelt so in the release
        "i_crownnight",
        "i_dc",
        "i_pencils",
        "i_whitebuilding",
        "v_artisans",
        "v_astronautis",
        "v_talent",
    }
)


@dataclass(frozen=True)
class Sequence:
    """A Sequence is six images of one scene with the homographies from the first to the others.

    Attributes:
        name: of its folder.
        images: the files of images 1 to 6.
        homographies: five of (3, 3), from pixels of image 1 to pixels of images 2 to 6.
        split: None if the name starts neither with `i_` nor with `v_`; it counts in the overall mean only.
    """

    name: str
    images: tuple[Path, ...]
    homographies: tuple[Homography, ...]
    split: Split | None


@dataclass(frozen=True)
class Benchmark:
    """A Benchmark holds the sequences of a folder, sorted by name, without the left-out ones.

    Attributes:
        name: of the folder.
        folder: where it lies.
        sequences: by name.
        passed_over: the names of subfolders that are no sequences, without hidden ones.
    """

    name: str
    folder: Path
    sequences: tuple[Sequence, ...]
    passed_over: tuple[str, ...] = ()

    @cached_property
    def image_digests(self) -> dict[Path, str]:
        """Returns the SHA-256 (hexadecimal) of the bytes of every image file. Computed once per value."""
        return {image: file_digest(image) for sequence in self.sequences for image in sequence.images}

    @cached_property
    def digest(self) -> str:
        """Returns the SHA-256 of what the protocol sees: names of sequences, bytes of images, homographies.

        It does not depend on where the folder lies, nor on other files in it. Computed once per value.
        """
        total = hashlib.sha256()
        for sequence in self.sequences:
            total.update(hashlib.sha256(sequence.name.encode()).digest())
            for image in sequence.images:
                total.update(bytes.fromhex(self.image_digests[image]))
            for homography in sequence.homographies:
                total.update(homography.astype("<f8").tobytes())
        return total.hexdigest()


def open_benchmark(place: str | Path, cache: CacheSettings | None = None) -> Benchmark:
    """Finds the sequences of a folder and reads their homographies; images are not opened.

    A sequence is a subfolder called `i_*` or `v_*`, or with any other name if it holds an image `1` to `6`
    or a file `H_1_2` to `H_1_6`. Everything else in the folder is passed over.

    Args:
        place: a folder, or `s3://bucket/prefix`, which is copied to this disk.
        cache: where the copy is kept on this node; None: in a temporary folder.

    Raises:
        ValueError: if there is no folder or no sequence, a sequence lacks an image or a usable homography, or
            a name is not UTF-8.
        StorageError: if it is on S3 and cannot be had.
    """
    folder = local_folder(str(place), cache)
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; a benchmark is a folder of sequences such as i_leuven")
    for path in folder.iterdir():
        require_text(str(path))
    candidates = sorted(path for path in folder.iterdir() if path.is_dir() and path.name not in LEFT_OUT)
    sequences = tuple(_open_sequence(path) for path in candidates if _is_sequence(path))
    if not sequences:
        raise ValueError(_no_sequences(folder))
    others = {path.name for path in candidates if not path.name.startswith(".")} - {s.name for s in sequences}
    return Benchmark(folder.resolve().name, folder, sequences, tuple(sorted(others)))


def file_digest(path: Path) -> str:
    """Returns the SHA-256 (hexadecimal) of the bytes of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def split_of(sequence: str) -> Split | None:
    """Returns the split that a sequence belongs to by its name; None for a name of neither."""
    prefixes: dict[str, Split] = {"i_": "illumination", "v_": "viewpoint"}
    return prefixes.get(sequence[:2])


def _is_sequence(folder: Path) -> bool:
    if folder.name.startswith("."):
        return False
    if split_of(folder.name) is not None:
        return True
    names = {path.name for path in folder.iterdir()}
    return any(f"H_1_{k}" in names for k in range(2, 7)) or any(
        _find_image(folder, k) is not None for k in range(1, 7)
    )


def _no_sequences(folder: Path) -> str:
    if _is_sequence(folder):
        return (
            f"{folder} is itself a sequence; a benchmark is the folder that holds sequences: {folder.parent}"
        )
    return (
        f"{folder} holds no sequences; expected subfolders such as i_leuven or v_graffiti, "
        "each with images 1 to 6 and homographies H_1_2 to H_1_6"
    )


def _open_sequence(folder: Path) -> Sequence:
    images = tuple(_image(folder, k) for k in range(1, 7))
    homographies = tuple(read_homography(folder / f"H_1_{k}") for k in range(2, 7))
    return Sequence(folder.name, images, homographies, split_of(folder.name))


def _image(folder: Path, number: int) -> Path:
    path = _find_image(folder, number)
    if path is None:
        raise ValueError(f"{folder / str(number)} is missing: a sequence has images 1 to 6 ({_suffixes()})")
    return path


def _find_image(folder: Path, number: int) -> Path | None:
    files = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_file()}
    return next((files[f"{number}{s}"] for s in SUFFIXES if f"{number}{s}" in files), None)


def _suffixes() -> str:
    return ", ".join(SUFFIXES)


def read_homography(path: Path) -> Homography:
    """Reads nine numbers, row by row: (3, 3) float64, invertible.

    Raises:
        ValueError: if the file is missing, or holds anything but nine finite numbers of an invertible matrix.
    """
    wanted = "a homography is a text file of nine finite numbers, row by row, that can be inverted"
    if not path.is_file():
        raise ValueError(f"{path} is missing: {wanted}")
    words = read_text(path, _LONGEST_HOMOGRAPHY).split()
    try:
        numbers = np.array([float(word) for word in words])
    except ValueError:
        raise ValueError(f"{path} holds something that is no number: {wanted}") from None
    if numbers.size != 9:
        raise ValueError(f"{path} holds {numbers.size} numbers: {wanted}")
    if not np.isfinite(numbers).all():
        raise ValueError(f"{path} holds NaN or infinity: {wanted}")
    homography = numbers.reshape(3, 3)
    if np.linalg.matrix_rank(homography) < 3:
        raise ValueError(f"{path} is singular: {wanted}")
    return homography
