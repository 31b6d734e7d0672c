"""Finds the images to extract keypoints from, and writes IMAGE.r2d2 beside each, here or on S3."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from r2d2.containers import Keypoints
from r2d2.data.images import IMAGE_SUFFIXES, NOTHING, ImageFile, Pixels, is_image, read_image, shows_nothing
from r2d2.data.normalisation import normalise
from r2d2.data.photos import passed_over
from r2d2.extraction.keypoint_file import save_keypoints
from r2d2.extraction.keypoints import Extractor
from r2d2.extraction.pyramid import pyramid
from r2d2.extraction.settings import ExtractionSettings
from r2d2.formats.names import require_text
from r2d2.formats.written_text import read_text
from r2d2.storage.files import FileSet, FolderFiles, StoredFile
from r2d2.storage.location import is_remote, open_files, open_store
from r2d2.storage.scratch import scratch_folder
from runner.settings import Settings

SUFFIX = ".r2d2"
# Bytes: a million names.
_LONGEST_LIST = 2**27


@dataclass(frozen=True)
class Target:
    """A Target is an image, and whether its keypoints were extracted already.

    Attributes:
        image: a path, or a file on S3.
        exists: whether there is an IMAGE.r2d2.
    """

    image: ImageFile
    exists: bool

    @property
    def path(self) -> Path | None:
        """Returns the keypoint file on this disk; None on S3."""
        return self.image.with_name(self.image.name + SUFFIX) if isinstance(self.image, Path) else None

    def extract(self, extractor: Extractor, settings: Settings) -> str | None:
        """Extracts and writes the image's keypoints; if there are none, returns the reason.

        Raises:
            ImageRefused: if the image cannot be used.
            StorageError, OSError: as `save`.
        """
        pixels = read_image(self.image)
        keypoints = extractor(normalise(pixels))
        self.save(keypoints, settings)
        return None if len(keypoints) else why_nothing(pixels, extractor.settings)

    def save(self, keypoints: Keypoints, settings: Settings) -> None:
        """Writes the keypoints beside the image; they appear there whole or not at all.

        Raises:
            StorageError: if they cannot be stored on S3.
            OSError: if they cannot be written.
        """
        if self.path is not None:
            save_keypoints(self.path, keypoints)
            return
        assert isinstance(self.image, StoredFile)
        with scratch_folder() as scratch:
            local = scratch / "keypoints"
            save_keypoints(local, keypoints)
            store = open_store(self.image.files.place, settings.s3_timeout)
            store.put_file(self.image.name + SUFFIX, local)


@dataclass
class Found:
    """A Found holds the images to extract from.

    Attributes:
        targets: each once, in order.
        passed_over: sentences about what lay there and is not looked at.
    """

    targets: list[Target]
    passed_over: list[str]


def find_targets(arguments: tuple[str, ...], settings: Settings) -> Found:
    """Finds the images that files, folders, glob patterns, .txt lists and places on S3 name.

    Each image comes once, in the order of the arguments.

    Raises:
        ValueError: if an argument names no image, or a list cannot be read.
        StorageError: if a place on S3 cannot be looked at.
    """
    targets: dict[str, Target] = {}
    passed: list[str] = []
    for text in arguments:
        for target in _on_s3(text, settings, passed) if is_remote(text) else _here(text, passed):
            targets.setdefault(str(target.image), target)
    return Found(list(targets.values()), passed)


def _on_s3(place: str, settings: Settings, passed: list[str]) -> Iterator[Target]:
    files = open_files(place, settings.objects)
    names = frozenset(files.names)
    images = _images(files, passed)
    files.prefetch(name for name in images if name + SUFFIX not in names)
    return (Target(StoredFile(files, name), name + SUFFIX in names) for name in images)


def _here(text: str, passed: list[str]) -> Iterator[Target]:
    for path in _paths(text, passed):
        require_text(str(path))
        yield Target(path, path.with_name(path.name + SUFFIX).exists())


def _images(files: FileSet, passed: list[str]) -> list[str]:
    images = [name for name in files.names if is_image(name)]
    passed += passed_over(files, SUFFIX)
    if not images:
        raise ValueError(f"{files.place} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return images


def _paths(text: str, passed: list[str]) -> list[Path]:
    path = Path(text)
    if path.is_dir():
        return [path / name for name in _images(FolderFiles.of(path), passed)]
    if path.suffix == ".txt" and path.is_file():
        return _listed(path)
    if path.is_file():
        return [path]
    matches = [Path(match) for match in sorted(glob.glob(text, recursive=True))]
    files = [match for match in matches if match.suffix != SUFFIX and match.is_file()]
    folders = [match for match in matches if match.is_dir()]
    if folders:
        passed.append(
            f"{text}: {len(folders)} folders are passed over, the first {folders[0]}; name a folder itself"
        )
    if files:
        return files
    raise ValueError(f"'{text}' is no image, folder, .txt list, place on S3 or pattern that matches a file")


def _listed(path: Path) -> list[Path]:
    """Reads the images of a list, one a line, relative to its folder; skips empty lines and lines with #."""
    images = []
    for number, line in enumerate(read_text(path, _LONGEST_LIST).splitlines(), start=1):
        name = line.strip()
        if not name or name.startswith("#"):
            continue
        images.append(path.parent / name)
        if images[-1].is_dir():
            raise ValueError(f"{path}, line {number}: '{name}' is a folder; a line names one image")
    if not images:
        raise ValueError(f"{path} names no image; a list has one a line")
    return images


def why_nothing(pixels: Pixels, settings: ExtractionSettings) -> str:
    """Says why an image has no keypoint, as far as one can tell, with the options that change it."""
    height, width = pixels.shape[:2]
    if next(pyramid(torch.empty(1, 3, height, width), settings), None) is None:
        limits = f"--min-size {settings.min_size}, --max-size {settings.max_size}, --min-scale"
        return f"at {width}x{height} pixels no size is searched ({limits} {settings.min_scale:g})"
    if shows_nothing(Image.fromarray(pixels)):
        return NOTHING
    return (
        f"none passes --min-reliability {settings.min_reliability:g} and "
        f"--min-repeatability {settings.min_repeatability:g}"
    )
