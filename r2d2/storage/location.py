"""Opens what lies at a place as people write it: a folder, or `s3://bucket/prefix`."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from r2d2.formats.names import path_below, require_text
from r2d2.storage.cache import CacheSettings
from r2d2.storage.errors import StorageError
from r2d2.storage.files import FileSet, FolderFiles
from r2d2.storage.s3 import SCHEME, TIMEOUT, S3Server, split_place
from r2d2.storage.s3_files import S3Files
from r2d2.storage.scratch import lasting_scratch_folder, scratch_folder
from r2d2.storage.store import FolderStore, Store

log = logging.getLogger(__name__)

# In a cache: copies of whole places, each as long as its process lives.
COPIES = "copies"

# The copies of this process, by process, cache and contents.
_copies: dict[tuple[int, str, str], Path] = {}
_copying = threading.Lock()


def is_remote(place: str) -> bool:
    """Says whether a place is on S3."""
    return place.startswith(SCHEME)


def absolute_place(place: str) -> str:
    """Returns the place so that it means the same in every working directory.

    Raises:
        ValueError: if it is an address that is none of S3's.
    """
    _refuse_other_addresses(place)
    return place if is_remote(place) else str(Path(place).expanduser().absolute())


def open_files(place: str, cache: CacheSettings | None = None, timeout: float = TIMEOUT) -> FileSet:
    """Opens the files at a place, as they are now.

    Args:
        place: a folder, or `s3://bucket/prefix`.
        cache: where objects of S3 are kept on this node; None: nowhere.
        timeout: seconds that a request to S3 is tried again for, where there is no cache to say so.

    Raises:
        ValueError: if there is nothing, or the place is another kind of address.
        StorageError: if the place cannot be looked at, with the reason and what was tried.
    """
    _refuse_other_addresses(place)
    files: FileSet = (
        S3Files.of(place, cache, timeout) if is_remote(place) else FolderFiles.of(Path(place).expanduser())
    )
    return files


def open_store(place: str | Path, timeout: float = TIMEOUT) -> Store:
    """Opens the store at a place; asks no server yet.

    Args:
        place: a folder, which is made when something is written, or `s3://bucket/prefix`.
        timeout: seconds that a request to S3 is tried again for.

    Raises:
        ValueError: if the place names no bucket.
    """
    if str(place).startswith(SCHEME):
        from r2d2.storage.s3_store import S3Store

        return S3Store(str(place), timeout)
    return FolderStore(Path(place))


def folder_of(store: Store) -> Path:
    """Returns the folder of a store that is one, for what can lie nowhere else."""
    assert isinstance(store, FolderStore), f"{store.place} is no folder"
    return store.folder


def store_at(place: str | Path | Store) -> Store:
    """Opens the store at a place; returns a store as it is."""
    return open_store(place) if isinstance(place, str | Path) else place


def local_folder(place: str, cache: CacheSettings | None = None) -> Path:
    """Returns a folder on this disk with everything that lies at a place; a folder is returned as it is.

    What is on S3 is copied through the cache into a folder that bears the last name of the place, and stays
    as long as this process lives. Nothing may be written into it.

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
    return _kept_copy(S3Files.of(place, cache), cache)


def local_file(place: str, cache: CacheSettings | None = None, timeout: float = TIMEOUT) -> Path:
    """Returns one file on this disk, with its own name; a path is returned as it is. Else as `local_path`."""
    if not is_remote(place):
        return Path(place).expanduser()
    cache = cache or _temporary_cache(timeout)
    files = _object(place, cache)
    if files is None:
        raise ValueError(f"there is no {place} on {S3Server().endpoint}")
    return _kept_copy(files, cache) / files.names[0]


def local_path(place: str, cache: CacheSettings | None = None, timeout: float = TIMEOUT) -> Path:
    """Returns what lies at a place, on this disk: the object of that name, or a folder of all below it.

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
    files = _object(place.rstrip("/"), cache)
    return local_folder(place, cache) if files is None else _kept_copy(files, cache) / files.names[0]


@contextmanager
def fetched(place: str, timeout: float = TIMEOUT) -> Iterator[Path]:
    """Fetches as `local_path`, but what is on S3 is removed from this disk when the block ends.

    Args:
        place: a path, or `s3://bucket/prefix`.
        timeout: seconds that a request to S3 is tried again for.
    """
    if not is_remote(place):
        yield Path(place).expanduser()
        return
    with scratch_folder() as scratch:
        cache = CacheSettings(str(scratch / "objects"), 2**62, timeout)
        found = _object(place.rstrip("/"), cache)
        copy = _copy(found or S3Files.of(place, cache), scratch / "copy")
        yield copy / found.names[0] if found else copy


def _object(place: str, cache: CacheSettings) -> S3Files | None:
    """The object of that very name, as the only file of the place above it; None if there is none."""
    bucket, key = split_place(place)
    server = S3Server(cache.timeout)
    found = server.find(bucket, key) if key else None
    above, _, name = place.rpartition("/")
    if found is None:
        return None
    entries = [(name, found.size, found.mark)]
    return S3Files(above, entries, hashed=False, server=server, cache=cache)


def _refuse_other_addresses(place: str) -> None:
    require_text(place)
    scheme, separator, _ = place.partition("://")
    if separator and not is_remote(place) and scheme.isalnum():
        raise ValueError(f"'{place}' cannot be read here: a place is a folder or s3://bucket/prefix")


def _kept_copy(files: S3Files, cache: CacheSettings) -> Path:
    """A copy that lasts as long as this process; made once of the same contents.

    Its files are links to the objects in the cache, so another process makes its own at no cost, and nobody
    has to find out when a shared folder is free.
    """
    contents = repr([(files.place, name, files.size(name), files.mark(name)) for name in files.names])
    key = os.getpid(), cache.folder, hashlib.sha256(contents.encode()).hexdigest()[:32]
    with _copying:
        if key not in _copies:
            try:
                _copies[key] = _copy(files, lasting_scratch_folder(Path(cache.folder) / COPIES) / key[2])
            except StorageError:
                raise
            except OSError as error:
                # A cache that is full or cannot be written stops nothing.
                other = lasting_scratch_folder()
                log.warning("%s: %s; %s is copied to %s", cache.folder, error.strerror, files.place, other)
                _copies[key] = _copy(files, other / key[2])
        return _copies[key]


def _copy(files: S3Files, folder: Path) -> Path:
    """Everything of a place on S3 in a folder that has the place's last name, below a new folder."""
    below = path_below(folder, files.place.rpartition("/")[2], files.place)
    files.prefetch(files.names)
    try:
        for name in files.names:
            target = path_below(below, name, files.place)
            target.parent.mkdir(parents=True, exist_ok=True)
            files.copy(name, target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return below


def _temporary_cache(timeout: float = TIMEOUT) -> CacheSettings:
    return CacheSettings(str(lasting_scratch_folder()), 2**62, timeout)
