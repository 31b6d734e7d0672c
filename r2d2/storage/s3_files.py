"""Reads the objects below a prefix of S3, as they were when the place was opened.

Opening lists the prefix, or reads its `manifest.json` where there is one, which takes a single request. From
then on every object is the one that was found: one that was replaced meanwhile is an error that says so. Open
the place anew to have the new one.
"""

from __future__ import annotations

import logging
import os
import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from r2d2.formats.names import is_name, is_visible
from r2d2.storage.cache import CacheSettings, ObjectCache, open_apart
from r2d2.storage.errors import gone
from r2d2.storage.manifest import MANIFEST, manifest_entries
from r2d2.storage.s3 import TIMEOUT, S3Server, split_place
from r2d2.storage.transfer import Wanted, fetch_bytes

log = logging.getLogger(__name__)

# Threads that read ahead of those who open files, and how far.
THREADS = 8
MOST_FILES, MOST_BYTES = 64, 2**29


class S3Files:
    """S3Files are those at `s3://bucket/prefix`; see `FileSet`. A pickled copy connects for itself."""

    def __init__(
        self,
        place: str,
        entries: Iterable[tuple[str, int, str]],
        *,
        hashed: bool,
        server: S3Server,
        cache: CacheSettings | None,
    ) -> None:
        """Keeps the entries; `S3Files.of` finds them.

        Args:
            place: `s3://bucket/prefix`.
            entries: (name below the place, bytes, ETag or SHA-256 in hexadecimal) of each object.
            hashed: whether it is the SHA-256, which a manifest gives.
            server: where they are.
            cache: where they are kept on this node; None: nowhere.
        """
        self.place = place.rstrip("/")
        self._bucket, self._prefix = split_place(self.place)
        self._hashed, self._server, self._settings = hashed, server, cache
        ordered = sorted(entries)
        # Arrays: a million objects take their names and little more.
        self.names = tuple(name for name, _, _ in ordered)
        self._sizes = np.array([size for _, size, _ in ordered], dtype=np.int64)
        self._marks = np.array([mark.encode() for _, _, mark in ordered], dtype=np.bytes_)
        self._running: tuple[int, ObjectCache | None, ReadAhead] | None = None

    @classmethod
    def of(cls, place: str, cache: CacheSettings | None, timeout: float = TIMEOUT) -> S3Files:
        """Looks at a place, and notes which objects are there.

        Raises:
            StorageError: if it cannot be looked at, with the reason and what was tried.
            ValueError: if its name or its manifest is not in order, or there is nothing.
        """
        place = place.rstrip("/")
        bucket, prefix = split_place(place)
        server = S3Server(timeout if cache is None else cache.timeout)
        below = f"{prefix}/" if prefix else ""
        manifest = server.find(bucket, below + MANIFEST)
        if manifest is not None:
            wanted = Wanted(bucket, manifest.name, manifest.size, manifest.mark)
            entries = manifest_entries(fetch_bytes(server, wanted), str(wanted))
        else:
            listed = {found.name: found for found in server.list(bucket, below)}
            names = visible_names(listed, below, place)
            entries = [(name, listed[key].size, listed[key].mark) for key, name in names.items()]
        if not entries:
            raise ValueError(f"there is nothing at {place}/ on {server.endpoint}")
        return cls(place, entries, hashed=manifest is not None, server=server, cache=cache)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_running": None}

    @property
    def timeout(self) -> float:
        """Says for how many seconds a request is tried again."""
        return self._server.timeout

    def size(self, name: str) -> int:
        """Returns the bytes of an object when the place was opened; raises FileError if it was not there."""
        return int(self._sizes[self._index(name)])

    def mark(self, name: str) -> str:
        """Returns an object's ETag, or its SHA-256 where there is a manifest; raises as `size`."""
        return bytes(self._marks[self._index(name)]).decode()

    def sha256(self, name: str) -> str | None:
        """Returns the SHA-256 of an object, hexadecimal, or None without a manifest; raises as `size`."""
        return self.mark(name) if self._hashed else None

    def open(self, name: str) -> BinaryIO:
        """Opens an object, seekable and at its first byte.

        Raises:
            StorageError: if it cannot be had, was changed since the place was opened, or is corrupt.
        """
        _, cache, ahead = self._run()
        return ahead.take(name) or self._fetch(name, cache)

    def prefetch(self, names: Iterable[str]) -> None:
        """Fetches objects ahead of `open` in this process: by few threads, and only so many ahead of it."""
        self._run()[2].want(names)

    def copy(self, name: str, target: Path) -> None:
        """Puts an object on this disk under the path `target`, which must be new.

        Raises:
            StorageError: as `open`.
        """
        _, cache, ahead = self._run()
        assert cache is not None, "without a cache there is nothing to copy from"
        fetched = ahead.take(name)
        if fetched is not None:
            fetched.close()
        cache.copy(self._server, self._wanted(name), target)

    def _run(self) -> tuple[int, ObjectCache | None, ReadAhead]:
        """The cache and the threads of this process."""
        if self._running is None or self._running[0] != os.getpid():
            cache = None if self._settings is None else ObjectCache(self._settings)
            self._running = (os.getpid(), cache, ReadAhead(lambda name: self._fetch(name, cache), self.size))
        return self._running

    def _fetch(self, name: str, cache: ObjectCache | None) -> BinaryIO:
        wanted = self._wanted(name)
        return open_apart(self._server, wanted) if cache is None else cache.open(self._server, wanted)

    def _wanted(self, name: str) -> Wanted:
        key = f"{self._prefix}/{name}" if self._prefix else name
        mark = self.mark(name)
        etag, sha256 = (None, mark) if self._hashed else (mark, None)
        return Wanted(self._bucket, key, self.size(name), etag, sha256)

    def _index(self, name: str) -> int:
        index = bisect_left(self.names, name)
        if index == len(self.names) or self.names[index] != name:
            raise gone(f"{self.place}/{name}")
        return index


def visible_names(keys: Iterable[str], below: str, place: str) -> dict[str, str]:
    """Names the objects below a prefix as a folder would: no hidden ones, no marks of folders.

    Keys that are no paths of files, such as `a//b`, are passed over, which is said.

    Args:
        keys: all begin with the prefix.
        below: the prefix; empty, or ending with a slash.
        place: for the sentence.
    """
    names = {key: key.removeprefix(below) for key in keys if not key.endswith("/")}
    odd = [name for name in names.values() if not is_name(name)]
    if odd:
        log.warning("%s: %d objects are passed over, whose keys name no files: %r", place, len(odd), odd[0])
    return {key: name for key, name in names.items() if is_visible(name)}


class ReadAhead:
    """A ReadAhead fetches files before they are asked for, by few threads, so many and no more."""

    def __init__(self, fetch: Callable[[str], BinaryIO], size: Callable[[str], int]) -> None:
        """Starts threads when files are wanted.

        Args:
            fetch: gets a file by its name, within a limited time.
            size: of a file, bytes.
        """
        self._fetch, self._size = fetch, size
        self._lock = threading.Lock()
        self._wanted: OrderedDict[str, int] = OrderedDict()
        self._fetched: OrderedDict[str, tuple[Future[BinaryIO], int]] = OrderedDict()
        self._threads = 0

    def __del__(self) -> None:
        while self._fetched:
            self._drop_oldest()

    def want(self, names: Iterable[str]) -> None:
        """Says which files are opened soon, in this order, after those that are wanted already."""
        with self._lock:
            # Whoever says what comes next has finished with most of what came before.
            while len(self._fetched) > MOST_FILES // 2:
                self._drop_oldest()
            self._wanted.update((name, self._size(name)) for name in names if name not in self._fetched)
            self._start()

    def take(self, name: str) -> BinaryIO | None:
        """Returns a file that was fetched ahead, after its end if it is under way; None if it was not.

        Raises:
            Exception: what `fetch` raised.
        """
        with self._lock:
            self._wanted.pop(name, None)
            found = self._fetched.pop(name, None)
            if found is None and self._is_full():
                # What is opened is not what was wanted, which must not take all the room for ever.
                self._drop_oldest()
            self._start()
        return None if found is None else found[0].result()

    def _start(self) -> None:
        # Threads of an executor would hold up the end of the process until all that is wanted has come.
        while self._threads < THREADS and (work := self._next()) is not None:
            self._threads += 1
            threading.Thread(target=self._run, args=work, name="r2d2-ahead", daemon=True).start()

    def _run(self, name: str, content: Future[BinaryIO]) -> None:
        work: tuple[str, Future[BinaryIO]] | None = (name, content)
        while work is not None:
            name, content = work
            try:
                content.set_result(self._fetch(name))
            except Exception as error:
                # For the one who takes it.
                content.set_exception(error)
            with self._lock:
                work = self._next()
                self._threads -= work is None

    def _next(self) -> tuple[str, Future[BinaryIO]] | None:
        """The next file that is wanted, if there is room for it."""
        if not self._wanted or self._is_full():
            return None
        (name, size), content = self._wanted.popitem(last=False), Future[BinaryIO]()
        self._fetched[name] = content, size
        return name, content

    def _is_full(self) -> bool:
        held = sum(size for _, size in self._fetched.values()) + next(iter(self._wanted.values()), 0)
        return bool(self._fetched) and (len(self._fetched) >= MOST_FILES or held > MOST_BYTES)

    def _drop_oldest(self) -> None:
        _, (content, _) = self._fetched.popitem(last=False)
        content.add_done_callback(_close)


def _close(content: Future[BinaryIO]) -> None:
    if content.exception() is None:
        content.result().close()
