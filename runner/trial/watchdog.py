"""Ends a worker that hangs, so that Ray Train notices and all workers start again."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

# Of a process that its watchdog ended.
EXIT_STATUS = 75
LOOKS_PER_LIMIT, LONGEST_PAUSE_S = 8, 5.0


class Watchdog:
    """Watches the thread that made it, while used as a context.

    If that thread is blocked (in an exchange with a worker that is gone, in a read that never ends), the
    other threads of its process still run, so one of them can end the process. If the whole process is
    stopped, Ray Train notices, since it gets no answer.
    """

    def __init__(
        self, limit: float, report: Callable[[str], None], end: Callable[[int], object] = os._exit
    ) -> None:
        """Prepares the watch.

        Args:
            limit: seconds without a sign of life; 0: nothing is watched.
            report: gets a sentence: for how long and where the thread hangs.
            end: ends the process.
        """
        self._limit, self._report, self._end = limit, report, end
        self._watched = threading.get_ident()
        self._last, self._doing = time.monotonic(), "starting"
        self._closed = threading.Event()

    def alive(self, doing: str) -> None:
        """Restarts the watchdog's clock; says what the thread does from now on."""
        self._last, self._doing = time.monotonic(), doing

    def __enter__(self) -> Watchdog:
        self.alive(self._doing)
        if self._limit:
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(min(self._limit / LOOKS_PER_LIMIT, LONGEST_PAUSE_S)):
            if time.monotonic() - self._last > self._limit:
                faulthandler.dump_traceback(file=sys.__stderr__ or sys.stderr)
                try:
                    self._report(f"no sign of life for {self._limit:g} s while {self._doing}{self._place()}")
                finally:
                    # Also if the report failed: the report's own path may be what hangs.
                    self._end(EXIT_STATUS)
                return

    def _place(self) -> str:
        """Says where the thread is: the innermost line of its own code."""
        frame = sys._current_frames().get(self._watched)
        if frame is None:
            return ""
        line = traceback.extract_stack(frame)[-1]
        return f", in {line.name} ({Path(line.filename).name}:{line.lineno})"
