"""Times works in turn, so that whatever else the machine does affects all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter


@dataclass(frozen=True)
class Ratio:
    """A Ratio is a figure of the table.

    Attributes:
        name: what was compared with what.
        ratio: of the two times.
        limit: the largest ratio that is good enough; None if none was set.
    """

    name: str
    ratio: float
    limit: float | None

    @property
    def is_good(self) -> bool:
        """Says whether it is within its limit, if it has one."""
        return self.limit is None or self.ratio <= self.limit


def best_times(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Returns the shortest time of each work in seconds, after one round that does not count."""
    best = dict.fromkeys(works, float("inf"))
    for number in range(rounds + 1):
        for name, work in works.items():
            start = perf_counter()
            work()
            elapsed = perf_counter() - start
            if number > 0:
                best[name] = min(best[name], elapsed)
    return best
