"""Decides whether a checkpoint may become the champion, and says why (not).

A sweep's best checkpoint was chosen by its score on the sweep's validation pairs, so that score is too high.
Before a promotion the checkpoint is scored on fresh pairs, with other viewpoints and other light, of the
photographs that the sweep held out. There are no other photographs that it was not trained on;
`evaluation.statistics.paired` allows for the choice on these.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from mlflow.entities.model_registry import ModelVersion

from evaluation.benchmarks.hpatches import Benchmark, open_benchmark
from evaluation.benchmarks.validation import STRENGTHS, build_validation_benchmark
from evaluation.evaluation import Evaluation
from evaluation.evaluator import evaluate
from evaluation.metrics.pair_metrics import PAIR_METRICS, find_pair_metric, numbers_of, ranked
from evaluation.protocols import PROTOCOLS
from evaluation.statistics.paired import PairedDifference, paired_difference
from r2d2.checkpoint import Model, load_model, network_digest
from r2d2.collapse import TELLING, collapse_warnings
from r2d2.config import SCRATCH, DataConfig
from r2d2.data.photos import PhotoSet
from r2d2.data.training_data import open_training_data
from r2d2.processor.allocator import keep_memory
from r2d2.start import starting_network
from r2d2.storage.errors import StorageError
from r2d2.storage.location import absolute_place
from r2d2.storage.scratch import scratch_folder
from runner.benchmarks import PROTOCOL
from runner.record.command import StartedSweep
from runner.record.definition import SweepDefinition
from runner.registry.package import resolve_model
from runner.registry.promote import Candidate, PromotionVerdict
from runner.settings import Settings
from runner.tracking.experiments import Tracker
from search_spaces.sweep import RELEASED, VALIDATION

# Of each photograph, in every benchmark: an illumination and a viewpoint sequence.
PAIRS_PER_PHOTO = 2 * len(STRENGTHS)
# As many as HPatches has, if two benchmarks are enough: more of a photograph cost much and say little.
WANTED_PAIRS, MAX_BENCHMARKS = 540, 2


@dataclass(frozen=True)
class FreshPairs:
    """A FreshPairs holds validation benchmarks made for one comparison.

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
        """Counts the pairs of images."""
        return sum(len(s.homographies) for b in self.benchmarks for s in b.sequences)

    def __str__(self) -> str:
        return f"{self.pairs} fresh pairs of {self.photographs} held-out photographs"

    def score(self, model: Model, on_image: Callable[[int, int], None] | None = None) -> list[Evaluation]:
        """Scores a network on each benchmark, on the GPU if there is one.

        Args:
            model: its network is moved there.
            on_image: called with how many images are done and how many there are.
        """
        if torch.cuda.is_available():
            model.network.to("cuda")
        else:
            keep_memory()
        images = [sum(len(s.images) for s in benchmark.sequences) for benchmark in self.benchmarks]
        found: list[Evaluation] = []
        for number, benchmark in enumerate(self.benchmarks):

            def counted(done: int, _: int, before: int = sum(images[:number])) -> None:
                if on_image is not None:
                    on_image(before + done, sum(images))

            found.append(evaluate(model, benchmark, PROTOCOLS[PROTOCOL[VALIDATION]], on_image=counted))
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
    """Returns how many benchmarks are made of so many photographs."""
    return min(MAX_BENCHMARKS, math.ceil(WANTED_PAIRS / PAIRS_PER_PHOTO / max(1, photographs)))


def fresh_seed(*networks: str) -> int:
    """Computes a seed in [0, 2^32) from the digests of the compared networks.

    The same comparison always has the same pairs, so repeating it gives no second chance. Other networks get
    other pairs, so that no champion was chosen on the pairs of a later comparison.
    """
    return int(hashlib.sha256(" ".join(networks).encode()).hexdigest()[:8], 16)


def held_out_photos(config: DataConfig, training_digest: str, settings: Settings) -> PhotoSet:
    """Finds the photographs that a training held out.

    Args:
        config: of that training.
        training_digest: the digest of its training data, as its run says.
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


class PromotionRule:
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
        """Returns the signs of a collapse at the candidate's epoch, as its run holds them."""
        keys = [k for k in candidate.run.metrics if k.rpartition("/")[2] in TELLING]
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
        """Loads the network that the candidate was trained from.

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
    """Returns the metric for fresh pairs: the one that chose, or MMA@3 if pairs do not have that one."""
    name = metric.rpartition("/")[2]
    return name if name in PAIR_METRICS else ranked()[0]


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
    numbers = [numbers_of(find_pair_metric(metric), evaluation.pairs).mean() for evaluation in scored]
    return float(math.fsum(numbers) / len(numbers))
