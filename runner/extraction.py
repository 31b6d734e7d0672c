"""What keypoints are extracted from, and where they go: IMAGE.r2d2 beside each image, here or on S3."""

from __future__ import annotations

import glob
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from r2d2.containers import Keypoints
from r2d2.data.images import ImageFile, is_image
from r2d2.keypoint_file import save_keypoints
from r2d2.storage.depot import open_depot
from r2d2.storage.files import FolderFiles, StoredFile
from r2d2.storage.location import is_remote, open_files
from runner.settings import Settings

SUFFIX = ".r2d2"


@dataclass(frozen=True)
class Target:
    """An image, and whether its keypoints were extracted already.

    Attributes:
        image: a path, or a file on S3.
        exists: whether there is an IMAGE.r2d2.
    """

    image: ImageFile
    exists: bool

    @property
    def path(self) -> Path | None:
        """Where the keypoints go on this disk; None on S3."""
        return self.image.with_name(self.image.name + SUFFIX) if isinstance(self.image, Path) else None

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
        with tempfile.TemporaryDirectory() as temporary:
            local = Path(temporary) / "keypoints"
            save_keypoints(local, keypoints)
            depot = open_depot(self.image.files.place, settings.s3_patience)
            depot.store(self.image.name + SUFFIX, local)


def find_targets(arguments: tuple[str, ...], settings: Settings) -> list[Target]:
    """The images that files, folders, glob patterns, .txt lists and places on S3 name, each once, in order.

    Raises:
        ValueError: if an argument names nothing.
        StorageError: if a place on S3 cannot be looked at.
    """
    found: dict[str, Target] = {}
    for text in arguments:
        for target in _on_s3(text, settings) if is_remote(text) else _here(text):
            found.setdefault(str(target.image), target)
    return list(found.values())


def _on_s3(place: str, settings: Settings) -> Iterator[Target]:
    files = open_files(place, settings.objects)
    names = frozenset(files.names)
    images = [name for name in files.names if is_image(name)]
    if not images:
        raise ValueError(f"{place} holds no image")
    files.prefetch(name for name in images if name + SUFFIX not in names)
    return (Target(StoredFile(files, name), name + SUFFIX in names) for name in images)


def _here(text: str) -> Iterator[Target]:
    for path in _paths(text):
        yield Target(path, path.with_name(path.name + SUFFIX).exists())


def _paths(text: str) -> list[Path]:
    path = Path(text)
    if path.is_dir():
        return [path / name for name in FolderFiles.of(path).names if is_image(name)]
    if path.suffix == ".txt" and path.is_file():
        lines = [line.strip() for line in path.read_text().splitlines()]
        return [path.parent / line for line in lines if line and not line.startswith("#")]
    if path.is_file():
        return [path]
    matches = [Path(match) for match in sorted(glob.glob(text, recursive=True))]
    if matches:
        return [match for match in matches if match.suffix != SUFFIX and match.is_file()]
    raise ValueError(f"'{text}' is no image, folder, .txt list, place on S3 or pattern that matches a file")
