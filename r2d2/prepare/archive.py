"""Unpacks archives that nobody vouches for: no file lands outside the folder, and no archive fills the disk.

Python's own filter for tar files came with 3.11.4, and Debian 12 has 3.11.2. It knows no bombs.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from r2d2.formats.names import check_name, make_parents, path_below
from r2d2.formats.zip_directory import ZIP_DAMAGE, check_directory

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")

_CHUNK = 2**20
_REGULAR = 0
# What tar may say of one file besides its content: names, times, maps of holes; usually a few hundred bytes.
_HEADER_BYTES = 2**20
# Of the list of a zip archive's files, bytes: 700,000 names of 50 letters.
_DIRECTORY_BYTES = 2**26
_DAMAGE = (*ZIP_DAMAGE, tarfile.TarError)
_PACKED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}


@dataclass(frozen=True)
class UnpackLimits:
    """UnpackLimits bound what an archive may hold.

    Attributes:
        files: number of files.
        bytes: of all of them, unpacked.
        ratio: unpacked bytes per packed byte, of archives that hold more than `harmless` bytes. Photographs
            have about 1, uncompressed images 2, flow fields 5; bombs have 1,000 and more.
        harmless: bytes.
    """

    files: int = 5_000_000
    bytes: int = 2**40
    ratio: float = 100.0
    harmless: int = 64 * 2**20


@dataclass(frozen=True)
class _Member:
    """A file in an archive; `crc` is None where the archive has none."""

    name: str
    size: int
    crc: int | None
    open: Callable[[], IO[bytes]]


def is_archive(path: str) -> bool:
    """Says whether a path is named like an archive."""
    return path.lower().endswith(SUFFIXES)


def unpack(
    archive: Path,
    folder: Path,
    place_of: Callable[[str], str | None],
    *,
    limits: UnpackLimits | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> list[str]:
    """Unpacks what is wanted of an archive; files that are there already, whole, are left alone.

    Each file appears whole or not at all. The archive is refused as soon as something in it is not in order;
    what was unpacked until then stays.

    Args:
        archive: zip, or tar with any compression; recognised by its content.
        folder: where to.
        place_of: the path below `folder` for a path in the archive; None: not wanted.
        limits: of what it may hold.
        advance: called with the number of packed bytes that were worked through.

    Returns:
        Paths below `folder` of the wanted files.

    Raises:
        ValueError: if it is no archive, is damaged, or holds what no archive should: paths that lead out of
            the folder, links, devices, a path twice, more than the limits allow.
        OSError: if something cannot be written.
    """
    guard = _Guard(archive, limits or UnpackLimits(), archive.stat().st_size)
    with _refusing(archive), _opened(archive, advance) as members:
        for member in members:
            guard.admit(member)
            target = place_of(member.name)
            if target is not None:
                guard.place(target, member.name)
                _write(member, folder, target, guard)
    return list(guard.placed)


class _Guard:
    """Counts what came out of an archive, and stops when it is too much."""

    def __init__(self, archive: Path, limits: UnpackLimits, packed: int) -> None:
        self._archive, self._limits, self._packed = archive, limits, packed
        self._files = self._announced = self._written = 0
        # Names in the archive by their places.
        self.placed: dict[str, str] = {}

    def admit(self, member: _Member) -> None:
        self._files += 1
        self._announced += member.size
        check_name(member.name, str(self._archive))
        if self._files > self._limits.files:
            raise ValueError(f"{self._archive} holds more than {self._limits.files} files")
        self._check(self._announced)

    def place(self, target: str, name: str) -> None:
        check_name(target, str(self._archive))
        if target in self.placed:
            both = f"{self.placed[target]} and {name}"
            raise ValueError(f"{self._archive} holds two files for {target}: {both}")
        self.placed[target] = name

    def wrote(self, count: int) -> None:
        # What an archive announces may be a lie.
        self._written += count
        self._check(self._written)

    def _check(self, count: int) -> None:
        limits = self._limits
        if count > limits.bytes:
            raise ValueError(f"{self._archive} unpacks to more than {limits.bytes} bytes, the limit")
        if count > max(limits.harmless, limits.ratio * self._packed):
            raise ValueError(
                f"{self._archive} has {self._packed} bytes and unpacks to more than {count}: "
                f"beyond {limits.ratio:g} times its size it is taken for a bomb"
            )


def _write(member: _Member, folder: Path, target: str, guard: _Guard) -> None:
    path = path_below(folder, target, str(folder))
    if _is_whole(path, member):
        guard.wrote(member.size)
        return
    make_parents(folder, path)
    # The name is always the same, so that what a killed run left behind is written over.
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    with member.open() as source, temporary.open("xb") as file:
        written = 0
        while data := source.read(_CHUNK):
            guard.wrote(len(data))
            written += len(data)
            file.write(data)
    if written != member.size:
        raise ValueError(f"'{member.name}' has {written} bytes; the archive announces {member.size}")
    temporary.replace(path)


def _is_whole(path: Path, member: _Member) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size != member.size:
        return False
    if member.crc is None:
        return True
    crc = 0
    with path.open("rb") as file:
        while data := file.read(_CHUNK):
            crc = zlib.crc32(data, crc)
    return crc == member.crc


@contextmanager
def _opened(archive: Path, advance: Callable[[int], None]) -> Iterator[Iterator[_Member]]:
    if _is_zip(archive):
        with zipfile.ZipFile(archive) as opened:
            yield _zip_members(opened, advance)
        return
    with archive.open("rb") as raw:
        beginning = raw.read(6)
        raw.seek(0)
        opener = next((one for magic, one in _PACKED.items() if beginning.startswith(magic)), None)
        metered = _Metered(opener(raw) if opener else raw, raw, advance)  # type: ignore[operator]
        with tarfile.open(fileobj=metered, mode="r|") as stream:  # type: ignore[call-overload]
            yield _tar_members(stream, metered)


def _is_zip(archive: Path) -> bool:
    """Whether it is a zip archive.

    Raises:
        ValueError: if it is one of which the list of files alone is larger than the limit.
    """
    if not zipfile.is_zipfile(archive):
        return False
    with archive.open("rb") as file:
        check_directory(file, _DIRECTORY_BYTES)
    return True


def _zip_members(archive: zipfile.ZipFile, advance: Callable[[int], None]) -> Iterator[_Member]:
    for info in archive.infolist():
        if info.is_dir():
            continue
        if stat.S_IFMT(info.external_attr >> 16) not in (_REGULAR, stat.S_IFREG):
            raise ValueError(f"'{info.filename}' is a link or a device; only files are unpacked")
        # The name as it stands there: zipfile repairs some that should be refused.
        name = info.orig_filename.removeprefix("./")
        yield _Member(name, info.file_size, info.CRC, partial(archive.open, info))
        advance(info.compress_size)


def _tar_members(archive: tarfile.TarFile, metered: _Metered) -> Iterator[_Member]:
    for info in archive:
        # Its content is read from here on, by whoever unpacks it or as it is passed over.
        metered.allow(info.size)
        if info.isdir():
            continue
        if not info.isreg():
            raise ValueError(f"'{info.name}' is a link or a device; only files are unpacked")
        yield _Member(info.name.removeprefix("./"), info.size, None, partial(_extract, archive, info))


def _extract(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(info)
    assert file is not None, "a regular file has a content"
    return file


class _Metered:
    """An unpacked tar file that tells its progress, and refuses headers too long to hold in memory."""

    def __init__(self, plain: IO[bytes], packed: IO[bytes], advance: Callable[[int], None]) -> None:
        self._plain, self._packed, self._advance = plain, packed, advance
        self._left, self._done = _HEADER_BYTES, 0

    def allow(self, content: int) -> None:
        """Lets a file's content be read, and what stands before the next one's."""
        self._left = content + _HEADER_BYTES

    def read(self, size: int) -> bytes:
        data = self._plain.read(size)
        self._left -= len(data)
        self._advance(self._packed.tell() - self._done)
        self._done = self._packed.tell()
        if self._left < 0:
            raise ValueError(f"more than {_HEADER_BYTES} bytes describe one file: it is taken for a bomb")
        return data


@contextmanager
def _refusing(archive: Path) -> Iterator[None]:
    """Names the archive in whatever its readers throw at broken ones."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            # Of the disk: full, read-only, ...
            raise
        raise ValueError(f"{archive} is damaged ({error})") from error
    except _DAMAGE as error:
        raise ValueError(f"{archive} is no zip or tar archive, or a damaged one ({error})") from error
    except (RuntimeError, NotImplementedError) as error:
        # Encrypted, or packed by a method that zipfile does not have.
        raise ValueError(f"{archive} cannot be unpacked ({error})") from error
    except ValueError as error:
        text = str(error)
        raise ValueError(text if str(archive) in text else f"{archive}: {text}") from error


def check_room(archive: Path, folder: Path, place_of: Callable[[str], str | None]) -> None:
    """Checks that the disk takes what a zip archive is about to become; others do not say how much that is.

    Raises:
        OSError: if it does not.
        ValueError: as `unpack`.
    """
    with _refusing(archive):
        if not _is_zip(archive):
            return
        with zipfile.ZipFile(archive) as opened:
            wanted = {place_of(info.orig_filename): info.file_size for info in opened.infolist()}
    needed = sum(size for place, size in wanted.items() if place and not (folder / place).is_file())
    above = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(above).free
    if free < needed:
        reason = f"{needed / 2**30:.1f} GiB are needed here, {free / 2**30:.1f} GiB are free"
        raise OSError(errno.ENOSPC, reason, str(folder))
