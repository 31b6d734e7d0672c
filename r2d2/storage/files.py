"""FileSet: the files at one place, by their names, whatever the place is.

A place is written as a text: a folder, or `s3://bucket/prefix`. What lies there is read through `StoredFile`,
so that nobody else needs to know where it lies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol


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
    """The files in a folder and in the folders below it; hidden ones are left out."""

    place: str
    names: tuple[str, ...]

    @classmethod
    def of(cls, folder: Path) -> FolderFiles:
        """Lists a folder.

        Raises:
            ValueError: if there is none.
        """
        if not folder.is_dir():
            raise ValueError(f"there is no folder '{folder}'")
        return cls(str(folder), tuple(sorted(_visible(folder))))

    def size(self, name: str) -> int:
        """Of a file, bytes."""
        return Path(self.place, name).stat().st_size

    def open(self, name: str) -> BinaryIO:
        """A file's content, seekable."""
        return Path(self.place, name).open("rb")

    def prefetch(self, names: Iterable[str]) -> None:
        """Nothing to do: they are here."""


def _visible(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if not any(part.startswith(".") for part in name.parts) and path.is_file():
            yield name.as_posix()
