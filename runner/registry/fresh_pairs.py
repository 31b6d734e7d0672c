"""FreshPairs: validation pairs that nothing was chosen on, of the photographs that a sweep held out.

A sweep's best checkpoint was chosen by its score on the sweep's validation pairs, so that score is too high.
Before a promotion it is scored on other pairs of the same photographs: other viewpoints, other light. Other
photographs there are none that it was not trained on; `evaluation.statistics.paired` allows for the choice
on these.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from evaluation.benchmarks.hpatches import Benchmark, open_benchmark
from evaluation.benchmarks.validation import STRENGTHS, build_validation_benchmark
from evaluation.evaluation import Evaluation
from evaluation.evaluator import evaluate
from evaluation.protocols import PROTOCOLS
from r2d2.checkpoint import Model
from r2d2.config import DataConfig
from r2d2.data.photos import PhotoSet
from r2d2.data.training_data import open_training_data
from r2d2.processor.allocator import keep_memory
from r2d2.scratch import scratch_folder
from runner.benchmarks import PROTOCOL, VALIDATION
from runner.settings import Settings

# Of each photograph, in every benchmark: an illumination and a viewpoint sequence.
PAIRS_PER_PHOTO = 2 * len(STRENGTHS)
# As many as HPatches has, if two benchmarks are enough: more of a photograph cost much and say little.
WANTED_PAIRS, MAX_BENCHMARKS = 540, 2


@dataclass(frozen=True)
class FreshPairs:
    """Validation benchmarks made for one comparison.

    Attributes:
        benchmarks: the same photographs in each, by seeds of their own.
        photographs: how many.
        seed: of the first benchmark; those of the others follow.
    """

    benchmarks: tuple[Benchmark, ...]
    photographs: int
    seed: int

    @property
    def pairs(self) -> int:
        """How many pairs of images there are."""
        return sum(len(s.homographies) for b in self.benchmarks for s in b.sequences)

    def __str__(self) -> str:
        return f"{self.pairs} fresh pairs of {self.photographs} held-out photographs"

    def score(self, model: Model, on_image: Callable[[int, int], None] | None = None) -> list[Evaluation]:
        """Scores a network on each benchmark, on the GPU if there is one.

        Args:
            model: its network is moved there.
            on_image: called with how many images are done and how many there are, first with 0.
        """
        if torch.cuda.is_available():
            model.network.to("cuda")
        else:
            keep_memory()
        protocol, found, before = PROTOCOLS[PROTOCOL[VALIDATION]], list[Evaluation](), 0
        images = [sum(len(s.images) for s in benchmark.sequences) for benchmark in self.benchmarks]
        if on_image is not None:
            on_image(0, sum(images))
        for benchmark, count in zip(self.benchmarks, images, strict=True):

            def counted(done: int, _total: int, before: int = before) -> None:
                if on_image is not None and done > 0:
                    on_image(before + done, sum(images))

            found.append(evaluate(model, benchmark, protocol, on_image=counted))
            before += count
        return found


@contextmanager
def fresh_pairs(photos: PhotoSet, seed: int) -> Iterator[FreshPairs]:
    """Makes fresh pairs of photographs; they are deleted afterwards, since nothing else is scored on them.

    Raises:
        ValueError: if no photograph can be used.
    """
    count = benchmarks_for(len(photos))
    with scratch_folder() as folder:
        opened = tuple(
            open_benchmark(build_validation_benchmark(photos, folder / f"{number}", seed + number))
            for number in range(count)
        )
        yield FreshPairs(opened, len(opened[0].sequences) // 2, seed)


def benchmarks_for(photographs: int) -> int:
    """How many benchmarks are made of so many photographs."""
    return min(MAX_BENCHMARKS, math.ceil(WANTED_PAIRS / PAIRS_PER_PHOTO / max(1, photographs)))


def fresh_seed(*networks: str) -> int:
    """A seed that follows from the digests of the networks compared, in [0, 2^32).

    The same comparison has the same pairs whenever it is made: asking again is no second chance. Another one
    has others, so that no champion is the best on pairs that its challenger meets.
    """
    return int(hashlib.sha256(" ".join(networks).encode()).hexdigest()[:8], 16)


def held_out_photos(config: DataConfig, training_digest: str, settings: Settings) -> PhotoSet:
    """The photographs that a training held out.

    Args:
        config: of that training.
        training_digest: of what it was trained on, as its run says.
        settings: where things are.

    Raises:
        ValueError: if none was held out, or the photographs are gone or were changed since.
        StorageError: if a place cannot be looked at.
    """
    if config.held_out == 0:
        raise ValueError("its sweep held out no photographs (data.held_out is 0)")
    data = open_training_data(config, settings.objects)
    if data.training.digest != training_digest:
        raise ValueError(
            f"the photographs in {config.sources or config.photos} were changed since its sweep was trained: "
            "which of them it has not seen is no longer known"
        )
    return data.held_out
