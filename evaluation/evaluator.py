"""Scores a model on a benchmark."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import numpy as np

from evaluation.benchmarks.hpatches import Benchmark, Homography, Sequence
from evaluation.evaluation import Evaluation, PairScore, Timings
from evaluation.metrics.matching import IndexPairs, mutual_nearest_neighbours
from evaluation.metrics.mma import matching_errors
from evaluation.metrics.pair_metrics import score_pair
from evaluation.pictures.examples import MatchExample
from evaluation.predictions.images import ImageStore, resized
from evaluation.predictions.predictors import NetworkPredictor, Prediction, Predictor
from evaluation.protocols import PROTOCOLS, Protocol
from r2d2.checkpoint import Model
from r2d2.collapse import CollapseSigns
from r2d2.containers import Keypoints
from r2d2.geometry import invert, resize_homography

__all__ = ["PROTOCOLS", "Evaluation", "Protocol", "evaluate"]

# Of five pairs of growing difficulty the middle one tells most.
EXAMPLE_IMAGE = 4

# Signs of collapse are looked for in the first image of as many sequences.
COLLAPSE_SEQUENCES = 4


# Folders that are no sequences and are named.
_NAMED = 5


def evaluate(
    model: Model | Predictor,
    benchmark: Benchmark,
    protocol: Protocol,
    *,
    on_image: Callable[[int, int], None] | None = None,
    examples: int = 0,
    images: ImageStore | None = None,
) -> Evaluation:
    """Scores a model on every pair of a benchmark, on the device where its network is.

    Args:
        model: the network, or what else gives the keypoints of this benchmark's images.
        benchmark: what it is scored on.
        protocol: how.
        on_image: called at the start and after each image with how many are done and how many there are.
        examples: how many pairs to keep with their images, at most one per sequence, spread evenly.
        images: keeps decoded images from one call to the next.

    Raises:
        ValueError: names the file if an image of the benchmark or its keypoints cannot be used.
    """
    images = ImageStore(max_bytes=0) if images is None else images
    predictor = NetworkPredictor(model, images) if isinstance(model, Model) else model
    run = _Run(predictor, protocol, images)
    chosen = _evenly(examples, len(benchmark.sequences))
    total = sum(len(sequence.images) for sequence in benchmark.sequences)
    done = 0
    if on_image is not None:
        on_image(done, total)
    for index, sequence in enumerate(benchmark.sequences):
        predictions = []
        for path in sequence.images:
            predictions.append(run.predict(path))
            done += 1
            if on_image is not None:
                on_image(done, total)
        for image in range(2, len(sequence.images) + 1):
            run.score(sequence, image, predictions, keep=index in chosen and image == EXAMPLE_IMAGE)
    return Evaluation(
        model=predictor.name,
        model_digest=predictor.digest,
        protocol=protocol,
        benchmark=benchmark.name,
        benchmark_digest=benchmark.digest,
        pairs=tuple(run.pairs),
        timings=Timings(**run.seconds, reused=run.reused),
        collapse=run.collapse(benchmark),
        arithmetic=predictor.arithmetic(protocol),
        warnings=(*_passed_over(benchmark), *predictor.notes.sentences()),
        examples=tuple(run.examples),
    )


def _passed_over(benchmark: Benchmark) -> tuple[str, ...]:
    others = benchmark.passed_over
    if not others:
        return ()
    more = ", ..." if len(others) > _NAMED else ""
    named = f"{', '.join(others[:_NAMED])}{more}"
    return (
        f"{len(others)} folders beside the {len(benchmark.sequences)} sequences are passed over: {named}",
    )


@dataclass
class _Run:
    """What one evaluation needs and what it has gathered so far."""

    predictor: Predictor
    protocol: Protocol
    images: ImageStore
    pairs: list[PairScore] = field(default_factory=list)
    examples: list[MatchExample] = field(default_factory=list)
    seconds: dict[str, float] = field(
        default_factory=lambda: {"extraction": 0.0, "matching": 0.0, "metrics": 0.0}
    )
    reused: int = 0

    def predict(self, path: Path) -> Prediction:
        """The keypoints of an image."""
        predicted = self.predictor.predict(path, self.protocol)
        self.seconds["extraction"] += predicted.seconds
        self.reused += predicted.reused
        return predicted

    def score(self, sequence: Sequence, image: int, predictions: list[Prediction], keep: bool) -> None:
        """Adds the score of the pair (1, image), and its picture's ingredients if it shall be kept."""
        homography = sequence.homographies[image - 2]
        if self.protocol.shorter_side is not None:
            homography = _between_resized(homography, predictions[0], predictions[image - 1])
        first, second = predictions[0].keypoints, predictions[image - 1].keypoints
        with self._timed("matching"):
            matches = self._match(first, second)
            errors = matching_errors(first.keypoints, second.keypoints, matches, homography)
        with self._timed("metrics"):
            self.pairs.append(
                score_pair(
                    *(sequence.name, image, (first, second), homography, matches, errors),
                    self.protocol.estimators,
                )
            )
        if keep:
            image1, image2 = (
                resized(self.images.read(sequence.images[number - 1]), self.protocol.shorter_side)
                for number in (1, image)
            )
            points1, points2 = first.keypoints[:, :2], second.keypoints[:, :2]
            parts = (image1, image2, points1, points2, matches, errors)
            self.examples.append(MatchExample(sequence.name, image, *parts))

    def collapse(self, benchmark: Benchmark) -> CollapseSigns | None:
        """Signs of collapse in the first image of a few sequences."""
        chosen = sorted(_evenly(COLLAPSE_SEQUENCES, len(benchmark.sequences)))
        return self.predictor.collapse([benchmark.sequences[index].images[0] for index in chosen])

    def _match(self, first: Keypoints, second: Keypoints) -> IndexPairs:
        # Files without keypoints do not say how long a descriptor would be.
        if not len(first) or not len(second):
            return np.empty((0, 2), dtype=np.int64)
        return mutual_nearest_neighbours(first.descriptors, second.descriptors, self.predictor.device)

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        start = perf_counter()
        yield
        self.seconds[what] += perf_counter() - start


def _between_resized(homography: Homography, first: Prediction, second: Prediction) -> Homography:
    """The homography between the resized images instead of the original ones."""
    to_first, to_second = (
        resize_homography(*one.original_size, *one.keypoints.image_size) for one in (first, second)
    )
    return to_second @ homography @ invert(to_first)


def _evenly(count: int, total: int) -> set[int]:
    """At most `count` indices below `total`, spread evenly: the middles of `count` equal parts."""
    count = min(count, total)
    return {int((index + 0.5) * total / count) for index in range(count)}
