"""Attempt: one driver's turn at a sweep, by number. The highest number counts; the others stop writing.

Numbers are claimed by making a file that must not exist yet, which needs no file locks, on NFS or S3 neither.
Everybody who writes into the sweep carries the attempt and looks first whether a later one was claimed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from r2d2.storage.depot import Depot, open_depot

ATTEMPTS = "attempts"
_NAME = re.compile(r"(\d+)\.json")


class SupersededError(ValueError):
    """A later attempt has taken the sweep over: whoever hears this writes nothing more."""


class HaltedError(ValueError):
    """The sweep was asked to stop: the trial ends where it is and keeps its last checkpoint."""


@dataclass(frozen=True)
class Attempt:
    """One driver's turn; a plain value that travels to workers.

    Attributes:
        place: the sweep's folder, or `s3://bucket/prefix`.
        number: from 1.
    """

    place: str
    number: int

    @property
    def depot(self) -> Depot:
        """Where the sweep is."""
        return open_depot(self.place)

    @property
    def claim(self) -> str:
        """Name of the file that claims the number and is renewed while its driver lives."""
        return _claim(self.number)

    def is_current(self) -> bool:
        """Whether no later attempt has taken over. Numbers have no gaps: one look suffices."""
        return self.depot.read(_claim(self.number + 1)) is None

    def ask_to_stop(self) -> None:
        """Asks this attempt, and no later one, to stop."""
        self.depot.write(_stop(self.number), b"{}")

    def is_asked_to_stop(self) -> bool:
        """Whether it was asked to."""
        return self.depot.read(_stop(self.number)) is not None

    def require_current(self) -> None:
        """Looks before something is written.

        Raises:
            SupersededError: if a later attempt has taken over.
        """
        if not self.is_current():
            raise SupersededError(
                f"attempt {self.number} at the sweep in {self.place} was taken over by attempt "
                f"{latest_number(self.depot)}; this one stops writing"
            )

    def require_going(self) -> None:
        """Looks, from within a training, whether to go on.

        Raises:
            SupersededError: if a later attempt has taken over.
            HaltedError: if the sweep was asked to stop.
        """
        self.require_current()
        if self.is_asked_to_stop():
            raise HaltedError(f"the sweep in {self.place} was asked to stop")


def latest_number(depot: Depot) -> int:
    """The number of the last attempt at the sweep that is kept there; 0 without any."""
    names = (_NAME.fullmatch(kept.name.rpartition("/")[2]) for kept in depot.files(ATTEMPTS))
    return max((int(name[1]) for name in names if name), default=0)


def _claim(number: int) -> str:
    return f"{ATTEMPTS}/{number:06d}.json"


def _stop(number: int) -> str:
    return f"{ATTEMPTS}/{number:06d}.stop"
