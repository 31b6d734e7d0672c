"""Scores a model on a benchmark on demand, in this process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from r2d2.unknown import unknown
from runner.record.looks import Ledger

if TYPE_CHECKING:
    from evaluation.benchmarks.hpatches import Benchmark
    from evaluation.evaluation import Evaluation
    from evaluation.predictions.predictors import Predictor
    from evaluation.protocols import Protocol
    from r2d2.checkpoint import Model
    from runner.settings import Settings

log = logging.getLogger(__name__)

# Before the tag of features made elsewhere, where a network could be named.
FEATURES = "features:"


def find_protocol(name: str) -> Protocol:
    """Finds the protocol of that name.

    Raises:
        ValueError: if there is none; names those there are.
    """
    from evaluation.protocols import PROTOCOLS

    if name not in PROTOCOLS:
        raise ValueError(unknown("protocol", name, sorted(PROTOCOLS)))
    return PROTOCOLS[name]


def find_model(source: str, settings: Settings) -> Model:
    """Loads the model that a source names, on the GPU if there is one; without one, freed memory is kept.

    Args:
        source: a checkpoint folder or an upstream .pt file, here or on S3, `runs:/RUN_ID` or
            `models:/NAME@ALIAS`.
        settings: says which MLflow store knows runs and models.

    Raises:
        ValueError: if it names nothing, or what it names cannot be read.
    """
    import torch

    from r2d2.checkpoint import load_model
    from r2d2.processor.allocator import keep_memory

    if source.startswith(FEATURES):
        raise ValueError(f"'{source}' names files of features; a network is needed here")
    if source.startswith(("runs:/", "models:/")):
        from runner.registry.package import resolve_model
        from runner.tracking.experiments import Tracker

        tracker = Tracker.of(settings)
        model = replace(load_model(resolve_model(source, tracker)), name=source)
    else:
        model = load_model(source, settings.objects)
    if torch.cuda.is_available():
        model.network.to("cuda")
    else:
        keep_memory()
    return model


def find_predictor(source: str, benchmark: Benchmark, settings: Settings, *, cache: bool = True) -> Predictor:
    """Finds the predictor of a source for the images of a benchmark.

    Args:
        source: see `find_model`; or `features:TAG`, files `<image>.TAG` beside the benchmark's images.
        benchmark: whose images are asked for.
        settings: where predictions are stored.
        cache: whether they are.

    Raises:
        ValueError: as `find_model`, or if an image has no features.
    """
    from evaluation.predictions.images import ImageStore
    from evaluation.predictions.predictors import FeaturePredictor, NetworkPredictor, StoredPredictor
    from evaluation.predictions.store import GIB, PredictionStore

    if source.startswith(FEATURES):
        return FeaturePredictor(benchmark, source.removeprefix(FEATURES))
    predictor = NetworkPredictor(find_model(source, settings), ImageStore(max_bytes=0))
    if not cache:
        return predictor
    store = PredictionStore(settings.cache / "predictions", int(settings.cache_gib * GIB))
    return StoredPredictor(predictor, benchmark, store)


def evaluate_model(
    source: str,
    benchmark: str | Path,
    protocol: Protocol,
    settings: Settings,
    *,
    on_image: Callable[[int, int], None] | None = None,
    examples: int = 0,
    cache: bool = True,
) -> Evaluation:
    """Scores the model or the features that a source names on a benchmark.

    The look at the benchmark is written down, see `runner.record.looks`.

    Predictions are stored, so that another protocol with the same extraction, or another metric, extracts
    nothing again. The evaluators of a sweep (`evaluation.actor`) store none: every checkpoint is scored once,
    and its predictions would push reusable ones out of the store.

    Args:
        source: see `find_predictor`.
        benchmark: folder in HPatches' layout, or `s3://bucket/prefix`.
        protocol: how it is scored.
        settings: where things are.
        on_image: called at the start and after each image with how many are done and how many there are.
        examples: how many pairs to keep with their images.
        cache: whether predictions are stored and looked for.

    Raises:
        ValueError: for a model or a benchmark that is not in order.
    """
    from evaluation.benchmarks.hpatches import open_benchmark
    from evaluation.evaluator import evaluate

    opened = open_benchmark(benchmark, settings.objects)
    predictor = find_predictor(source, opened, settings, cache=cache)
    evaluation = evaluate(predictor, opened, protocol, on_image=on_image, examples=examples)
    try:
        Ledger.of_home(settings.home, settings.s3_timeout).look(evaluation.to_json())
    except OSError as error:
        # The score has been waited for.
        log.warning("this look at %s could not be written down: %s", evaluation.benchmark, error)
    return evaluation
