"""Says what should lie at a place, file by file, so that a copy can be verified without another copy.

`manifest.json` in the place: {"format": 1, "source": "web", "count", "bytes", "left_out": [...], "files":
[{"path", "size", "sha256", "width", "height"}, ...]}, sorted by path; width and height of images only.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

from r2d2.formats.names import is_name
from r2d2.storage.files import FileSet
from r2d2.storage.store import Store

MANIFEST = "manifest.json"
FORMAT = 1

# Of one file, bytes; S3 holds no larger object.
LARGEST = 2**46

_SHA256 = re.compile("[0-9a-f]{64}")
# Several sources at one place: "aachen+flow".
_AND = "+"


@dataclass(frozen=True, order=True)
class ManifestFile:
    """A ManifestFile says what one file of a place should be.

    Attributes:
        path: below the place, with slashes.
        size: bytes.
        sha256: hexadecimal, of its content.
        width, height: pixels as stored (EXIF rotation is not applied); 0 where it is no image.
    """

    path: str
    size: int
    sha256: str
    width: int = 0
    height: int = 0

    @classmethod
    def of(cls, folder: Path, path: str, sides: tuple[int, int] = (0, 0)) -> ManifestFile:
        """Reads a file of a folder, and returns its entry; raises OSError if it cannot be read."""
        with (folder / path).open("rb") as file:
            return cls(path, os.fstat(file.fileno()).st_size, sha256_of(file), *sides)

    def to_dict(self) -> dict[str, Any]:
        """Returns the entry as it stands in `manifest.json`."""
        sides = {"width": self.width, "height": self.height} if self.width else {}
        return {"path": self.path, "size": self.size, "sha256": self.sha256, **sides}


@dataclass(frozen=True)
class Manifest:
    """A Manifest lists the files of a place.

    Attributes:
        source: what they are: `web`, `hpatches`, ...; several are joined by `+`.
        files: sorted by path, each path once.
        left_out: paths of files that could not be used when the place was prepared; a copy may lack them.
    """

    source: str
    files: tuple[ManifestFile, ...]
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", tuple(sorted(self.files)))
        paths = [file.path for file in self.files]
        twice = [path for path, following in pairwise(paths) if path == following]
        if twice:
            raise ValueError(f"'{twice[0]}' stands twice in a manifest")

    @property
    def sources(self) -> frozenset[str]:
        """Returns the names in `source`."""
        return frozenset(self.source.split(_AND))

    @property
    def total_bytes(self) -> int:
        """Returns the bytes of all files together."""
        return sum(file.size for file in self.files)

    @cached_property
    def digest(self) -> str:
        """Computes a SHA-256 (hexadecimal) of names and contents, which does not depend on the place."""
        total = hashlib.sha256()
        for file in self.files:
            total.update(f"{file.sha256} {file.path}\n".encode())
        return total.hexdigest()

    def joined(self, other: Manifest) -> Manifest:
        """Joins two manifests; of a file in both this one's entry is kept."""
        files = {file.path: file for file in (*other.files, *self.files)}
        left_out = (set(self.left_out) | set(other.left_out)) - files.keys()
        sources = _AND.join(sorted(self.sources | other.sources))
        return Manifest(sources, tuple(files.values()), tuple(sorted(left_out)))

    def to_bytes(self) -> bytes:
        """Returns `manifest.json`: one line a file, so that two can be compared by eye."""
        head = {"format": FORMAT, "source": self.source, "count": len(self.files), "bytes": self.total_bytes}
        start = json.dumps({**head, "left_out": list(self.left_out)}, ensure_ascii=False)[:-1]
        lines = ",\n".join(json.dumps(file.to_dict(), ensure_ascii=False) for file in self.files)
        return f'{start}, "files": [\n{lines}\n]}}\n'.encode()

    def write(self, store: Store) -> None:
        """Writes `manifest.json` into a store, whole or not at all; raises as `Store.write`."""
        store.write(MANIFEST, self.to_bytes())

    @classmethod
    def parse(cls, content: bytes, where: str) -> Manifest:
        """Reads what `to_bytes` made, and checks every field.

        Args:
            content: of the file.
            where: it lies, for the sentence.

        Raises:
            ValueError: if it is damaged or of another format.
        """
        whole = _whole(content, where)
        entries = [_entry(file, where) for file in whole["files"]]
        sides = [tuple(file.get(key, 0) for key in ("width", "height")) for file in whole["files"]]
        left_out, source = whole.get("left_out", []), whole.get("source")
        if not isinstance(source, str) or not source:
            raise ValueError(f"{where} is damaged: 'source' names none")
        if not isinstance(left_out, list) or not all(isinstance(path, str) for path in left_out):
            raise ValueError(f"{where} is damaged: 'left_out' is no list of paths")
        if not all(type(side) is int and side >= 0 for both in sides for side in both):
            raise ValueError(f"{where} is damaged: a width or height is no number of pixels")
        files = (ManifestFile(*entry, *both) for entry, both in zip(entries, sides, strict=True))
        try:
            return cls(source, tuple(files), tuple(left_out))
        except ValueError as error:
            raise ValueError(f"{where} is damaged: {error}") from error

    @classmethod
    def read(cls, store: Store) -> Manifest | None:
        """Reads the manifest of a store; returns None if there is none.

        Raises:
            ValueError: as `parse`.
            OSError: if it cannot be read, or the store cannot be looked at.
        """
        content = store.read(MANIFEST)
        return None if content is None else cls.parse(content, f"{store.place}/{MANIFEST}")


def manifest_entries(content: bytes, where: str) -> list[tuple[str, int, str]]:
    """Reads (path, size in bytes, SHA-256) of every file, whatever else the manifest lacks.

    Args:
        content: of the manifest.
        where: it lies, for the sentence.

    Raises:
        ValueError: if it is no manifest of this format.
    """
    return [_entry(file, where) for file in _whole(content, where)["files"]]


def _whole(content: bytes, where: str) -> dict[str, Any]:
    """The dictionary of a manifest; its "files" are a list that is not empty."""
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is damaged: it is no JSON ({error})") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"{where} is no manifest of format {FORMAT}")
    if not isinstance(manifest.get("files"), list) or not manifest["files"]:
        raise ValueError(f"{where} is damaged: 'files' is no list of files")
    return manifest


def _entry(file: Any, where: str) -> tuple[str, int, str]:
    known = file if isinstance(file, dict) else {}
    path, size, sha256 = known.get("path"), known.get("size"), known.get("sha256")
    if (
        not isinstance(path, str)
        or not is_name(path)
        or type(size) is not int
        or not 0 <= size <= LARGEST
        or not isinstance(sha256, str)
        or not _SHA256.fullmatch(sha256)
    ):
        raise ValueError(f"{where} is damaged: {str(file)[:200]} is no path, size and sha256")
    return path, size, sha256


# The kinds of differences, in the order in which they are said.
MISSING, SIZE, CONTENT = "missing", "of another size", "of another content"
UNREADABLE, EXTRA = "unreadable", "not in the manifest"


@dataclass(frozen=True)
class Findings:
    """Findings say what differs between a place and its manifest.

    Attributes:
        whole: number of files that are as they should be.
        differences: names by the kind of their difference, sorted; with what there is to say, in brackets.
    """

    whole: int
    differences: Mapping[str, tuple[str, ...]]

    @property
    def faults(self) -> int:
        """Counts the files that are not as they should be; extra ones too, as training would use them."""
        return sum(len(names) for names in self.differences.values())

    def lines(self, first: int = 10) -> list[str]:
        """Makes a line for each kind of difference: how many, and the names of the first ones."""
        kinds = self.differences.items()
        return [f"{len(names)} {kind}: {first_names(names, first)}" for kind, names in kinds if names]


def verify(
    manifest: Manifest,
    files: FileSet,
    sizes: Mapping[str, int] | None = None,
    *,
    on_file: Callable[[int], None] = lambda _: None,
    threads: int = 8,
) -> Findings:
    """Compares the files of a place with its manifest, byte by byte.

    Args:
        manifest: of the place.
        files: the place.
        sizes: bytes of every file that is really there, for a place whose names come from its manifest;
            None: `files` was listed.
        on_file: called after each file of the manifest with its size.
        threads: that read at once.
    """
    there = {name: files.size(name) for name in files.names} if sizes is None else sizes
    found: dict[str, list[str]] = {MISSING: [], SIZE: [], CONTENT: [], UNREADABLE: []}
    with ThreadPoolExecutor(threads, thread_name_prefix="r2d2-verify") as pool:
        looks = pool.map(lambda file: _difference(file, files, there), manifest.files)
        for file, difference in zip(manifest.files, looks, strict=True):
            on_file(file.size)
            if difference is not None:
                found[difference[0]].append(difference[1])
    whole = len(manifest.files) - sum(len(names) for names in found.values())
    known = {file.path for file in manifest.files} | {MANIFEST, *manifest.left_out}
    found[EXTRA] = sorted(there.keys() - known)
    return Findings(whole, {kind: tuple(names) for kind, names in found.items()})


def _difference(file: ManifestFile, files: FileSet, sizes: Mapping[str, int]) -> tuple[str, str] | None:
    """The kind of a file's difference, and its name with what there is to say; None: it is whole."""
    size = sizes.get(file.path)
    if size is None:
        return MISSING, file.path
    if size != file.size:
        return SIZE, f"{file.path} ({size} bytes, should be {file.size})"
    try:
        with files.open(file.path) as content:
            return None if sha256_of(content) == file.sha256 else (CONTENT, file.path)
    except OSError as error:
        # It is a finding about one file; the others are still to be looked at.
        return UNREADABLE, f"{file.path} ({error.strerror or error})"


def sha256_of(content: BinaryIO) -> str:
    """Computes the SHA-256 (hexadecimal) of what is left to read."""
    total = hashlib.sha256()
    for data in iter(lambda: content.read(2**20), b""):
        total.update(data)
    return total.hexdigest()


def first_names(names: Sequence[str], count: int) -> str:
    """Joins the first names for a sentence, and says how many more there are."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more
