"""Looks for everything that a training was made of, before anything is trained again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from evaluation.benchmarks.hpatches import open_benchmark
from r2d2.checkpoint import load_model
from r2d2.config import SCRATCH
from r2d2.data.training_data import open_training_data
from r2d2.storage.manifest import first_names
from runner.record.provenance import load_files
from runner.reproduce.differences import BENCHMARK, DATA, DIGITS, START, Difference, file_differences
from runner.reproduce.target import Target
from runner.settings import Settings
from search_spaces.sweep import HPATCHES, RELEASED


def find_inputs(target: Target, settings: Settings) -> list[Difference]:
    """Finds data, start weights and benchmarks, and compares them with what was recorded.

    Args:
        target: the training, with the places where its inputs lie now.
        settings: where objects of S3 are kept.

    Raises:
        ValueError: if something is not to be had; nothing was written then.
    """
    with _wanted(f"the data of {target}"):
        found = _data(target, settings)
    with _wanted(f"the start weights of {target}"):
        found += _start(target, settings)
    with _wanted(f"the benchmark of {target}"):
        found += _benchmark(target, settings)
    return found


@contextmanager
def _wanted(what: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError) as error:
        raise ValueError(f"{what} cannot be had: {error}") from error


def _data(target: Target, settings: Settings) -> list[Difference]:
    config = target.trial.config.data
    if target.photos is not None and config.sources:
        raise ValueError(f"it used data.sources ('{config.sources}'), not photographs that --photos can name")
    photos = config.photos if target.photos is None else target.photos
    data = open_training_data(replace(config, photos=photos), settings.objects)
    known, contents = load_files(target.sweep.store), data.training.contents | data.held_out.contents
    if known is None:
        was, now = target.sweep.definition.photos, f"{data.training.digest} {data.held_out.digest}"
        return [Difference(DATA, "digest", was, now)] if was != now else []
    if gone := sorted(known.keys() - contents.keys()):
        raise ValueError(f"of {len(known)} files {len(gone)} are gone or unusable: {first_names(gone, 3)}")
    return file_differences(known, contents)


def _start(target: Target, settings: Settings) -> list[Difference]:
    init = target.trial.config.init
    if init == SCRATCH:
        return []
    place = target.released if init == RELEASED else init
    if place is None:
        raise ValueError("R2D2_RELEASED does not say where the released network is")
    known, digest = target.sweep.definition.init.split(), load_model(place, settings.objects).digest
    was = " or ".join(one[:DIGITS] for one in known)
    return [] if digest in known else [Difference(START, place, was, digest[:DIGITS])]


def _benchmark(target: Target, settings: Settings) -> list[Difference]:
    """HPatches; the validation benchmark is made of the training data."""
    known = target.sweep.definition.benchmarks.get(HPATCHES)
    if known is None:
        return []
    if target.hpatches is None:
        raise ValueError("R2D2_HPATCHES does not say where HPatches is")
    was, now = known["digest"], open_benchmark(target.hpatches, settings.objects).digest
    return [Difference(BENCHMARK, HPATCHES, was[:DIGITS], now[:DIGITS])] if was != now else []
