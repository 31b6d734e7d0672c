"""Keeps small files under names, in a folder or on S3, each of them whole or not at all.

    store = open_store("s3://bucket/prefix")        or of a folder
    store.write("history/epoch_001.train.json", content)
    store.read("history/epoch_001.train.json")      None if there is none
    store.create("attempts/001.json", content)      False if there was one already, whoever is faster

A place as `open_files` sees it is a snapshot; a store is what is there now. Nothing but the client of this
package asks S3, so every request is tried again for as long as it is patient.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from r2d2.storage.atomic import atomic_file, create_file
from r2d2.storage.errors import require_size

# Of a file that is read, bytes: the examples of a score have some millions.
LARGEST = 2**28


@dataclass(frozen=True)
class ObjectInfo:
    """An ObjectInfo describes a file or object as a look finds it.

    Attributes:
        name: in the store that was asked; of an object of S3 its key.
        size: bytes.
        modified: when it was written, seconds since 1970; on S3 to the second.
        mark: changes with the content; on S3 the ETag, without quotation marks.
    """

    name: str
    size: int
    modified: float
    mark: str


class Store(Protocol):
    """A Store keeps small files. Names are relative, with slashes. It can be pickled.

    Raises a StorageError (on S3) or an OSError (in a folder) where something cannot be read or written.
    """

    @property
    def place(self) -> str:
        """Says where it is: a folder, or `s3://bucket/prefix`."""

    @property
    def is_remote(self) -> bool:
        """Says whether every look costs a request over the network."""

    @property
    def timeout(self) -> float:
        """Says for how many seconds a request over the network is tried again."""

    def below(self, name: str) -> Store:
        """Returns the store of what lies below `name/`."""

    def read(self, name: str) -> bytes | None:
        """Reads a file; returns None if there is none.

        Raises:
            FileError: if it has more than `LARGEST` bytes.
        """

    def read_all(self, files: Iterable[ObjectInfo]) -> list[bytes | None]:
        """Reads files that a look has found, in their order; None for one that is gone since."""

    def find_all(self, names: Iterable[str]) -> list[ObjectInfo | None]:
        """Looks for files, in the order of the names; None for each that is not there."""

    def write(self, name: str, content: bytes) -> None:
        """Keeps a content under a name, whole or not at all; what had that name is replaced."""

    def create(self, name: str, content: bytes) -> bool:
        """Keeps a content as `write`, unless there is such a file: of several who try, one gets True."""

    def put_file(self, name: str, path: Path) -> None:
        """Keeps a copy of a file of any size under a name, whole or not at all."""

    def delete(self, name: str) -> None:
        """Removes a file, if it is there."""

    def delete_below(self, name: str) -> None:
        """Removes everything below `name/`, in no particular order.

        Raises:
            ValueError: if a link leads from there out of the store.
        """

    def files(self, name: str = "") -> list[ObjectInfo]:
        """Lists the files directly below `name/`, sorted by name; hidden ones are left out."""

    def folders(self, name: str = "") -> list[str]:
        """Lists the names directly below `name/` that have something below them, sorted; without slashes."""

    def walk(self, name: str = "") -> Iterator[ObjectInfo]:
        """Lists all files below `name/`, however deep; hidden ones are left out."""


class FolderStore:
    """A FolderStore keeps files in a folder; see `Store`."""

    is_remote = False
    timeout = 0.0

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser()

    @property
    def place(self) -> str:
        """Names the folder."""
        return str(self.folder)

    def below(self, name: str) -> FolderStore:
        """Returns the store of a folder in this one."""
        return FolderStore(self.folder / name)

    def read(self, name: str) -> bytes | None:
        """Reads a file; returns None if there is none."""
        path = self.folder / name
        try:
            require_size(str(path), path.stat().st_size, LARGEST)
            return path.read_bytes()
        except FileNotFoundError:
            return None

    def read_all(self, files: Iterable[ObjectInfo]) -> list[bytes | None]:
        """Reads files, in their order."""
        return [self.read(file.name) for file in files]

    def find_all(self, names: Iterable[str]) -> list[ObjectInfo | None]:
        """Looks for files; None for each that is not there."""
        paths = (self.folder / name for name in names)
        return [self._info(path) if path.is_file() else None for path in paths]

    def write(self, name: str, content: bytes) -> None:
        """Keeps a content under a name."""
        with atomic_file(self.folder / name) as file:
            file.write(content)

    def create(self, name: str, content: bytes) -> bool:
        """Keeps a content under a name that nothing has yet."""
        return create_file(self.folder / name, content)

    def put_file(self, name: str, path: Path) -> None:
        """Keeps a copy of a file under a name."""
        with path.open("rb") as source, atomic_file(self.folder / name) as target:
            shutil.copyfileobj(source, target)

    def delete(self, name: str) -> None:
        """Removes a file, if it is there."""
        (self.folder / name).unlink(missing_ok=True)

    def delete_below(self, name: str) -> None:
        """Removes a folder, if it is there; what others have linked to stays."""
        folder = self.folder / name
        if folder.is_symlink() or not folder.resolve().is_relative_to(self.folder.resolve()):
            raise ValueError(f"{folder} is a link, or lies behind one; nothing of it is deleted")
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)

    def files(self, name: str = "") -> list[ObjectInfo]:
        """Lists the files in a folder."""
        return [self._info(path) for path in _visible(self.folder / name) if path.is_file()]

    def folders(self, name: str = "") -> list[str]:
        """Lists the folders in a folder."""
        return [path.name for path in _visible(self.folder / name) if path.is_dir()]

    def walk(self, name: str = "") -> Iterator[ObjectInfo]:
        """Lists all files below a folder; does not follow links to folders, which might lead anywhere."""
        for path in _visible(self.folder / name):
            if path.is_symlink() and path.is_dir():
                continue
            if path.is_dir():
                yield from self.walk(path.relative_to(self.folder).as_posix())
            elif path.is_file():
                yield self._info(path)

    def _info(self, path: Path) -> ObjectInfo:
        status = path.stat()
        mark = f"{status.st_ino}-{status.st_mtime_ns}-{status.st_size}"
        return ObjectInfo(path.relative_to(self.folder).as_posix(), status.st_size, status.st_mtime, mark)


def _visible(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
