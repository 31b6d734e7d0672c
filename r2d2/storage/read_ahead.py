"""ReadAhead: a few threads that fetch files before they are asked for, so many and no more."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import BinaryIO

THREADS = 8
# So far ahead of those who open files.
MOST_FILES, MOST_BYTES = 64, 2**29


@dataclass(frozen=True)
class _Fetched:
    """A file that is being fetched, or was, for someone to take; how many were taken before it was begun."""

    content: Future[BinaryIO]
    size: int
    taken_before: int


class ReadAhead:
    """The threads of one process. They end with it, whatever they are doing."""

    def __init__(self, fetch: Callable[[str], BinaryIO], size: Callable[[str], int]) -> None:
        """Starts its threads when files are wanted.

        Args:
            fetch: gets a file by its name, within a limited time.
            size: of a file, bytes.
        """
        self._fetch, self._size = fetch, size
        self._state = threading.Condition()
        self._wanted: deque[Iterator[str]] = deque()
        self._next: str | None = None
        self._fetched: OrderedDict[str, _Fetched] = OrderedDict()
        # Opened before the threads came to them.
        self._passed: set[str] = set()
        self._taken = 0
        self._started = False

    def want(self, names: Iterable[str]) -> None:
        """Says which files are opened soon, in this order, after those that are wanted already."""
        with self._state:
            self._wanted.append(iter(tuple(names)))
            # Whoever says what comes next has finished with most of what came before.
            while len(self._fetched) > MOST_FILES // 2:
                self._drop_oldest()
            self._start()
            self._state.notify_all()

    def take(self, name: str) -> BinaryIO | None:
        """A file that was fetched ahead, waiting for its end if it is under way; None if it was not.

        Raises:
            Exception: what `fetch` raised.
        """
        with self._state:
            if not self._started:
                return None
            self._taken += 1
            found = self._fetched.pop(name, None)
            if found is None and self._wanted:
                self._passed.add(name)
            self._forget()
            self._state.notify_all()
        return None if found is None else found.content.result()

    def _forget(self) -> None:
        """Drops files that were wanted and are not opened, or they would take all the room."""
        while self._fetched:
            oldest = next(iter(self._fetched.values()))
            if self._taken - oldest.taken_before <= 2 * MOST_FILES:
                return
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, dropped = self._fetched.popitem(last=False)
        dropped.content.add_done_callback(_close)

    def _start(self) -> None:
        if not self._started:
            self._started = True
            for number in range(THREADS):
                threading.Thread(target=self._run, name=f"r2d2-ahead-{number}", daemon=True).start()

    def _run(self) -> None:
        while True:
            with self._state:
                self._state.wait_for(self._has_room)
                assert self._next is not None
                name, self._next = self._next, None
                content: Future[BinaryIO] = Future()
                self._fetched[name] = _Fetched(content, self._size(name), self._taken)
            try:
                content.set_result(self._fetch(name))
            except Exception as error:
                # For the one who takes it.
                content.set_exception(error)

    def _has_room(self) -> bool:
        """Whether there is a next file, and room for it; it is in `_next` then."""
        while self._next is None and self._wanted:
            self._next = next(self._wanted[0], None)
            if self._next is None:
                self._wanted.popleft()
            elif self._next in self._passed:
                self._passed.remove(self._next)
                self._next = None
            elif self._next in self._fetched:
                self._next = None
        if self._next is None:
            self._passed.clear()
            return False
        ahead = sum(fetched.size for fetched in self._fetched.values())
        full = ahead + self._size(self._next) > MOST_BYTES or len(self._fetched) >= MOST_FILES
        return not self._fetched or not full


def _close(content: Future[BinaryIO]) -> None:
    if content.exception() is None:
        content.result().close()
