"""Has a checkpoint scored by the evaluator and writes the table into the trial's history.

Ray Train runs this in a process of its own beside the training, so it imports neither torch nor Tune.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ray

from r2d2.formats.printable import printable
from r2d2.storage.cache import CacheSettings
from r2d2.storage.location import open_store
from r2d2.storage.s3 import TIMEOUT
from r2d2.storage.store import Store
from runner.cluster.resilience import Resilience
from runner.cluster.resources import WorkerResources
from runner.record.attempt import Attempt
from runner.record.checkpoints import checkpoint_place, existing
from runner.record.history import TRAIN, History, Record, put_json
from runner.record.layout import HISTORY, beside_table, table_name
from runner.record.looks import Ledger, is_test

if TYPE_CHECKING:
    import ray.train

    from evaluation.actor import ScoredCheckpoint

# Beyond every score; finite, because Ray Train keeps it as JSON.
UNSCORED = 1e9


@dataclass(frozen=True)
class TrialContext:
    """A TrialContext holds what every trial of a sweep gets beside its configuration.

    Attributes:
        trials_folder: holds one folder per trial; or `s3://bucket/prefix`.
        evaluator: handle of the evaluator pool.
        roles: the benchmarks to score on, in this order.
        inits: path of every model that a configuration's `init` names.
        worker: what each worker asks for.
        labels: Ray's label selector of the nodes for what trains nothing: drivers and scoring tasks.
        metric, mode: decide which checkpoints are kept.
        keep: checkpoints kept per trial, best first; the last one is always kept. Three: beside the best and
            the last one that waits for a score.
        resilience: what happens when a worker or a node is lost.
        objects: where each node keeps what it fetches of training data on S3; None: nowhere.
        attempt: the driver's attempt at the sweep, for which is written.
    """

    trials_folder: str
    evaluator: Any
    roles: tuple[str, ...]
    inits: Mapping[str, str]
    worker: WorkerResources
    metric: str
    mode: str
    labels: Mapping[str, str] = field(default_factory=dict)
    keep: int = 3
    resilience: Resilience = field(default_factory=Resilience)
    objects: CacheSettings | None = None
    attempt: Attempt | None = None

    @property
    def timeout(self) -> float:
        """Returns the seconds for which a request to S3 is tried again."""
        return TIMEOUT if self.objects is None else self.objects.timeout

    def trial(self, place: str) -> Store:
        """Opens the store of a trial that lies at a place."""
        return open_store(place, self.timeout)

    @property
    def _sweep(self) -> Store:
        return open_store(self.trials_folder.rpartition("/")[0], self.timeout)

    @property
    def sweep(self) -> str:
        """Returns the name of the sweep."""
        return self._sweep.place.rpartition("/")[2]

    @property
    def ledger(self) -> Ledger:
        """Opens the ledger of looks at test benchmarks."""
        return Ledger.of_sweep(self._sweep)


def score_checkpoint(
    checkpoint: ray.train.Checkpoint, epoch: int, context: TrialContext, folder: str
) -> dict[str, float]:
    """Asks the evaluator for each table and writes it into the history, as Ray Train's validation function.

    A checkpoint that was scored by an earlier attempt is not scored again. A failed scoring is written down
    as an event too: the trial then fails with that reason, after its training.

    Returns:
        The metrics, by which Ray Train keeps the best checkpoints. One without a score counts as the best, so
        that it is still there when a later attempt scores it.
    """
    return score_place(checkpoint_place(checkpoint), epoch, context, folder)


def score_place(place: str, epoch: int, context: TrialContext, folder: str) -> dict[str, float]:
    """Does the same as `score_checkpoint` for a checkpoint that lies at a place."""
    history = History(context.trial(folder).below(HISTORY), context.attempt)
    metrics: dict[str, float] = {}
    for role in context.roles:
        record = history.find(epoch, role)
        if record is None or record.error is not None:
            record = score_role(history, place, epoch, role, context)
        metrics |= record.metrics
    return {context.metric: UNSCORED if context.mode == "max" else -UNSCORED} | metrics


def score_missing(history: History, context: TrialContext) -> list[Record]:
    """Has every checkpoint scored that is still there and lacks a score; returns the new events."""
    known = history.records()
    there = existing(known, context.timeout)
    scored = {(r.epoch, r.kind) for r in known if r.error is None}
    return [
        score_role(history, record.checkpoint, record.epoch, role, context)
        for record in known
        if record.kind == TRAIN and record.checkpoint in there
        for role in context.roles
        if (record.epoch, role) not in scored
    ]


def score_role(history: History, uri: str, epoch: int, role: str, context: TrialContext) -> Record:
    """Has a checkpoint scored on one benchmark; the table, or the reason of a failure, is written down."""
    try:
        scored: ScoredCheckpoint = ray.get(context.evaluator.score.remote(uri, role))
    except (ray.exceptions.RayTaskError, RuntimeError) as error:
        failed = Record(epoch, role, {}, uri, error=printable(str(getattr(error, "cause", error))))
        history.write(failed)
        return failed
    # The event is written last: whoever reads it finds the table, the example matches and the maps.
    history.require_current()
    name = table_name(epoch, role)
    put_json(history.store, name, scored.table)
    history.store.write(beside_table(name, "examples"), scored.examples)
    history.store.write(beside_table(name, "maps"), scored.maps)
    if is_test(role):
        context.ledger.look(scored.table, context.sweep)
    metrics = {f"{role}/{key}": value for key, value in scored.scalars.items()}
    record = Record(epoch, role, metrics, uri, evaluation=name)
    history.write(record)
    return record
