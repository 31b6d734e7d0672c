"""Store: small files that are kept under names, in a folder or on S3, each of them whole or not at all.

    store = open_store("s3://bucket/prefix")        or of a folder
    store.write("history/epoch_001.train.json", content)
    store.read("history/epoch_001.train.json")      None if there is none
    store.create("attempts/001.json", content)      False if there was one already, whoever is faster

A place as `open_files` sees it is a snapshot; a store is what is there now. Nothing but the client of this
package asks S3, so every request is tried again for as long as it is patient.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

# Of a file that is read, bytes: the examples of a score have some millions.
LARGEST = 2**28


@dataclass(frozen=True)
class ObjectInfo:
    """One file as a look into a store finds it.

    Attributes:
        name: in the store that was asked.
        size: bytes.
        modified: when it was written, seconds since 1970; on S3 to the second.
        mark: changes with the content.
    """

    name: str
    size: int
    modified: float
    mark: str


class Store(Protocol):
    """A place to keep small files. Names are relative, with slashes. It can be pickled."""

    @property
    def place(self) -> str:
        """The folder, or `s3://bucket/prefix`."""

    @property
    def is_remote(self) -> bool:
        """Whether every look costs a request over the network."""

    @property
    def timeout(self) -> float:
        """Seconds that a request over the network is tried again for."""

    def below(self, name: str) -> Store:
        """The store of what lies below `name/`."""

    def read(self, name: str) -> bytes | None:
        """A file's content; None if there is none.

        Raises:
            FileError: if it has more than `LARGEST` bytes.
        """

    def read_all(self, files: Iterable[ObjectInfo]) -> list[bytes | None]:
        """The contents of files that a look has found, in their order; None for one that is gone since."""

    def find_all(self, names: Iterable[str]) -> list[ObjectInfo | None]:
        """What a look finds under each name; None if there is no such file."""

    def write(self, name: str, content: bytes) -> None:
        """Keeps a content under a name, whole or not at all; what had that name is replaced."""

    def create(self, name: str, content: bytes) -> bool:
        """As `write`, unless there is such a file: of several who try, one is told True."""

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
        """The files directly below `name/`, sorted by name; hidden ones are left out."""

    def folders(self, name: str = "") -> list[str]:
        """The names directly below `name/` that have something below them, sorted; without slashes."""

    def walk(self, name: str = "") -> Iterator[ObjectInfo]:
        """All files below `name/`, however deep; hidden ones are left out."""
