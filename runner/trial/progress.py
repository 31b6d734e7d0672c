"""Keeps one small file per trial that says how far its epoch is: its worker writes it, the screen shows it.

Only the screen uses it: training never waits for it, and what cannot be written or read is left out. In a
folder writing and reading take microseconds; on S3 both happen in a thread, with one attempt, and less often.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from r2d2.storage.errors import StorageError
from r2d2.storage.location import open_store
from r2d2.storage.store import Store
from runner.record.layout import PROGRESS

PROGRESS_SECONDS = 2.0
REMOTE_SECONDS = 10.0


class ProgressWriter:
    """Writes the progress of a trial, in its worker."""

    def __init__(self, trial: Store) -> None:
        self._trial = trial if not trial.is_remote else open_store(trial.place, timeout=0)
        self._thread: threading.Thread | None = None
        self._next = 0.0

    def write(self, progress: Mapping[str, int]) -> None:
        """Writes down `epoch`, `step` and `steps`; called every few seconds."""
        content = json.dumps(dict(progress)).encode()
        if not self._trial.is_remote:
            self._trial.write(PROGRESS, content)
        elif time.monotonic() >= self._next and (self._thread is None or not self._thread.is_alive()):
            self._next = time.monotonic() + REMOTE_SECONDS
            self._thread = threading.Thread(target=self._send, args=(content,), daemon=True)
            self._thread.start()

    def _send(self, content: bytes) -> None:
        try:
            self._trial.write(PROGRESS, content)
        except StorageError:
            # The next one is written in a moment.
            return


class ProgressReader:
    """Reads the progress of a trial, for the sweep's screen."""

    _pool: ThreadPoolExecutor | None = None

    def __init__(self, trial: Store) -> None:
        self._trial = trial if not trial.is_remote else open_store(trial.place, timeout=0)
        self._known = 0.0
        self._asked: Future[bytes | None] | None = None
        self._next = 0.0

    def position(self) -> float:
        """Returns the epochs done, with the part of the present one; 0 if nothing is known yet."""
        if not self._trial.is_remote:
            return _position(self._trial.read(PROGRESS))
        if self._asked is not None and self._asked.done():
            if self._asked.exception() is None:
                self._known = _position(self._asked.result())
            self._asked = None
        if self._asked is None and time.monotonic() >= self._next:
            self._next = time.monotonic() + REMOTE_SECONDS
            self._asked = self._threads().submit(self._trial.read, PROGRESS)
        return self._known

    @classmethod
    def _threads(cls) -> ThreadPoolExecutor:
        """Makes the threads that all trials share."""
        if cls._pool is None:
            cls._pool = ThreadPoolExecutor(4, thread_name_prefix="r2d2-progress")
        return cls._pool


def _position(content: bytes | None) -> float:
    try:
        step = json.loads(content or b"{}")
        return float(step["epoch"] - 1 + step["step"] / max(step["steps"], 1))
    except (ValueError, KeyError, TypeError, ArithmeticError, RecursionError):
        return 0.0
