"""ShardFiles: the files in the shards of a place, read as if they lay there themselves.

The shards come through another FileSet, so it does not matter whether they lie in a folder or on S3.
"""

from __future__ import annotations

import io
import os
import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from r2d2.storage.errors import corrupt, gone
from r2d2.storage.files import FileSet
from r2d2.storage.manifest import Manifest
from r2d2.storage.shard_index import INDEX, ShardIndex

# Shards that a process keeps open.
MOST_OPEN = 64
# Shards whose files are mixed: so many are read at the same time, and come into memory or the node's cache.
WINDOW = 4


class ShardFiles:
    """The files in shards; see `FileSet`. Can be pickled, and used by several threads and processes.

    Attributes:
        place: of the shards.
        names: paths of the files in them, sorted.
    """

    def __init__(self, inner: FileSet, index: ShardIndex) -> None:
        """Opens nothing yet.

        Args:
            inner: the shards, by the names that the index has for them.
            index: of their content.
        """
        self.place = inner.place
        self.names = tuple(file.path for file in index.content.files)
        self.content: Manifest = index.content
        self._inner = inner
        self._shards = tuple(shard.path for shard in index.shards)
        self._sizes = np.array([file.size for file in index.content.files], np.int64)
        self._shard_of = np.array(index.shard_of, np.int32)
        self._offset_of = np.array(index.offset_of, np.int64)
        self._forget()

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._open: tuple[int, OrderedDict[int, _OpenShard]] = (os.getpid(), OrderedDict())

    @classmethod
    def of(cls, inner: FileSet) -> ShardFiles:
        """The files in the shards of a place.

        Raises:
            ValueError: if it has no index of shards, or a damaged one.
            OSError: if the index cannot be read.
        """
        if not is_sharded(inner):
            raise ValueError(f"{inner.place} holds no {INDEX}")
        with inner.open(INDEX) as file:
            return cls(inner, ShardIndex.parse(file.read(), f"{inner.place}/{INDEX}"))

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_lock", "_open")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def size(self, name: str) -> int:
        """Of a file, bytes."""
        return int(self._sizes[self._index(name)])

    def sha256(self, name: str) -> str | None:
        """Of a file's content, hexadecimal."""
        return self.content.files[self._index(name)].sha256

    def open(self, name: str) -> BinaryIO:
        """A file's content, seekable, in memory.

        Raises:
            OSError: if its shard cannot be had, or is shorter than it should be.
        """
        index = self._index(name)
        size = int(self._sizes[index])
        content = self._shard(int(self._shard_of[index])).read(int(self._offset_of[index]), size)
        if len(content) != size:
            shard = self._shards[self._shard_of[index]]
            raise corrupt(f"{self.place}/{shard}", f"it ends within {name}")
        return io.BytesIO(content)

    def prefetch(self, names: Iterable[str]) -> None:
        """Fetches the shards of these files, in the order in which they are first needed."""
        shards = dict.fromkeys(int(self._shard_of[self._index(name)]) for name in names)
        _, opened = self._opened()
        self._inner.prefetch(self._shards[shard] for shard in shards if shard not in opened)

    def shard_of(self, name: str) -> int:
        """The number of the shard that a file lies in."""
        return int(self._shard_of[self._index(name)])

    def _index(self, name: str) -> int:
        index = bisect_left(self.names, name)
        if index == len(self.names) or self.names[index] != name:
            raise gone(f"{self.place}/{name}")
        return index

    def _opened(self) -> tuple[int, OrderedDict[int, _OpenShard]]:
        """The shards that this process has open."""
        if self._open[0] != os.getpid():
            # Forked: what the parent opened stays the parent's, and its lock may be held for ever.
            self._forget()
        return self._open

    def _shard(self, number: int) -> _OpenShard:
        self._opened()
        with self._lock:
            opened = self._open[1]
            if number not in opened:
                opened[number] = _OpenShard(self._inner.open(self._shards[number]))
                while len(opened) > MOST_OPEN:
                    # It closes when the last thread that reads from it lets it go.
                    opened.popitem(last=False)
            opened.move_to_end(number)
            return opened[number]


class _OpenShard:
    """A shard that is open: several threads read from it at once where the system lets them."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._lock = file, threading.Lock()
        try:
            self._descriptor: int | None = file.fileno()
        except OSError:
            self._descriptor = None

    def __del__(self) -> None:
        self._file.close()

    def read(self, offset: int, size: int) -> bytes:
        """The bytes from `offset` on; fewer at the end of the shard."""
        if self._descriptor is None:
            with self._lock:
                self._file.seek(offset)
                return self._file.read(size)
        content = os.pread(self._descriptor, size, offset)
        while len(content) < size:
            more = os.pread(self._descriptor, size - len(content), offset + len(content))
            if not more:
                break
            content += more
        return content


def is_sharded(files: FileSet) -> bool:
    """Whether a place holds shards."""
    position = bisect_left(files.names, INDEX)
    return position < len(files.names) and files.names[position] == INDEX


def through_shards(files: FileSet) -> FileSet:
    """The files in the shards of a place; the files of the place themselves where there are none."""
    return ShardFiles.of(files) if is_sharded(files) else files


def sequential_order(
    shards: Sequence[int] | npt.NDArray[np.integer], rng: np.random.Generator, window: int = WINDOW
) -> npt.NDArray[np.int64]:
    """Orders items so that their shards are read a few at a time, and at random otherwise.

    The order of the shards is random, and so is that of the items within each window of `window` shards.

    Args:
        shards: (n,), the number of the shard that each item lies in.
        rng: decides all of it.
        window: shards whose items are mixed, at least 1.

    Returns:
        (n,) int64, a permutation of range(n).
    """
    if window < 1:
        raise ValueError(f"window is {window}; it must be at least 1")
    numbers, position = np.unique(np.asarray(shards, np.int64), return_inverse=True)
    turn = rng.permutation(len(numbers))[position] // window
    shuffled = rng.permutation(len(turn))
    return shuffled[np.argsort(turn[shuffled], kind="stable")].astype(np.int64)
