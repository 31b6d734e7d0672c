"""Finds the networks that the sources of a comparison name; a source is text that the user gives.

`NAME=SOURCE` gives a source a name; sources of the same name are networks of one variant.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evaluation.evaluation import Evaluation
from evaluation.statistics.variants import Variant
from r2d2.collapse import collapse_warnings
from r2d2.storage.location import is_remote, local_file
from r2d2.unknown import did_you_mean
from runner.compare.rows import label_trials
from runner.compare.stored import compared
from runner.models.evaluate import FEATURES, evaluate_model, find_protocol
from runner.record.layout import DEFINITION
from runner.record.sweep import StoredSweep, sweep_names
from runner.settings import Settings
from search_spaces.sweep import Trial

RUN, MODEL = "runs:/", "models:/"


@dataclass(frozen=True)
class Scoring:
    """A Scoring says how a source without stored scores is scored.

    Attributes:
        benchmark: folder in HPatches' layout, or `s3://bucket/prefix`; None: such a source is refused.
        protocol: name of the protocol.
        on_source: called with each source before it is scored.
        on_image: called at the start and after each image with how many are done and how many there are.
        examples: how many pairs to keep with their images.
    """

    benchmark: str | Path | None = None
    protocol: str = "d2net"
    on_source: Callable[[str], None] | None = None
    on_image: Callable[[int, int], None] | None = None
    examples: int = 2


@dataclass(frozen=True)
class _Source:
    """A source is its text, and the name that the user gave it (or none)."""

    text: str
    name: str

    @classmethod
    def parse(cls, text: str) -> _Source:
        name, equals, rest = text.partition("=")
        if is_remote(text):
            return cls(text, "")
        return cls(rest, name) if equals and name and not Path(text).exists() else cls(text, "")

    def named(self, network: Variant) -> Variant:
        return replace(network, name=self.name, origin=self.name) if self.name else network


def find_networks(
    texts: Sequence[str], settings: Settings, scoring: Scoring, role: str = ""
) -> list[Variant]:
    """Finds the networks that the texts name, with their scores, in the order of the texts.

    Args:
        texts: names of sweeps, `runs:/ID` of trials, files that `r2d2 evaluate --json` wrote, and what has to
            be scored: checkpoint folders and upstream `.pt` files, here or on S3, `models:/...`,
            `features:TAG`.
        settings: where things are.
        scoring: how to score the latter.
        role: the benchmark of sweeps and runs; empty: that by which the first sweep is decided.

    Raises:
        ValueError: for a text that names nothing, or what needs a benchmark without one.
    """
    sources = [_Source.parse(text) for text in texts]
    stored = {source: found for source in sources if (found := _stored(source, settings)) is not None}
    trials = [trial for _, of_source in stored.values() for trial in of_source]
    labels = label_trials(trials)
    networks: list[Variant] = []
    for source in sources:
        if source in stored:
            sweep, chosen = stored[source]
            role = role or sweep.definition.role
            of_sweep, _ = compared(sweep, role, chosen, labels)
            networks += [source.named(network) for network in of_sweep if network.evaluations]
        else:
            networks.append(source.named(_scored(source.text, settings, scoring)))
    if not networks:
        raise ValueError(f"nothing in {', '.join(texts)} is scored on '{role}' yet")
    return told_apart(networks)


def told_apart(networks: Sequence[Variant]) -> list[Variant]:
    """Leaves out repeated networks; adds the origin to the names of variants that agree in name only.

    Two sweeps may have trained the same seed of the same variant on other photographs or by other code. Such
    networks agree in name only and must not share a row.

    Args:
        networks: a variant of one network each.
    """
    unique: dict[tuple[str, str], Variant] = {}
    for network in networks:
        unique.setdefault((network.name, network.evaluations[0].model_digest), network)
    kept = list(unique.values())
    seeds = Counter((one.name, one.seeds) for one in kept if one.seeds is not None)
    origins = Counter(name for name, _ in {(one.name, one.origin) for one in kept if one.seeds is None})
    clashes = {name for (name, _), times in seeds.items() if times > 1}
    clashes |= {name for name, times in origins.items() if times > 1}
    return [replace(one, name=f"{one.name} [{one.origin}]") if one.name in clashes else one for one in kept]


def is_sweep(text: str, settings: Settings) -> bool:
    """Says whether a text is the name of a sweep on this machine."""
    return "/" not in text and text != "" and settings.sweep(text).read(DEFINITION) is not None


def _stored(source: _Source, settings: Settings) -> tuple[StoredSweep, list[Trial]] | None:
    """Returns the trials of a sweep, or of a run whose sweep is on this machine; None for another source."""
    if is_sweep(source.text, settings):
        if source.name:
            raise ValueError(f"'{source.text}' is a sweep: its rows have names of their own")
        sweep = StoredSweep(settings.sweep(source.text))
        return sweep, sweep.trials()
    if not source.text.startswith(RUN) or "/" in source.text.removeprefix(RUN):
        return None
    from runner.tracking.experiments import Tracker

    tracker = Tracker.of(settings)
    run = tracker.get_run(source.text.removeprefix(RUN))
    name = run.tags.get("sweep", "")
    if not is_sweep(name, settings):
        return None
    sweep = StoredSweep(settings.sweep(name))
    chosen = [trial for trial in sweep.trials() if trial.key == run.key]
    if not chosen:
        raise ValueError(f"{source.text} is '{run.name}' of the sweep '{sweep.name}', which is no trial")
    return sweep, chosen


def _scored(text: str, settings: Settings, scoring: Scoring) -> Variant:
    """Reads the network of a JSON file, or scores the source now."""
    if text.endswith(".json"):
        evaluation = _read_json(local_file(text, settings.objects))
    elif text.startswith((RUN, MODEL, FEATURES)) or is_remote(text) or Path(text).exists():
        evaluation = _score(text, settings, scoring)
    else:
        known = sweep_names(settings.sweeps)
        raise ValueError(
            f"there is no sweep '{text}' in {settings.sweeps.place} (known: {', '.join(known) or 'none'}), "
            f"and no file or folder of that name; others are {RUN}ID, {MODEL}NAME@ALIAS, {FEATURES}TAG"
            f"{did_you_mean(text, known)}"
        )
    warnings = tuple(collapse_warnings(evaluation.scalars()))
    collapsed = bool(warnings)
    return Variant(
        evaluation.model, (evaluation,), None, (), False, collapsed, warnings, ({},), ({},), origin=text
    )


def _read_json(path: Path) -> Evaluation:
    try:
        return Evaluation.from_json(json.loads(path.read_text()))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is no file that `r2d2 evaluate --json` wrote: {error}") from error


def _score(text: str, settings: Settings, scoring: Scoring) -> Evaluation:
    if scoring.benchmark is None:
        raise ValueError(f"'{text}' has no stored scores: give --benchmark DIR to score it on")
    if scoring.on_source is not None:
        scoring.on_source(text)
    protocol = find_protocol(scoring.protocol)
    return evaluate_model(
        text, scoring.benchmark, protocol, settings, on_image=scoring.on_image, examples=scoring.examples
    )
