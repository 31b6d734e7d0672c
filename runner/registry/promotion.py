"""PromotionJudge: says whether a checkpoint may become the champion, and why (not)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mlflow.entities.model_registry import ModelVersion

from evaluation.evaluation import Evaluation
from evaluation.metrics.pair_metrics import PAIR_METRICS, find_pair_metric
from evaluation.statistics.paired import PairedDifference, paired_difference
from r2d2.checkpoint import Checkpoint, Model, load_model, network_digest
from r2d2.collapse import collapse_warnings
from r2d2.config import SCRATCH
from r2d2.start import starting_network
from r2d2.storage.errors import StorageError
from r2d2.storage.location import absolute_place
from runner.record.command import StartedSweep
from runner.record.definition import SweepDefinition
from runner.record.ordering import USUAL
from runner.registry.fresh_pairs import FreshPairs, fresh_pairs, fresh_seed, held_out_photos
from runner.registry.resolve import resolve_model
from runner.settings import Settings
from runner.tracking.experiments import LoggedRun, Tracker
from search_spaces.sweep import RELEASED

# What `collapse_warnings` looks at, with the name of its benchmark or `train/` before it.
_SIGNS = ("repeatability_std", "mean_reliability")


@dataclass(frozen=True)
class Candidate:
    """A run's best checkpoint, and all by which it is judged.

    Attributes:
        checkpoint: what lies in `folder`.
        score: in its sweep, of the epoch that is its best.
        metric: that chose it, with its role.
        chosen_from: how many checkpoints of its sweep were scored, of which it may be the best.
        tags: of its model version.
    """

    run: LoggedRun
    epoch: int
    folder: Path
    checkpoint: Checkpoint
    score: float
    metric: str
    chosen_from: int
    tags: Mapping[str, str]


@dataclass(frozen=True)
class PromotionVerdict:
    """Whether a checkpoint may become the champion.

    Attributes:
        passed: whether it may.
        reason: half a sentence.
        tags: of the model version: what was measured.
        is_unsure: whether more photographs might show that the candidate is better.
    """

    passed: bool
    reason: str
    tags: Mapping[str, str] = field(default_factory=dict)
    is_unsure: bool = False


class PromotionJudge:
    """Compares a candidate with its own starting network and with the champion, on fresh validation pairs.

    Args:
        tracker: knows the runs and the champion.
        settings: where photographs are kept, and the released network.
        say: called with a sentence when pairs are made, and when scoring begins.
        on_source: called with the name of each network that is scored.
        on_image: called with how many of its images are done and how many there are.
    """

    def __init__(
        self,
        tracker: Tracker,
        settings: Settings,
        say: Callable[[str], None] = lambda _: None,
        on_source: Callable[[str], None] = lambda _: None,
        on_image: Callable[[int, int], None] | None = None,
    ) -> None:
        self._tracker, self._settings = tracker, settings
        self._say, self._on_source, self._on_image = say, on_source, on_image

    def __call__(self, candidate: Candidate, champion: ModelVersion | None) -> PromotionVerdict:
        """Refuses a candidate that collapsed, lies below its start, or is not shown to be better.

        The first champion need not be better than anything but its starting network.
        """
        collapsed = collapse_warnings(self._signs(candidate))
        if collapsed:
            return PromotionVerdict(False, f"collapsed: {collapsed[0]}")
        theirs = "" if champion is None else champion.tags.get("model_digest", champion.version)
        try:
            photos = held_out_photos(
                candidate.checkpoint.config.data, candidate.tags["training_digest"], self._settings
            )
            self._say(f"making fresh pairs of {len(photos)} held-out photographs")
            with fresh_pairs(photos, fresh_seed(candidate.checkpoint.digest, theirs)) as pairs:
                return self._on_fresh_pairs(candidate, champion, pairs)
        except (ValueError, StorageError) as error:
            return PromotionVerdict(False, f"cannot be compared on fresh pairs: {error}")

    def _signs(self, candidate: Candidate) -> dict[str, float]:
        """Signs of a collapse at the candidate's epoch, as its run was told them."""
        keys = [k for k in candidate.run.metrics if k.rpartition("/")[2].removeprefix("collapse_") in _SIGNS]
        histories = {key: self._tracker.metric_history(candidate.run.run_id, key) for key in keys}
        return {key: steps[candidate.epoch] for key, steps in histories.items() if candidate.epoch in steps}

    def _on_fresh_pairs(
        self, candidate: Candidate, champion: ModelVersion | None, pairs: FreshPairs
    ) -> PromotionVerdict:
        metric = fresh_metric(candidate.metric)
        others = "its starting network" if champion is None else "the champion"
        self._say(f"scoring {candidate.run.name} and {others} on {pairs}")
        mine = self._score(load_model(candidate.folder), candidate.run.name, pairs)
        collapsed = [warning for scored in mine for warning in collapse_warnings(scored.scalars())]
        if collapsed:
            return PromotionVerdict(False, f"collapsed: {collapsed[0]}")
        tags = {"fresh_score": f"{_mean(mine, metric):.4f}", "fresh_seed": f"{pairs.seed}"}
        verdicts = []
        if champion is not None:
            theirs = self._score(self._champion(champion), f"version {champion.version}", pairs)
            lead = paired_difference(mine, theirs, metric, candidate.chosen_from)
            verdicts.append(_against_champion(lead, candidate, champion, metric, pairs))
        if candidate.epoch and all(verdict.passed for verdict in verdicts):
            start = self._score(self._start(candidate), "its starting network", pairs)
            lead = paired_difference(mine, start, metric, candidate.chosen_from)
            verdicts.append(_against_start(lead, metric, pairs))
        first = PromotionVerdict(True, "there was no champion yet")
        chosen = next((v for v in verdicts if not v.passed), verdicts[0] if verdicts else first)
        return replace(chosen, tags=tags)

    def _score(self, model: Model, name: str, pairs: FreshPairs) -> list[Evaluation]:
        self._on_source(name)
        return pairs.score(model, self._on_image)

    def _champion(self, champion: ModelVersion) -> Model:
        return load_model(resolve_model(f"models:/{champion.name}/{champion.version}", self._tracker))

    def _start(self, candidate: Candidate) -> Model:
        """The network that the candidate was trained from.

        Raises:
            ValueError: if it is not known where it is, or another one is there now.
        """
        config, sweep = candidate.checkpoint.config, candidate.run.tags.get("sweep", "")
        place = SCRATCH if config.init == SCRATCH else self._place_of(config.init, sweep)
        network = starting_network(config, place, self._settings.objects)
        digest = network_digest(network)
        definition = SweepDefinition.load(self._settings.sweep(sweep))
        if config.init != SCRATCH and definition is not None and digest not in definition.init.split():
            raise ValueError(f"{place} is another network than its sweep started from")
        return Model(network.eval(), "start", digest, config, 0)

    def _place_of(self, init: str, sweep: str) -> str:
        if init != RELEASED:
            return absolute_place(init)
        started = StartedSweep.load(self._settings.sweep(sweep))
        place = self._settings.released or (started.released if started is not None else None)
        if place is None:
            raise ValueError("its training started from the released network: say where it is, R2D2_RELEASED")
        return place


def fresh_metric(metric: str) -> str:
    """What fresh pairs are compared by: the metric that chose, or MMA@3 if that one is none of pairs."""
    name = metric.rpartition("/")[2]
    return name if name in PAIR_METRICS else USUAL


def _against_champion(
    lead: PairedDifference, candidate: Candidate, champion: ModelVersion, metric: str, pairs: FreshPairs
) -> PromotionVerdict:
    where = _where(lead, metric, pairs)
    if candidate.tags["training_digest"] != champion.tags.get("training_digest"):
        where += f"; version {champion.version} was trained on other data, perhaps on these photographs too"
    if lead.is_shown:
        return PromotionVerdict(True, f"better than version {champion.version}: {lead} ({where})")
    against = f"not shown to be better: {lead} against version {champion.version} ({where})"
    return PromotionVerdict(False, against, is_unsure=lead.estimate > 0)


def _against_start(lead: PairedDifference, metric: str, pairs: FreshPairs) -> PromotionVerdict:
    where = _where(lead, metric, pairs)
    if lead.estimate <= 0:
        return PromotionVerdict(False, f"not above its own starting network: {lead} ({where})")
    shown = "above" if lead.is_shown else "above (though this is not shown)"
    return PromotionVerdict(
        True, f"there was no champion yet, and it is {shown} its own starting network: {lead} ({where})"
    )


def _where(lead: PairedDifference, metric: str, pairs: FreshPairs) -> str:
    chosen = f", allowing for the choice among {lead.chosen_from}" if lead.chosen_from > 1 else ""
    sign = ", smaller is better" if find_pair_metric(metric).smaller_is_better else ""
    return f"{metric}{sign}, 95 % interval on {pairs}{chosen}"


def _mean(scored: list[Evaluation], metric: str) -> float:
    numbers = [find_pair_metric(metric).of(evaluation.pairs).mean() for evaluation in scored]
    return float(math.fsum(numbers) / len(numbers))
