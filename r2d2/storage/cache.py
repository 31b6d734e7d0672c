"""Keeps objects of S3 on the disk of a node, so that each is fetched once, whoever asks for it.

An object is found by its content: by its SHA-256 where a manifest gives it, else by server, bucket, key and
ETag. So an object that was replaced is another one, and a place keeps to those that it found when opened.

Any number of processes may share a folder, and be killed at any moment: an object appears in it whole or not
at all, and the locks of a process end with it. Where the folder cannot be written (any more), everything
goes on without it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from filelock import FileLock, Timeout

from r2d2.storage.errors import StorageError
from r2d2.storage.s3 import TIMEOUT, S3Server
from r2d2.storage.transfer import RANGE, SLOWEST, Wanted, fetch_bytes, fetch_file

log = logging.getLogger(__name__)

OBJECTS, LOCKS = "objects", "locks"
SUFFIX = ".object"
# Of the limit; the rest is for folders made of objects, see `location.local_folder`.
SHARE = 0.75

# Removal goes on until this share of the limit is left, so that it is rare.
KEPT = 0.9
# Other processes write too: after as large a share of the limit, the folder is looked through again.
LOOK_AGAIN = 0.02
# A file that its writer left unfinished, by being killed, is removed after as many seconds.
ABANDONED = 3600.0

# Objects whose digests begin alike share a lock, so that locks need not be removed.
_LOCK_LETTERS = 3
# Seconds between two looks whether another process has the object by now.
_POLL = 0.01

# Folders that could not be written, by this process. Each is told once.
_given_up: set[str] = set()


@dataclass(frozen=True)
class CacheSettings:
    """CacheSettings say where a node keeps what it fetches, how much of it, and how long it tries. Picklable.

    Attributes:
        folder: on a disk of the node; made when something is written; holds nothing else.
        max_bytes: of everything in it, at least 0; 0 keeps nothing.
        timeout: seconds that a request to a server which does not answer is tried again for, at least 0.
    """

    folder: str
    max_bytes: int
    timeout: float = TIMEOUT

    def __post_init__(self) -> None:
        if self.max_bytes < 0:
            raise ValueError(f"max_bytes is {self.max_bytes}; it must be at least 0")
        if self.timeout < 0:
            raise ValueError(f"timeout is {self.timeout} seconds; it must be at least 0")


class ObjectCache:
    """An ObjectCache keeps objects in one folder, which any number of processes may share."""

    def __init__(self, settings: CacheSettings) -> None:
        self._folder = Path(settings.folder)
        self._info = LruFolder(self._folder / OBJECTS, int(settings.max_bytes * SHARE), SUFFIX)

    def open(self, server: S3Server, wanted: Wanted) -> BinaryIO:
        """Opens an object, seekable and at its first byte; fetches it if this node does not have it.

        Raises:
            StorageError: if it cannot be had, was changed, or is corrupt.
        """
        path = self._path(server, wanted)
        file = self._open_kept(path, wanted.size)
        if file is not None:
            return file
        if str(self._folder) in _given_up or not self._info.fits(wanted.size):
            return open_apart(server, wanted)
        with self._lock(path, server.timeout + wanted.size / SLOWEST) as locked:
            if not locked:
                return open_apart(server, wanted)
            return self._open_kept(path, wanted.size) or self._fetch(server, wanted, path)

    def copy(self, server: S3Server, wanted: Wanted, target: Path) -> None:
        """Puts an object into another folder: as a further name of the kept file where that is possible.

        Raises:
            StorageError: as `open`.
            OSError: if the target cannot be written.
        """
        with self.open(server, wanted) as file:
            try:
                # It is on this disk once, and remains if the cache lets go of it.
                os.link(self._path(server, wanted), target)
            except OSError:
                with target.open("xb") as copy:
                    shutil.copyfileobj(file, copy, RANGE)

    def _path(self, server: S3Server, wanted: Wanted) -> Path:
        if wanted.sha256 is not None:
            return self._info.path(wanted.sha256)
        name = "\n".join((server.endpoint, str(wanted), str(wanted.size), str(wanted.etag)))
        return self._info.path(hashlib.sha256(name.encode()).hexdigest())

    def _open_kept(self, path: Path, size: int) -> BinaryIO | None:
        try:
            file = path.open("rb")
        except OSError:
            return None
        # Something cut it: a crash of the machine, another program.
        if os.fstat(file.fileno()).st_size != size:
            file.close()
            return None
        # Removed since, or of another user: it can be read all the same.
        with contextlib.suppress(OSError):
            self._info.use(path)
        return file

    def _fetch(self, server: S3Server, wanted: Wanted, path: Path) -> BinaryIO:
        """Fetches an object and keeps it; called by the one process that holds its lock."""
        if wanted.size < 2 * RANGE:
            content = fetch_bytes(server, wanted)
            with self._giving_up(), self._new_file(path) as file:
                file.write(content)
            return io.BytesIO(content)
        kept: BinaryIO | None = None
        with self._giving_up():
            with self._new_file(path) as file:
                fetch_file(server, wanted, file)
            kept = path.open("rb")
        return kept or open_apart(server, wanted)

    @contextmanager
    def _new_file(self, path: Path) -> Iterator[BinaryIO]:
        """A file that becomes `path` when the block ends well."""
        path.parent.mkdir(parents=True, exist_ok=True)
        # Who was killed here before left a file of the same name, which is written over.
        temporary = path.with_name(f".{path.stem}.part")
        try:
            with temporary.open("w+b") as file:
                yield file
                # Not synchronised with the disk, which would take longer than fetching a photograph: what a
                # crash of the machine cuts is told by its size.
                file.flush()
                size = os.fstat(file.fileno()).st_size
            # Other names of it, which `copy` makes, must not be written through.
            temporary.chmod(0o444)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self._info.wrote(size)

    @contextmanager
    def _lock(self, path: Path, seconds: float) -> Iterator[bool]:
        """Whether this process alone may fetch an object now; False after so many seconds."""
        name = self._folder / LOCKS / path.name[:_LOCK_LETTERS]
        lock = FileLock(name, timeout=seconds, poll_interval=_POLL)
        locked = False
        with self._giving_up():
            name.parent.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire()
                locked = True
            except Timeout:
                # Who holds it stands still. It is of no use to wait longer, nor to stop the training.
                log.warning("%s: another process has held it for %.0f s", name, seconds)
        try:
            yield locked
        finally:
            lock.release()

    @contextmanager
    def _giving_up(self) -> Iterator[None]:
        """Suppresses what the disk refuses; it is told once, and this process writes no further object."""
        try:
            yield
        except StorageError:
            raise
        except (OSError, NotImplementedError) as error:
            if str(self._folder) not in _given_up:
                _given_up.add(str(self._folder))
                reason = getattr(error, "strerror", None) or error
                log.warning("%s: objects are not kept any more: %s", self._folder, reason)


class LruFolder:
    """An LruFolder holds files `<first two digits>/<digest><suffix>`, up to a number of bytes.

    Whoever writes one writes a hidden file beside it first, so that it appears whole or not at all.
    """

    def __init__(self, folder: Path, max_bytes: int, suffix: str) -> None:
        """The folder is made when something is written.

        Args:
            folder: its subfolders of two letters hold nothing else.
            max_bytes: of all files together, at least 0.
            suffix: of the files.
        """
        if max_bytes < 0:
            raise ValueError(f"max_bytes is {max_bytes}; it must be at least 0")
        self.folder, self.max_bytes, self.suffix = folder, max_bytes, suffix
        self._written_since_look = float("inf")

    def path(self, digest: str) -> Path:
        """Returns where the file of a digest lies, or would lie."""
        return self.folder / digest[:2] / (digest + self.suffix)

    def fits(self, size: int) -> bool:
        """Says whether a file of so many bytes would be kept."""
        return size <= self.max_bytes * KEPT

    def use(self, path: Path) -> None:
        """Makes a file the most recently used.

        Raises:
            OSError: if it is gone.
        """
        os.utime(path)

    def wrote(self, size: int) -> None:
        """Counts a file that was written, and makes room if many were.

        Raises:
            OSError: if the folder cannot be looked through.
        """
        self._written_since_look += size
        if self._written_since_look > LOOK_AGAIN * self.max_bytes:
            self.make_room()
            self._written_since_look = 0

    def make_room(self) -> None:
        """Removes the least recently used files beyond the limit, and files that nobody will finish."""
        try:
            with FileLock(self.folder / "lock", timeout=0):
                entries = sorted(self._entries())
                surplus = sum(size for _, size, _ in entries) - self.max_bytes
                if surplus <= 0:
                    return
                surplus += int((1 - KEPT) * self.max_bytes)
                for _, size, path in entries:
                    path.unlink(missing_ok=True)
                    surplus -= size
                    if surplus <= 0:
                        return
        except Timeout:
            # Another process is removing already.
            return

    def _entries(self) -> Iterator[tuple[int, int, Path]]:
        """(time of last use, bytes, path) of all files."""
        # These patterns match hidden names too, which files have while they are written.
        for path in self.folder.glob("??/*"):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            if path.suffix == self.suffix:
                yield status.st_mtime_ns, status.st_size, path
            elif time.time() - status.st_mtime > ABANDONED:
                path.unlink(missing_ok=True)


def open_apart(server: S3Server, wanted: Wanted) -> BinaryIO:
    """Fetches an object that is kept nowhere: into memory, or if it is large into a file without a name.

    Raises:
        StorageError: if it cannot be had, was changed, or is corrupt.
    """
    if wanted.size < 2 * RANGE:
        return io.BytesIO(fetch_bytes(server, wanted))
    file = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 (the caller closes it)
    try:
        fetch_file(server, wanted, file)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file
