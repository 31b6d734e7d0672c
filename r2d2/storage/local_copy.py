"""Local copy: everything of a place on S3 as a folder of this node, for what wants paths.

    <cache>/folders/<digest of names and contents>/<last name of the place>/...
    <cache>/folders/<digest>.used       locked by every process that uses the folder, as long as it lives

Where the folders have grown beyond their share of the cache, those that nobody uses are removed, the least
recently used first.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from pathlib import Path

from filelock import FileLock

from r2d2.storage.atomic import atomic_folder
from r2d2.storage.cache import SHARE, CacheSettings
from r2d2.storage.names import path_below
from r2d2.storage.s3_files import S3Files
from r2d2.storage.transfer import SLOWEST

FOLDERS = "folders"
# Seconds that another process may take to remove a folder.
_REMOVAL = 60.0

# Descriptors whose locks keep the folders that this process uses; the system unlocks them at its end.
_in_use: dict[Path, int] = {}


def local_copy(files: S3Files, cache: CacheSettings) -> Path:
    """The folder; made unless it is there.

    Raises:
        StorageError: if an object cannot be had.
        OSError: if the folder cannot be written.
    """
    home = Path(cache.folder) / FOLDERS
    home.mkdir(parents=True, exist_ok=True)
    digest, name = _digest(files), files.place.rpartition("/")[2]
    _use(home / f"{digest}.used")
    folder = home / digest
    total = sum(files.size(name) for name in files.names)
    with FileLock(home / f"{digest}.lock", timeout=files.timeout + total / SLOWEST):
        if not folder.is_dir():
            _fill(folder, name, files)
            _remove_unused(home, int(cache.max_bytes * (1 - SHARE)))
    return folder / name


def _digest(files: S3Files) -> str:
    """Of names and contents, short enough for a folder's name."""
    total = hashlib.sha256()
    for name in files.names:
        total.update(f"{name}\n{files.size(name)}\n{files.mark(name)}\n".encode())
    # The folder bears the place's last name, so copies of different names are different folders.
    total.update(files.place.encode())
    return total.hexdigest()[:32]


def _fill(folder: Path, name: str, files: S3Files) -> None:
    with atomic_folder(folder) as temporary:
        below = path_below(temporary, name, files.place)
        files.prefetch(files.names)
        for file in files.names:
            target = path_below(below, file, files.place)
            target.parent.mkdir(parents=True, exist_ok=True)
            files.copy(file, target)


def _use(path: Path) -> None:
    """Keeps a folder from being removed while this process lives, and makes it the most recently used."""
    if path not in _in_use:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        deadline = time.monotonic() + _REMOVAL
        while not _lock(descriptor, fcntl.LOCK_SH):
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise TimeoutError(f"{path}: another process has held it for {_REMOVAL:.0f} s")
            time.sleep(0.05)
        _in_use[path] = descriptor
    os.utime(path)


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove_unused(home: Path, max_bytes: int) -> None:
    marks = sorted(home.glob("*.used"), key=lambda mark: mark.stat().st_mtime)
    sizes = {mark: _size(mark.with_suffix("")) for mark in marks}
    surplus = sum(sizes.values()) - max_bytes
    for mark in marks:
        if surplus <= 0:
            return
        descriptor = os.open(mark, os.O_RDWR)
        try:
            if _lock(descriptor, fcntl.LOCK_EX):
                shutil.rmtree(mark.with_suffix(""), ignore_errors=True)
                surplus -= sizes[mark]
        finally:
            os.close(descriptor)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
