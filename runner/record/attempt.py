"""Defines Attempt: one driver's run of a sweep, by number. Only the highest number may write.

A driver claims a number by creating a file that must not exist yet; this needs no file locks and works on NFS
and S3. Every process that writes into the sweep knows its attempt, and checks first that no later one was
claimed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import tempfile
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

from r2d2.formats.stored_json import parse_json, typed
from r2d2.storage.location import open_store, store_at
from r2d2.storage.s3 import TIMEOUT
from r2d2.storage.store import Store
from runner.record.layout import ATTEMPTS, attempt_of, claim_name, stop_name

# A training learns within so many seconds what became of its attempt.
WATCH_S = 1.0
_LOCK_NAME = re.compile(r"[0-9a-f]{32}")


class SupersededError(ValueError):
    """Says that a later attempt has taken the sweep over: its receiver writes nothing more."""


class HaltedError(ValueError):
    """Says that the sweep was asked to stop: the trial ends and keeps its last checkpoint."""


@dataclass(frozen=True)
class Attempt:
    """An Attempt is one driver's run of a sweep; a plain value that travels to workers.

    Attributes:
        place: the sweep's folder, or `s3://bucket/prefix`.
        number: from 1.
        timeout: seconds that a request to S3 is tried again for.
    """

    place: str
    number: int
    timeout: float = TIMEOUT

    @property
    def store(self) -> Store:
        """Opens the place of the sweep."""
        return open_store(self.place, self.timeout)

    @property
    def claim(self) -> str:
        """Names the file that claims the number and is renewed while its driver lives."""
        return claim_name(self.number)

    def is_current(self) -> bool:
        """Says whether no later attempt has taken over. Numbers have no gaps: one look suffices."""
        return self.store.read(claim_name(self.number + 1)) is None

    def ask_to_stop(self) -> None:
        """Asks this attempt to stop; later attempts are not affected."""
        self.store.write(stop_name(self.number), b"{}")

    def is_asked_to_stop(self) -> bool:
        """Says whether this attempt was asked to stop."""
        return self.store.read(stop_name(self.number)) is not None

    def require_current(self) -> None:
        """Checks, before something is written, that no later attempt has taken over.

        Raises:
            SupersededError: if a later attempt has taken over.
        """
        if not self.is_current():
            raise SupersededError(
                f"attempt {self.number} at the sweep in {self.place} was taken over by attempt "
                f"{latest_number(self.store)}; this one stops writing"
            )


@dataclass(frozen=True)
class Claim:
    """A Claim is the content of an attempt's file.

    Attributes:
        number: of the attempt.
        host: of its driver, for people.
        pid: of its driver.
        renewed: seconds since 1970 by the owner's clock.
        seconds: how long a renewal counts.
        lock: name of the file on which the driver holds a lock.
        ended: whether the driver has released the sweep.
    """

    number: int
    host: str
    pid: int
    renewed: float
    seconds: float
    lock: str
    ended: bool = False

    @property
    def owner(self) -> str:
        """Describes the driver in words."""
        return f"process {self.pid} on {self.host}"

    @property
    def is_over(self) -> bool:
        """Says whether its driver has released the sweep, or is known to be dead."""
        return self.ended or self.lives_here() is False

    def lives_here(self) -> bool | None:
        """Says whether its driver lives; None if it may run on another machine."""
        if not _LOCK_NAME.fullmatch(self.lock):
            return None
        try:
            file = os.open(lock_file(self.lock), os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            # Others may look at the same time: they share the lock that a dead driver has left.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(file)
        return False


def read_claim(place: str | Path | Store) -> Claim | None:
    """Reads the claim of the last attempt at the sweep in a place; None without any."""
    store = store_at(place)
    claim = Attempt(store.place, latest_number(store)).claim
    advice = f"if no driver runs the sweep, delete {store.place}/{ATTEMPTS}"
    content = store.read(claim)
    build = partial(typed, Claim)
    return None if content is None else parse_json(content, f"{store.place}/{claim}", build, advice)


class AttemptWatch:
    """Watches an attempt in a thread, so that a training never waits for S3.

    Attributes:
        superseded: whether a later attempt had taken over, as of a moment ago.
        stop_asked: whether it was asked to stop.
    """

    def __init__(self, attempt: Attempt | None) -> None:
        """Prepares the watch.

        Args:
            attempt: the one to watch; None: no thread is started.
        """
        self._attempt = attempt
        self._over = threading.Event()
        self.superseded = self.stop_asked = False

    def __enter__(self) -> Self:
        """Starts the thread."""
        if self._attempt is not None:
            threading.Thread(target=self._keep, args=(self._attempt,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the thread."""
        self._over.set()

    def _keep(self, attempt: Attempt) -> None:
        while not self._over.wait(WATCH_S):
            # What cannot be looked at now is looked at again; writing looks for itself.
            with contextlib.suppress(OSError):
                self.superseded = not attempt.is_current()
                self.stop_asked = attempt.is_asked_to_stop()


def latest_number(store: Store) -> int:
    """Returns the number of the last attempt at the sweep that is stored there; 0 without any."""
    return max((attempt_of(kept.name) or 0 for kept in store.files(ATTEMPTS)), default=0)


def lock_file(name: str) -> Path:
    """Returns the lock file of a claim; a driver on this machine holds a lock on it while it lives."""
    return Path(tempfile.gettempdir(), f"r2d2-lease-{name}")
