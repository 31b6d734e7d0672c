"""Location: a place as people write it, a folder or `s3://bucket/prefix`, and what lies there."""

from __future__ import annotations

import functools
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from r2d2.storage.cache import CacheSettings
from r2d2.storage.errors import StorageError
from r2d2.storage.files import FileSet, FolderFiles
from r2d2.storage.local_copy import local_copy
from r2d2.storage.names import require_text
from r2d2.storage.s3 import SCHEME, TIMEOUT, S3Server, split_place
from r2d2.storage.s3_files import Entry, S3Files
from r2d2.storage.scratch import lasting_scratch_folder, scratch_folder

log = logging.getLogger(__name__)

# The index of shards, which earlier versions wrote.
_SHARDS = "shards.json"


def is_remote(place: str) -> bool:
    """Whether a place is on S3."""
    return place.startswith(SCHEME)


def absolute_place(place: str) -> str:
    """A place that means the same in every working directory.

    Raises:
        ValueError: if it is an address that is none of S3's.
    """
    _refuse_other_addresses(place)
    return place if is_remote(place) else str(Path(place).expanduser().absolute())


def open_files(place: str, cache: CacheSettings | None = None, timeout: float = TIMEOUT) -> FileSet:
    """The files at a place.

    Args:
        place: a folder, or `s3://bucket/prefix`.
        cache: where objects of S3 are kept on this node; None: nowhere.
        timeout: seconds that a request to S3 is tried again for, where there is no cache to say so.

    Raises:
        ValueError: if there is nothing, it holds shards, or the place is another kind of address.
        StorageError: if the place cannot be looked at, with the reason and what was tried.
    """
    _refuse_other_addresses(place)
    files: FileSet = (
        S3Files.of(place, cache, timeout) if is_remote(place) else FolderFiles.of(Path(place).expanduser())
    )
    if _SHARDS in files.names:
        raise ValueError(
            f"{place} holds shards, which are not read any more: unpack them into a folder "
            "(for f in shard-*.tar; do tar xf $f -C FOLDER; done) and prepare that folder"
        )
    return files


def local_folder(place: str, cache: CacheSettings | None = None) -> Path:
    """A folder on this disk with everything that lies at a place; a folder is itself.

    What is on S3 is copied through the cache into a folder that is complete when it appears, bears the last
    name of the place, and stays as long as this process lives. Nothing may be written into it.

    Args:
        place: a folder, or `s3://bucket/prefix`.
        cache: of this node; None: a temporary one, which ends with the process.

    Raises:
        ValueError: if there is nothing on S3 at that place.
        StorageError: if an object cannot be had.
    """
    if not is_remote(place):
        return Path(place).expanduser()
    cache = cache or _temporary_cache()
    return _local_copy(S3Files.of(place, cache), cache)


def local_file(place: str, cache: CacheSettings | None = None, timeout: float = TIMEOUT) -> Path:
    """One file on this disk, with its own name; a path is itself. Otherwise as `local_path`."""
    if not is_remote(place):
        return Path(place).expanduser()
    cache = cache or _temporary_cache(timeout)
    above, _, name = place.rpartition("/")
    bucket, key = split_place(place)
    server = S3Server(cache.timeout)
    found = server.find(bucket, key)
    if found is None or not key:
        raise ValueError(f"there is no {place} on {server.endpoint}")
    files = S3Files(above, [Entry(name, found.size, found.etag)], hashed=False, server=server, cache=cache)
    return _local_copy(files, cache) / name


def local_path(place: str, cache: CacheSettings | None = None, timeout: float = TIMEOUT) -> Path:
    """What lies at a place, on this disk: of S3 the object of that very name, or a folder of all below it.

    Args:
        place: a path, or `s3://bucket/prefix`.
        cache: of this node; None: a temporary one, which ends with the process.
        timeout: seconds that a request to S3 is tried again for, where there is no cache to say so.

    Raises:
        ValueError: if there is neither on S3.
        StorageError: as `local_folder`.
    """
    if not is_remote(place):
        return Path(place).expanduser()
    cache = cache or _temporary_cache(timeout)
    bucket, key = split_place(place.rstrip("/"))
    is_file = bool(key) and S3Server(cache.timeout).find(bucket, key) is not None
    return local_file(place, cache) if is_file else local_folder(place, cache)


@contextmanager
def fetched(place: str, timeout: float = TIMEOUT) -> Iterator[Path]:
    """As `local_path`, but what is on S3 is on this disk only as long as the block runs, and never cached.

    Args:
        place: a path, or `s3://bucket/prefix`.
        timeout: seconds that a request to S3 is tried again for.
    """
    if not is_remote(place):
        yield Path(place).expanduser()
        return
    with scratch_folder() as scratch:
        yield local_path(place, CacheSettings(str(scratch), 2**62, timeout))


def _refuse_other_addresses(place: str) -> None:
    require_text(place)
    scheme, separator, _ = place.partition("://")
    if separator and not is_remote(place) and scheme.isalnum():
        raise ValueError(f"'{place}' cannot be read here: a place is a folder or s3://bucket/prefix")


def _local_copy(files: S3Files, cache: CacheSettings) -> Path:
    try:
        return local_copy(files, cache)
    except StorageError:
        raise
    except OSError as error:
        # A cache that is full or cannot be written stops nothing.
        other = _temporary_cache()
        log.warning("%s: %s; %s is copied to %s", cache.folder, error.strerror, files.place, other.folder)
        return local_copy(files, other)


@functools.cache
def _temporary_cache(timeout: float = TIMEOUT) -> CacheSettings:
    return CacheSettings(tempfile.mkdtemp(dir=lasting_scratch_folder()), 2**62, timeout)
