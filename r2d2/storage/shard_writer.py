"""Writing shards: plain tar files of about equal size, which any tool reads, and the index of their content.

Many small files are slow to fetch and slow to read from disks that turn. The same files give the same shards,
byte for byte: owner, time and mode are left out.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from r2d2.storage.atomic import atomic_file
from r2d2.storage.files import FileSet
from r2d2.storage.manifest import Manifest, ManifestFile
from r2d2.storage.shard_index import INDEX, ShardIndex

SHARD_BYTES = 256 * 2**20

_TAR = {"format": tarfile.PAX_FORMAT, "encoding": "utf-8", "errors": "surrogateescape"}
# A shard ends with two empty blocks, as tar's do.
_END = bytes(2 * tarfile.BLOCKSIZE)


@dataclass(frozen=True)
class PlannedShard:
    """A shard before it is written.

    Attributes:
        name: of its file.
        files: in their order.
        offsets: where the content of each begins, bytes.
        size: of the whole shard, bytes.
    """

    name: str
    files: tuple[ManifestFile, ...]
    offsets: tuple[int, ...]
    size: int

    @property
    def first_offsets(self) -> dict[str, int]:
        """Offset of each file, by path."""
        return {file.path: offset for file, offset in zip(self.files, self.offsets, strict=True)}


def plan_shards(manifest: Manifest, shard_bytes: int = SHARD_BYTES) -> list[PlannedShard]:
    """Distributes files over shards in the order of their paths.

    Args:
        manifest: of the files.
        shard_bytes: a shard is closed when the next file would make it larger; a larger file has its own.

    Raises:
        ValueError: if `shard_bytes` is below 1 MiB.
    """
    if shard_bytes < 2**20:
        raise ValueError(f"shards of {shard_bytes} bytes; they must have at least 1 MiB ({2**20})")
    planned: list[PlannedShard] = []
    files: list[ManifestFile] = []
    offsets: list[int] = []
    position = 0
    for file in manifest.files:
        head, padded = len(_header(file)), _padded(file.size)
        if files and position + head + padded + len(_END) > shard_bytes:
            planned.append(_planned(len(planned), files, offsets, position))
            files, offsets, position = [], [], 0
        files.append(file)
        offsets.append(position + head)
        position += head + padded
    if files:
        planned.append(_planned(len(planned), files, offsets, position))
    return planned


def write_shards(
    files: FileSet,
    manifest: Manifest,
    folder: Path,
    *,
    shard_bytes: int = SHARD_BYTES,
    on_file: Callable[[int], None] | None = None,
    on_shard: Callable[[Path, ManifestFile], None] | None = None,
) -> ShardIndex:
    """Writes the shards of a place into a folder, then their index and their manifest.

    Each shard appears whole or not at all. One that is there already, from a run that was interrupted, is
    read, and kept if it holds what it should.

    Args:
        files: the place.
        manifest: what lies there, and goes into the shards.
        folder: is made.
        shard_bytes: size of a shard.
        on_file: called after each file with its size.
        on_shard: called after each shard with its file and entry, which may then be moved away.

    Raises:
        ValueError: if a file is not what the manifest says.
        OSError: if something cannot be read or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left_behind in folder.glob(".shard-*.tmp"):
        left_behind.unlink()
    told = on_file or (lambda _: None)
    planned = plan_shards(manifest, shard_bytes)
    shards = []
    for shard in planned:
        path = folder / shard.name
        sha256 = _digest_if_whole(path, shard, told) or _write(path, shard, files, told)
        shards.append(ManifestFile(shard.name, shard.size, sha256))
        if on_shard is not None:
            on_shard(path, shards[-1])
    index = _index(manifest, planned, shards)
    content = index.to_bytes()
    with atomic_file(folder / INDEX) as file:
        file.write(content)
    entry = ManifestFile(INDEX, len(content), hashlib.sha256(content).hexdigest())
    Manifest(manifest.source, (*shards, entry)).write(folder)
    return index


def _index(manifest: Manifest, planned: Sequence[PlannedShard], shards: Sequence[ManifestFile]) -> ShardIndex:
    places = {
        path: (number, offset)
        for number, shard in enumerate(planned)
        for path, offset in shard.first_offsets.items()
    }
    found = [places[file.path] for file in manifest.files]
    return ShardIndex(tuple(shards), manifest, tuple(n for n, _ in found), tuple(o for _, o in found))


def _planned(number: int, files: list[ManifestFile], offsets: list[int], position: int) -> PlannedShard:
    return PlannedShard(f"shard-{number:05d}.tar", tuple(files), tuple(offsets), position + len(_END))


def _write(path: Path, shard: PlannedShard, files: FileSet, on_file: Callable[[int], None]) -> str:
    """Writes a shard; returns its SHA-256."""
    files.prefetch(file.path for file in shard.files)
    total = hashlib.sha256()
    with atomic_file(path) as target:
        for file in shard.files:
            with files.open(file.path) as source:
                for data in _member(file, source):
                    target.write(data)
                    total.update(data)
            on_file(file.size)
        target.write(_END)
        total.update(_END)
    return total.hexdigest()


def _member(file: ManifestFile, source: BinaryIO) -> Iterator[bytes]:
    """Header, content and padding of a file.

    Raises:
        ValueError: if the content is not what the manifest says.
    """
    yield _header(file)
    found, size = hashlib.sha256(), 0
    while data := source.read(2**20):
        found.update(data)
        size += len(data)
        yield data
    if size != file.size or found.hexdigest() != file.sha256:
        raise ValueError(f"{file.path} was changed while it was written into a shard; start again")
    yield bytes(_padded(size) - size)


def _digest_if_whole(path: Path, shard: PlannedShard, on_file: Callable[[int], None]) -> str | None:
    """The SHA-256 of a shard that is there and holds what it should; None if there is no such shard."""
    if not path.is_file() or path.stat().st_size != shard.size:
        return None
    total = hashlib.sha256()
    with path.open("rb") as content:
        for file in shard.files:
            header, data = content.read(len(_header(file))), content.read(_padded(file.size))
            if header != _header(file) or hashlib.sha256(data[: file.size]).hexdigest() != file.sha256:
                return None
            total.update(header + data)
        if (end := content.read()) != _END:
            return None
        total.update(end)
    for file in shard.files:
        on_file(file.size)
    return total.hexdigest()


def _header(file: ManifestFile) -> bytes:
    info = tarfile.TarInfo(file.path)
    info.size = file.size
    return info.tobuf(**_TAR)  # type: ignore[arg-type]


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
