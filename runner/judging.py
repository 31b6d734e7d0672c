"""Judging on demand: whatever names a model, scored on a benchmark in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evaluation.evaluation import Evaluation
    from evaluation.protocols import Protocol
    from r2d2.checkpoint import Model
    from runner.settings import Settings


def find_protocol(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        ValueError: if there is none; names those there are.
    """
    from evaluation.protocols import PROTOCOLS

    if name not in PROTOCOLS:
        raise ValueError(f"unknown protocol '{name}'; known: {', '.join(sorted(PROTOCOLS))}")
    return PROTOCOLS[name]


def find_model(source: str, settings: Settings) -> Model:
    """The model that a source names, on the GPU if there is one.

    Args:
        source: a checkpoint folder, an upstream .pt file, `runs:/RUN_ID` or `models:/NAME@ALIAS`.
        settings: says which MLflow store knows runs and models.

    Raises:
        ValueError: if it names nothing, or what it names cannot be read.
    """
    import torch

    from r2d2.checkpoint import load_model

    if source.startswith(("runs:/", "models:/")):
        from runner.registry import resolve_model
        from runner.tracking import Tracker

        tracker = Tracker(settings.tracking_uri, settings.artifact_root)
        model = load_model(resolve_model(source, tracker))
    else:
        model = load_model(source)
    model.network.to("cuda" if torch.cuda.is_available() else "cpu")
    return model


def judge(
    source: str,
    benchmark: Path,
    protocol: Protocol,
    settings: Settings,
    *,
    on_image: Callable[[int, int], None] | None = None,
    examples: int = 0,
) -> Evaluation:
    """Scores what a source names on a benchmark.

    Args:
        source: see `find_model`.
        benchmark: folder in HPatches' layout.
        protocol: how it is judged.
        settings: where things are.
        on_image: called after each image with how many are done and how many there are.
        examples: how many pairs to keep with their images.

    Raises:
        ValueError: for a model or a benchmark that is not in order.
    """
    from evaluation.evaluator import evaluate
    from evaluation.hpatches import open_benchmark

    opened = open_benchmark(benchmark)
    return evaluate(find_model(source, settings), opened, protocol, on_image=on_image, examples=examples)
