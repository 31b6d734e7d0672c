"""Keeps two drivers from running one sweep, on one machine or on many.

A driver claims the next attempt's number and renews its claim every few seconds; other drivers are refused. A
claim states how long it counts. If it is not renewed for so long, by the clock of the waiting driver, it has
expired, and that driver takes over under a higher number. On the machine where the owner ran and died this
happens at once: the owner held a lock on a temporary file there, which the system releases when a process
ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from r2d2.storage.location import store_at
from r2d2.storage.store import Store
from runner.record.attempt import Attempt, Claim, latest_number, lock_file, read_claim
from runner.record.layout import ATTEMPTS
from runner.settings import LEASE_S

log = logging.getLogger(__name__)

RENEWALS = 6
# What a writer may still finish that had looked just before it was superseded.
SETTLE_S = 2.0
_LOOK_S = 0.5


class Lease:
    """A Lease is a driver's hold on a sweep.

    Attributes:
        attempt: its attempt, which all who write for it carry.
        stop_asked: whether the sweep was asked to stop, as of a moment ago.
        must_stop: whether it was, or a later attempt has taken over.
    """

    def __init__(self, attempt: Attempt, seconds: float, lock: str) -> None:
        """Starts to renew the claim.

        Args:
            attempt: was claimed by this process.
            seconds: for which a renewal counts.
            lock: name of the file on which this process holds a lock.
        """
        self.attempt = attempt
        self._seconds, self._lock = seconds, lock
        self._over = threading.Event()
        self.stop_asked = self.must_stop = False
        self._thread = threading.Thread(target=self._keep, daemon=True, name="lease")
        self._thread.start()

    def is_lost(self) -> bool:
        """Says whether a later attempt has taken over; if the store does not answer, as of the last look."""
        with contextlib.suppress(OSError):
            return not self.attempt.is_current()
        return self.must_stop and not self.stop_asked

    def is_asked_to_stop(self) -> bool:
        """Says whether the sweep was asked to stop; otherwise as `is_lost`."""
        with contextlib.suppress(OSError):
            return self.attempt.is_asked_to_stop()
        return self.stop_asked

    def close(self) -> None:
        """Releases the sweep, so that the next driver need not wait."""
        self._over.set()
        self._thread.join()
        if self.attempt.is_current():
            self._renew(ended=True)

    def _keep(self) -> None:
        renewed = time.monotonic()
        pause = min(1.0, self._seconds / RENEWALS)
        while not self._over.wait(pause):
            try:
                if not self.attempt.is_current():
                    self.must_stop = True
                    return
                self.stop_asked = self.stop_asked or self.attempt.is_asked_to_stop()
                self.must_stop = self.stop_asked
                if time.monotonic() - renewed >= self._seconds / RENEWALS:
                    self._renew()
                    renewed = time.monotonic()
            except OSError as error:
                log.warning("the lease of the sweep in %s is not renewed: %s", self.attempt.place, error)

    def _renew(self, ended: bool = False) -> None:
        claim = _own_claim(self.attempt.number, self._seconds, self._lock, ended)
        self.attempt.store.write(self.attempt.claim, claim)


@contextmanager
def hold(
    place: str | Path | Store, seconds: float = LEASE_S, say: Callable[[str], None] | None = None
) -> Iterator[Lease]:
    """Runs the block as the only driver of a sweep.

    If nothing was started, the sweep's files are removed again.

    Args:
        place: the sweep's folder, which is made if need be, or `s3://bucket/prefix`.
        seconds: for which a renewal counts.
        say: takes sentences about waiting for another driver's claim to expire.

    Raises:
        ValueError: if another driver runs the sweep.
    """
    store = store_at(place)
    with _own_lock() as lock:
        lease = Lease(_take(store, seconds, lock, say), seconds, lock)
        try:
            yield lease
        finally:
            lease.close()
            # What another driver has begun meanwhile is not ours to remove.
            if lease.attempt.is_current() and not store.files() and store.folders() == [ATTEMPTS]:
                store.delete_below("")


def stop_sweep(sweep: Store, within: float) -> tuple[bool, str]:
    """Asks the driver of a sweep, which another process is, to stop, and waits for its end.

    Args:
        sweep: where the sweep lies.
        within: seconds to wait.

    Returns:
        Whether it has stopped, and what came of it, in one sentence.

    Raises:
        ValueError: if no driver runs the sweep.
    """
    name = sweep.place.rpartition("/")[2]
    claim = read_claim(sweep)
    if claim is None or claim.is_over:
        raise ValueError(f"no driver runs the sweep '{name}'; r2d2 resume {name} starts one")
    Attempt(sweep.place, claim.number, sweep.timeout).ask_to_stop()
    until = time.monotonic() + within
    while time.monotonic() < until:
        now = read_claim(sweep)
        if now is not None and (now.number > claim.number or now.is_over):
            return True, f"The sweep '{name}' is stopped; r2d2 resume {name} continues it."
        time.sleep(_LOOK_S)
    return False, (
        f"{claim.owner} was asked to stop the sweep '{name}' and has not done so within {within:.0f} s; it "
        "ends as soon as it hears of it."
    )


def _take(store: Store, seconds: float, lock: str, say: Callable[[str], None] | None) -> Attempt:
    """Claims the next attempt as soon as the last one is over."""
    number, claim = latest_number(store), read_claim(store)
    sure = claim is None or claim.is_over
    if claim is not None and not sure:
        _wait_for_expiry(store, claim, say)
    attempt = Attempt(store.place, number + 1, store.timeout)
    own = _own_claim(attempt.number, seconds, lock)
    if not store.create(attempt.claim, own):
        raise _refusal(store, read_claim(store))
    # The second of two must be refused: a server that does not know the condition may ignore it in silence.
    if store.is_remote and store.create(attempt.claim, own + b"\n"):
        store.delete(attempt.claim)
        raise ValueError(
            f"{store.place}: the server ignores If-None-Match: two drivers could run one sweep; use a server "
            "with conditional writes"
        )
    if claim is not None and claim.lives_here() is False:
        lock_file(claim.lock).unlink(missing_ok=True)
    if not sure:
        time.sleep(SETTLE_S)
    return attempt


def _wait_for_expiry(store: Store, claim: Claim, say: Callable[[str], None] | None) -> None:
    """Watches the last claim for as long as it says.

    Clocks of machines differ, so only a change of the claim counts, timed by this machine's clock.

    Raises:
        ValueError: if it is renewed meanwhile.
    """
    timeout = claim.seconds
    if claim.lives_here():
        age = time.time() - claim.renewed
        if age < timeout / 2:
            raise _refusal(store, claim)
        timeout -= age
    if timeout > 0 and say is not None:
        say(f"{claim.owner} runs this sweep; without a sign of life it is taken over in {timeout:.0f} s")
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        time.sleep(_LOOK_S)
        now = read_claim(store)
        if now is not None and now.number == claim.number and now.is_over:
            return
        if now != claim:
            raise _refusal(store, now)


def _refusal(store: Store, claim: Claim | None) -> ValueError:
    owner = claim.owner if claim is not None else "another process"
    return ValueError(
        f"the sweep in {store.place} is being run by {owner}; wait for it, or end it with "
        f"r2d2 stop {store.place.rpartition('/')[2]}"
    )


def _own_claim(number: int, seconds: float, lock: str, ended: bool = False) -> bytes:
    claim = Claim(number, socket.gethostname(), os.getpid(), time.time(), seconds, lock, ended)
    return json.dumps(asdict(claim), indent=1).encode()


@contextmanager
def _own_lock() -> Iterator[str]:
    """Holds a lock on a new file, which is removed at the end; yields the name for `Claim.lock`."""
    name = uuid.uuid4().hex
    file = os.open(lock_file(name), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield name
    finally:
        lock_file(name).unlink(missing_ok=True)
        os.close(file)
