"""Runs checks one after the other within a time, in a process that can be ended.

The checks run in one process, since a GPU takes seconds to begin with. It is replaced by another one when a
check takes too long, when it dies, and when a check left the GPU unusable, as some errors of CUDA do.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from time import monotonic

from bench.gpu.clock import SHOWN, wait
from bench.gpu.plan import Check
from bench.gpu.setup import Figure, Setup
from r2d2.processor.allocator import keep_memory

PATIENCE = 2.0

Say = Callable[[str, Figure], None]


class Overrun(Exception):  # noqa: N818 - it says what happened
    """Says that a check took too long."""


class Runner:
    """A Runner has a process of its own, which runs checks when it is told to."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None

    def figures(self, check: Check, limit: float) -> Iterator[Figure]:
        """Yields what a check finds; the last figure is `failed` if it did not end well.

        Raises:
            Overrun: after `limit` seconds.
        """
        pipe = self._started()
        pipe.send(check)
        end = monotonic() + limit
        while True:
            if not pipe.poll(max(0.0, end - monotonic())):
                self.close()
                raise Overrun
            try:
                figure = pipe.recv()
            except (EOFError, ConnectionError):
                self.close()
                yield {"failed": "the process ended"}
                return
            if figure is None:
                return
            yield figure
            if figure.get("unusable"):
                self.close()
                return

    def close(self) -> None:
        """Ends the process and those that it started."""
        if self._process is None or self._pipe is None:
            return
        self._pipe.close()
        # It is the first of a group of its own, unless it died before it could become that.
        with suppress(ProcessLookupError):
            os.killpg(self._process.ident or 0, signal.SIGKILL)
        self._process.kill()
        self._process.join()
        self._process = self._pipe = None

    def _started(self) -> Connection:
        if self._pipe is None:
            context = get_context("spawn")
            self._pipe, other = context.Pipe()
            self._process = context.Process(target=_serve, args=(other, self._setup))
            self._process.start()
            other.close()
        return self._pipe


@contextmanager
def runner(setup: Setup) -> Iterator[Runner]:
    """Gives a runner, whose process is ended behind it whatever happens."""
    one = Runner(setup)
    try:
        yield one
    finally:
        one.close()


def run(
    checks: Sequence[Check], setup: Setup, seconds: float, say: Say, patience: float = PATIENCE
) -> dict[str, str]:
    """Runs checks in their order, and says their figures as they come.

    A check that fails does not stop the others. One that is expected to take more time than is left is not
    begun, and one that takes much longer than expected is ended.

    Args:
        checks: by worth.
        setup: what they are told.
        seconds: for all of them together.
        say: is called with the name of a check and each of its figures.
        patience: a check is ended after so many times what it was expected to take.

    Returns:
        The names of the checks that did not end well, with `failed`, `skipped` or `ended`.
    """
    end = monotonic() + seconds
    bad: dict[str, str] = {}
    with runner(setup) as own:
        for check in checks:
            left = end - monotonic()
            if left < check.seconds:
                said = f"may take {check.seconds:.0f} s, and {max(0, left):.0f} s are left"
                say(check.name, {"skipped": said})
                bad[check.name] = "skipped"
                continue
            limit = min(left, patience * check.seconds)
            try:
                for figure in own.figures(check, limit):
                    say(check.name, figure)
                    if "failed" in figure or figure.get("good") is False:
                        bad[check.name] = "failed"
            except Overrun:
                say(check.name, {"ended": f"it was not done after {limit:.0f} s"})
                bad[check.name] = "ended"
    return bad


def _serve(pipe: Connection, setup: Setup) -> None:
    """In the process of the checks: runs those that it is told, and sends their figures, then None."""
    # What the checks start is ended with this process.
    os.setsid()
    keep_memory()
    with suppress(EOFError, ConnectionError):
        while True:
            _send_figures(pipe.recv(), pipe, setup)
            pipe.send(None)


def _caught(figures: Iterator[Figure]) -> Iterator[Figure]:
    """The figures, and if making them fails, as the last one why."""
    try:
        yield from figures
    except Exception:  # Whatever it is, the other checks still run.
        yield {"failed": traceback.format_exc()[-SHOWN:]}


def _send_figures(check: Check, pipe: Connection, setup: Setup) -> None:
    for figure in _caught(check.figures(setup)):
        pipe.send(figure)
    try:
        wait(setup.device)
    except Exception as error:  # Its errors have no common type.
        pipe.send({"failed": f"the GPU cannot be used any more: {error}"[:SHOWN], "unusable": True})
