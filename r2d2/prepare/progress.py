"""Progress: what is being done, told to whoever shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol


class Progress(Protocol):
    """Listens to the steps of a preparation."""

    def begin(self, step: str, total: int | None) -> None:
        """A step begins: what it does, and how many bytes it will be about (None: unknown)."""

    def announce(self, total: int | None) -> None:
        """The total of the step is known now."""

    def advance(self, amount: int) -> None:
        """So many bytes more are done; negative where something has to be done again."""

    def end(self) -> None:
        """The step ends."""


@dataclass(frozen=True)
class Silence:
    """Listens and says nothing."""

    def begin(self, step: str, total: int | None) -> None:
        """Nothing."""

    def announce(self, total: int | None) -> None:
        """Nothing."""

    def advance(self, amount: int) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


@contextmanager
def step(progress: Progress, name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """One step, from its beginning to its end; gives the function that advances it."""
    progress.begin(name, total)
    try:
        yield progress.advance
    finally:
        progress.end()
