"""Mixes several sources of pairs, each with its share of an epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from r2d2.config import DataConfig
from r2d2.containers import Pair
from r2d2.data.pairs.batch_render import PreparedPair
from r2d2.data.photos import PhotoSet
from r2d2.data.sources.photos import PhotoSource
from r2d2.data.sources.source import PairSource
from r2d2.storage.files import StoredFile

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Ingredient:
    """An Ingredient is a source and its share.

    Attributes:
        label: what it is called in the mixture, e.g. "web".
        source: the items.
        weight: how often each item comes in an epoch.
        at_most: items of an epoch before weighting; 0: all.
    """

    label: str
    source: PairSource
    weight: float = 1.0
    at_most: int = 0

    @property
    def pairs(self) -> float:
        """Returns how many pairs the source has in an epoch without a length of its own."""
        count = len(self.source)
        return self.weight * (min(count, self.at_most) if self.at_most else count)


@dataclass(frozen=True)
class Mixture:
    """A Mixture numbers the items of its sources one after the other.

    Attributes:
        ingredients: at least one.
    """

    ingredients: tuple[Ingredient, ...]

    @classmethod
    def of(cls, photos: PhotoSet) -> Mixture:
        """Makes a mixture of photographs alone."""
        return cls((Ingredient("photos", PhotoSource(photos)),))

    def __len__(self) -> int:
        return int(self._first[-1])

    @property
    def alone(self) -> bool:
        """Says whether there is one source alone, each of whose items comes once in an epoch."""
        return len(self.ingredients) == 1 and self.ingredients[0].pairs == len(self)

    @property
    def noun(self) -> str:
        """Names the items, for sentences."""
        return "photographs" if all(i.source.photos is not None for i in self.ingredients) else "items"

    @property
    def pairs(self) -> int:
        """Returns how many pairs an epoch has that has no length of its own; at least one."""
        return max(1, round(sum(ingredient.pairs for ingredient in self.ingredients)))

    @property
    def contents(self) -> dict[str, str]:
        """Returns the SHA-256 of each file by its name, with that of its source if there are several."""
        parts = [(f"{part.label}:", part.source) for part in self.ingredients]
        if len(parts) == 1:
            return parts[0][1].contents
        return {f"{label}{name}": sha for label, part in parts for name, sha in part.contents.items()}

    @cached_property
    def digest(self) -> str:
        """Returns the SHA-256 over all sources and their shares; of photographs alone, their own digest."""
        if self.alone:
            return self.ingredients[0].source.digest
        total = hashlib.sha256()
        for part in self.ingredients:
            total.update(f"{part.label} {part.source.digest} {part.weight!r} {part.at_most}\n".encode())
        return total.hexdigest()

    def counts(self, pairs: int) -> tuple[int, ...]:
        """Shares `pairs` out to the sources, rounded so that the sum is right."""
        weights = np.array([ingredient.pairs for ingredient in self.ingredients])
        exact = weights / weights.sum() * pairs
        counts = np.floor(exact + 1e-9).astype(np.int64)
        rest = np.argsort(counts - exact, kind="stable")[: pairs - counts.sum()]
        counts[rest] += 1
        return tuple(counts.tolist())

    def order(self, pairs: int, rng: Callable[..., np.random.Generator]) -> Ints:
        """Orders the items of an epoch: each source in random orders, spread evenly among the others.

        Args:
            pairs: how many items the epoch has.
            rng: gives a generator of random numbers for (cycle,) or (cycle, source).

        Returns:
            (pairs,) int64, numbers of items of the mixture; a small source's items come again in each cycle.
        """
        parts, times = [], []
        for number, count in enumerate(self.counts(pairs)):
            size = len(self.ingredients[number].source)
            cycles = range(-(-count // size))
            orders = [rng(cycle, *([number] if number else [])).permutation(size) for cycle in cycles]
            empty = np.empty(0, np.int64)
            parts.append(self._first[number] + np.concatenate([empty, *orders])[:count])
            times.append((np.arange(count) + 0.5) / max(count, 1))
        # When each of a source's pairs has its turn, the epoch lasting from 0 to 1.
        turns = np.argsort(np.concatenate(times), kind="stable")
        return np.concatenate(parts)[turns]

    def locate(self, item: int) -> tuple[Ingredient, int]:
        """Returns the source of an item, and its number there."""
        number = int(np.searchsorted(self._first, item, side="right")) - 1
        return self.ingredients[number], item - int(self._first[number])

    def range_of(self, item: int) -> range:
        """Returns the numbers of all items of the same source."""
        number = int(np.searchsorted(self._first, item, side="right")) - 1
        return range(int(self._first[number]), int(self._first[number + 1]))

    def name(self, item: int) -> str:
        """Names an item, by its source too if there are several."""
        part, index = self.locate(item)
        name = part.source.name(index)
        return name if len(self.ingredients) == 1 else f"{part.label}:{name}"

    def files(self, item: int) -> tuple[StoredFile, ...]:
        """Returns the files of an item."""
        part, index = self.locate(item)
        return part.source.files(index)

    def make(self, item: int, config: DataConfig, rng: np.random.Generator, sample: str) -> Pair:
        """Makes a pair of an item; see `PairSource.make`."""
        part, index = self.locate(item)
        return part.source.make(index, config, rng, sample)

    def prepare(
        self, item: int, config: DataConfig, rng: np.random.Generator, sample: str
    ) -> PreparedPair | Pair:
        """Prepares a pair of an item; see `PairSource.prepare`."""
        part, index = self.locate(item)
        return part.source.prepare(index, config, rng, sample)

    @cached_property
    def _first(self) -> Ints:
        """The number of each source's first item, and the number of all items."""
        return np.cumsum([0, *(len(ingredient.source) for ingredient in self.ingredients)])
