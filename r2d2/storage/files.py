"""Reads the files at one place by their names, whatever the place is.

A place is written as a text: a folder, or `s3://bucket/prefix`. What lies there is read through `StoredFile`,
so that nobody else needs to know where it lies.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from r2d2.formats.names import require_text
from r2d2.storage.errors import changed

# A folder by its device and number, whatever leads to it.
_Folder = tuple[int, int]


class FileSet(Protocol):
    """A FileSet reads the files at one place. It can be pickled, and holds no open connection when it is."""

    @property
    def place(self) -> str:
        """Says where they are: a folder, or `s3://bucket/prefix`."""

    @property
    def names(self) -> tuple[str, ...]:
        """Lists the paths of the files below the place, with slashes, sorted."""

    def size(self, name: str) -> int:
        """Returns the bytes of a file.

        Raises:
            OSError: if it is gone.
        """

    def open(self, name: str) -> BinaryIO:
        """Opens a file, seekable and at its first byte.

        Raises:
            OSError: if it cannot be had; the message names the file and the reason.
        """

    def prefetch(self, names: Iterable[str]) -> None:
        """Says which files are wanted soon, in this order; what is far away is fetched meanwhile."""


@dataclass(frozen=True)
class StoredFile:
    """A StoredFile is one file of a place, wherever that is.

    Attributes:
        files: where it lies.
        name: its path below the place.
    """

    files: FileSet
    name: str

    def __str__(self) -> str:
        return f"{self.files.place.rstrip('/')}/{self.name}"

    @property
    def size(self) -> int:
        """Returns the bytes of the file; raises as `FileSet.size`."""
        return self.files.size(self.name)

    def open(self) -> BinaryIO:
        """Opens the file, seekable and at its first byte; raises as `FileSet.open`."""
        return self.files.open(self.name)

    def read(self) -> bytes:
        """Reads the whole content; raises as `FileSet.open`."""
        with self.open() as file:
            return file.read()


@dataclass(frozen=True)
class FolderFiles:
    """FolderFiles are those in a folder and in the folders below it, links followed, without hidden ones.

    Attributes:
        stamps: bytes and time of change (nanoseconds since 1970) of each file when the folder was listed; one
            that has others when it is opened was replaced. None: nobody looked.
        passed_over: a sentence on each link that leads nowhere or back, and each folder that cannot be read.
    """

    place: str
    names: tuple[str, ...]
    stamps: Mapping[str, tuple[int, int]] | None = field(default=None, compare=False, repr=False)
    passed_over: tuple[str, ...] = field(default=(), compare=False, repr=False)

    @classmethod
    def of(cls, folder: Path) -> FolderFiles:
        """Lists a folder, and notes size and time of each file.

        Raises:
            ValueError: if there is none, or a file in it has a name that is no text.
        """
        if not folder.is_dir():
            raise ValueError(f"there is no folder '{folder}'")
        passed_over: list[str] = []
        stamps = dict(sorted(_visible(folder, passed_over)))
        for name in stamps:
            require_text(f"{folder}/{name}")
        return cls(str(folder), tuple(stamps), stamps, tuple(sorted(passed_over)))

    def size(self, name: str) -> int:
        """Returns the bytes of a file; raises OSError if it is gone."""
        return Path(self.place, name).stat().st_size

    def open(self, name: str) -> BinaryIO:
        """Opens a file, seekable, if it is the one that was listed.

        Raises:
            OSError: if it is gone, cannot be read, or was replaced since the folder was listed.
        """
        file = Path(self.place, name).open("rb")  # noqa: SIM115  (the caller closes it)
        known = self.stamps.get(name) if self.stamps is not None else None
        if known is not None and (now := _stamp(os.fstat(file.fileno()))) != known:
            file.close()
            raise changed(str(Path(self.place, name)), _in_words(known), _in_words(now))
        return file

    def prefetch(self, names: Iterable[str]) -> None:
        """Does nothing: the files are here."""


def _visible(folder: Path, passed_over: list[str]) -> Iterator[tuple[str, tuple[int, int]]]:
    """Name and stamp of every file; sentences about what is not entered or read go to `passed_over`."""

    def unreadable(error: OSError) -> None:
        passed_over.append(f"the folder {error.filename} cannot be read ({error.strerror})")

    above: dict[str, tuple[_Folder, ...]] = {str(folder): (_identity(str(folder)),)}
    for text, below, files in os.walk(folder, onerror=unreadable, followlinks=True):
        holders = above.pop(text)
        below[:] = [name for name in below if not name.startswith(".")]
        for name in tuple(below):
            path = os.path.join(text, name)
            above[path] = (*holders, _identity(path))
            if above[path][-1] in holders:
                passed_over.append(f"the link {path} leads back to a folder that it lies in")
                below.remove(name)
        for file in (Path(text, name) for name in files if not name.startswith(".")):
            if file.is_file():
                yield file.relative_to(folder).as_posix(), _stamp(file.stat())
            elif file.is_symlink():
                passed_over.append(f"the link {file} leads nowhere")


def _identity(folder: str) -> _Folder:
    found = os.stat(folder)
    return found.st_dev, found.st_ino


def _stamp(found: os.stat_result) -> tuple[int, int]:
    return found.st_size, found.st_mtime_ns


def _in_words(stamp: tuple[int, int]) -> str:
    return f"{stamp[0]} bytes of {datetime.fromtimestamp(stamp[1] / 1e9, UTC):%Y-%m-%d %H:%M:%S} UTC"
