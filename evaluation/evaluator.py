"""The judge: a model in, its scores on a benchmark out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
import numpy.typing as npt

from evaluation.collapse import CollapseSigns, collapse_signs
from evaluation.evaluation import Evaluation, PairScore, Timings
from evaluation.examples import MatchExample
from evaluation.hpatches import Benchmark, Sequence
from evaluation.images import ImageStore
from evaluation.matching import Matches, mutual_nearest_neighbours
from evaluation.mma import matching_errors, mma
from evaluation.protocols import PROTOCOLS, Protocol
from r2d2.checkpoint import Model
from r2d2.containers import Keypoints
from r2d2.data.images import normalise
from r2d2.keypoints import extract_keypoints

__all__ = ["PROTOCOLS", "Evaluation", "Protocol", "evaluate"]

# Of five pairs of growing difficulty the middle one tells most.
EXAMPLE_IMAGE = 4

# Signs of collapse are looked for in the first image of as many sequences.
COLLAPSE_SEQUENCES = 4


def evaluate(
    model: Model,
    benchmark: Benchmark,
    protocol: Protocol,
    *,
    on_image: Callable[[int, int], None] | None = None,
    examples: int = 0,
    images: ImageStore | None = None,
) -> Evaluation:
    """Scores a model on every pair of a benchmark, on the device where its network is.

    Args:
        model: the network.
        benchmark: what it is judged on.
        protocol: how.
        on_image: called after each image with how many are done and how many there are.
        examples: how many pairs to keep with their images, at most one per sequence, spread evenly.
        images: keeps decoded images from one call to the next.

    Raises:
        ImageRefused: if an image of the benchmark cannot be used.
    """
    run = _Run(model, protocol, ImageStore(max_bytes=0) if images is None else images)
    chosen = _evenly(examples, len(benchmark.sequences))
    total = sum(len(sequence.images) for sequence in benchmark.sequences)
    done = 0
    for index, sequence in enumerate(benchmark.sequences):
        keypoints = []
        for number in range(1, len(sequence.images) + 1):
            keypoints.append(run.extract(sequence, number))
            done += 1
            if on_image is not None:
                on_image(done, total)
        for image in range(2, len(sequence.images) + 1):
            run.score(sequence, image, keypoints, keep=index in chosen and image == EXAMPLE_IMAGE)
    return Evaluation(
        model=model.name,
        model_digest=model.digest,
        protocol=protocol,
        benchmark=benchmark.name,
        benchmark_digest=benchmark.digest,
        pairs=tuple(run.pairs),
        timings=Timings(**run.seconds),
        collapse=run.collapse(benchmark),
        examples=tuple(run.examples),
    )


@dataclass
class _Run:
    """What one evaluation needs and what it has gathered so far."""

    model: Model
    protocol: Protocol
    images: ImageStore
    pairs: list[PairScore] = field(default_factory=list)
    examples: list[MatchExample] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"extraction": 0.0, "matching": 0.0})

    def extract(self, sequence: Sequence, number: int) -> Keypoints:
        """The keypoints of image `number` (from 1)."""
        image = normalise(self.images.read(sequence.images[number - 1]))
        with self._timed("extraction"):
            return extract_keypoints(self.model.network, image, self.protocol.extraction)

    def score(self, sequence: Sequence, image: int, keypoints: list[Keypoints], keep: bool) -> None:
        """Adds the score of the pair (1, image), and its picture's ingredients if it shall be kept."""
        first, second = keypoints[0], keypoints[image - 1]
        with self._timed("matching"):
            device = next(self.model.network.parameters()).device
            matches = mutual_nearest_neighbours(first.descriptors, second.descriptors, device)
            homography = sequence.homographies[image - 2]
            errors = matching_errors(first.keypoints, second.keypoints, matches, homography)
            shares = tuple(mma(errors).tolist())
        self.pairs.append(
            PairScore(sequence.name, sequence.split, image, len(first), len(second), len(matches), shares)
        )
        if keep:
            self.examples.append(self._example(sequence, image, keypoints, matches, errors))

    def collapse(self, benchmark: Benchmark) -> CollapseSigns:
        """Signs of collapse in the first image of a few sequences."""
        chosen = sorted(_evenly(COLLAPSE_SEQUENCES, len(benchmark.sequences)))
        looked_at = (self.images.read(benchmark.sequences[index].images[0]) for index in chosen)
        return collapse_signs(self.model.network, looked_at)

    def _example(
        self,
        sequence: Sequence,
        image: int,
        keypoints: list[Keypoints],
        matches: Matches,
        errors: npt.NDArray[np.float64],
    ) -> MatchExample:
        return MatchExample(
            sequence=sequence.name,
            image=image,
            image1=self.images.read(sequence.images[0]),
            image2=self.images.read(sequence.images[image - 1]),
            keypoints1=keypoints[0].keypoints[:, :2],
            keypoints2=keypoints[image - 1].keypoints[:, :2],
            matches=matches,
            errors=errors,
        )

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        start = perf_counter()
        yield
        self.seconds[what] += perf_counter() - start


def _evenly(count: int, total: int) -> set[int]:
    """At most `count` indices below `total`, spread evenly: the middles of `count` equal parts."""
    count = min(count, total)
    return {int((index + 0.5) * total / count) for index in range(count)}
