"""Opens places of training data, and verifies their files where a manifest says what they should be."""

from __future__ import annotations

import errno
import hashlib
import io
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

from r2d2.data.images import ImageRefused
from r2d2.storage.cache import CacheSettings
from r2d2.storage.errors import FileError, PlaceError, gone
from r2d2.storage.files import FileSet, FolderFiles, StoredFile
from r2d2.storage.location import open_files
from r2d2.storage.manifest import MANIFEST, manifest_entries

OpenPlace = Callable[[str], FileSet]


@runtime_checkable
class _KnowsContents(Protocol):
    """A place that knows what its files should contain without reading them."""

    def sha256(self, name: str) -> str | None:
        """Of a file's content, hexadecimal; None if it does not know."""


@dataclass(frozen=True)
class VerifiedFiles:
    """VerifiedFiles open only files of a folder that are as its manifest says.

    Attributes:
        place: the folder.
        names: of the files in the manifest, sorted.
    """

    place: str
    names: tuple[str, ...]
    _entries: dict[str, tuple[int, str]] = field(repr=False)

    @classmethod
    def of(cls, folder: FolderFiles) -> VerifiedFiles:
        """Reads the manifest of a folder.

        Raises:
            ValueError: if it is damaged.
        """
        with folder.open(MANIFEST) as file:
            found = manifest_entries(file.read(), f"{folder.place}/{MANIFEST}")
        entries = {path: (size, sha256) for path, size, sha256 in found}
        return cls(folder.place, tuple(sorted(entries)), entries)

    def size(self, name: str) -> int:
        """Returns the size of a file by the manifest, bytes."""
        return self._entry(name)[0]

    def sha256(self, name: str) -> str | None:
        """Returns the SHA-256 of a file's content by the manifest, hexadecimal."""
        return self._entry(name)[1]

    def open(self, name: str) -> BinaryIO:
        """Opens a file's content, in memory, if it is as the manifest says.

        Raises:
            FileError: if it is gone, or not what the manifest says.
            OSError: if it cannot be read.
        """
        size, sha256 = self._entry(name)
        path = Path(self.place, name)
        try:
            with path.open("rb") as file:
                found = os.fstat(file.fileno()).st_size
                content = file.read() if found == size else b""
        except FileNotFoundError:
            raise gone(str(path)) from None
        if len(content) != size:
            raise _other(path, f"{found} bytes, should be {size}")
        if hashlib.sha256(content).hexdigest() != sha256:
            raise _other(path, "another content of the same size")
        return io.BytesIO(content)

    def prefetch(self, names: Iterable[str]) -> None:
        """Does nothing: the files are on this disk."""

    def _entry(self, name: str) -> tuple[int, str]:
        if name not in self._entries:
            raise gone(f"{self.place}/{name}")
        return self._entries[name]


def open_place(place: str, cache: CacheSettings | None = None) -> FileSet:
    """Opens the files at a place of training data: a folder or `s3://bucket/prefix`.

    Args:
        place: as text.
        cache: where objects of S3 are kept on this node; None: nowhere.

    Raises:
        ValueError: if there is nothing, it holds shards, or its manifest is damaged.
        StorageError: if the place cannot be looked at.
    """
    files = open_files(place, cache)
    if isinstance(files, FolderFiles) and MANIFEST in files.names:
        return VerifiedFiles.of(files)
    return files


def opener(cache: CacheSettings | None = None) -> OpenPlace:
    """Makes an `open_place` that opens each place once: several sources may share one."""
    known: dict[str, FileSet] = {}

    def open_once(place: str) -> FileSet:
        if place not in known:
            known[place] = open_place(place, cache)
        return known[place]

    return open_once


def content_digest(file: StoredFile) -> str:
    """Returns the SHA-256 of a file's content, hexadecimal; reads it only where no manifest says it.

    Raises:
        ImageRefused: if it cannot be read.
        PlaceError: if nothing can be had from its place.
    """
    if isinstance(file.files, _KnowsContents):
        known = file.files.sha256(file.name)
        if known is not None:
            return known
    try:
        with file.open() as content:
            return hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]
    except PlaceError:
        raise
    except OSError as error:
        raise ImageRefused(file, f"cannot be read ({error.strerror})") from error


def contents_of(named: Iterable[tuple[str, StoredFile]]) -> dict[str, str]:
    """Returns the SHA-256 of each file's content (hexadecimal) by its name, in the order given.

    Raises:
        ImageRefused: if a file cannot be read.
    """
    return {name: content_digest(file) for name, file in named}


def digest_of(contents: Mapping[str, str]) -> str:
    """Returns the SHA-256 (hexadecimal) over names and contents, in the order of what `contents_of` gave."""
    total = hashlib.sha256()
    for name, digest in contents.items():
        total.update(f"{digest}  {name}\n".encode())
    return total.hexdigest()


def _other(path: Path, what: str) -> FileError:
    return FileError(errno.ESTALE, f"not the file of the manifest ({what})", str(path))
