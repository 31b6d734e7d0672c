"""FileSet: the files at one place, by their names, whatever the place is.

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

from r2d2.storage.errors import changed


class FileSet(Protocol):
    """The files at one place. It can be pickled, and holds no open connection when it is."""

    @property
    def place(self) -> str:
        """The folder, or `s3://bucket/prefix`."""

    @property
    def names(self) -> tuple[str, ...]:
        """Paths of the files below the place, with slashes, sorted."""

    def size(self, name: str) -> int:
        """Of a file, bytes.

        Raises:
            OSError: if it is gone.
        """

    def open(self, name: str) -> BinaryIO:
        """A file's content from the first byte on, seekable.

        Raises:
            OSError: if it cannot be had; the message names the file and the reason.
        """

    def prefetch(self, names: Iterable[str]) -> None:
        """Says which files are wanted soon, in this order; what is far away is fetched meanwhile."""


@dataclass(frozen=True)
class StoredFile:
    """One file of a place.

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
        """Bytes."""
        return self.files.size(self.name)

    def open(self) -> BinaryIO:
        """The content from the first byte on, seekable; see `FileSet.open`."""
        return self.files.open(self.name)

    def read(self) -> bytes:
        """The whole content."""
        with self.open() as file:
            return file.read()


@dataclass(frozen=True)
class FolderFiles:
    """The files in a folder and in the folders below it; hidden ones are left out.

    Attributes:
        stamps: bytes and time of change (nanoseconds since 1970) of each file when the folder was listed; one
            that has others when it is opened was replaced. None: nobody looked.
    """

    place: str
    names: tuple[str, ...]
    stamps: Mapping[str, tuple[int, int]] | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, folder: Path) -> FolderFiles:
        """Lists a folder.

        Raises:
            ValueError: if there is none.
        """
        if not folder.is_dir():
            raise ValueError(f"there is no folder '{folder}'")
        stamps = dict(sorted(_visible(folder)))
        return cls(str(folder), tuple(stamps), stamps)

    def size(self, name: str) -> int:
        """Of a file, bytes."""
        return Path(self.place, name).stat().st_size

    def open(self, name: str) -> BinaryIO:
        """A file's content, seekable.

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
        """Nothing to do: they are here."""


def _visible(folder: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    """Name and stamp of every file; links are followed."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if not any(part.startswith(".") for part in name.parts) and path.is_file():
            yield name.as_posix(), _stamp(path.stat())


def _stamp(found: os.stat_result) -> tuple[int, int]:
    return found.st_size, found.st_mtime_ns


def _in_words(stamp: tuple[int, int]) -> str:
    return f"{stamp[0]} bytes of {datetime.fromtimestamp(stamp[1] / 1e9, UTC):%Y-%m-%d %H:%M:%S} UTC"
