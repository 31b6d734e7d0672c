"""Passes the events that Tune reports on to MLflow and to the screen."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ray import tune

from r2d2.collapse import collapse_warnings
from r2d2.config import TrainConfig
from runner.cluster.metrics import SweepMetrics
from runner.record.incidents import ASKED_TO_STOP, FAILED, incidents
from runner.record.lease import Lease
from runner.record.sweep import INTERRUPTED, Ending, StoredSweep, stopped_early
from runner.sweep.progress import SweepProgress, TrialProgress
from runner.tracking.reporter import Reporter
from runner.trial.driver import CONFIG_KEY
from runner.trial.placement_group_cleanup import is_reserved
from runner.trial.scoring import TrialContext, score_missing
from search_spaces.sweep import Trial

BY_STOP = "stopped by r2d2 stop; r2d2 resume continues it"


class SweepCallback(tune.Callback):
    """Follows the trials of one sweep.

    Attributes:
        statuses: MLflow status of every trial that was started, by key.
        reasons: why trials failed, by key.
        interrupted: whether the sweep ended before its trials did.
    """

    def __init__(
        self,
        stored: StoredSweep,
        reporter: Reporter,
        progress: SweepProgress,
        roles: Collection[str],
        stops: bool,
        lease: Lease | None = None,
        metrics: SweepMetrics | None = None,
    ) -> None:
        """Prepares the callback.

        Args:
            stored: the sweep on disk.
            reporter: logs in MLflow.
            progress: shows the sweep on the screen.
            roles: the benchmarks that a complete trial was scored on.
            stops: whether a scheduler may stop trials.
            lease: the driver's hold on the sweep; once lost, nothing more is passed on. None: nobody else has
                it.
            metrics: exports the sweep's figures; None: nobody reads them.
        """
        self._stored, self._reporter, self._progress = stored, reporter, progress
        self._roles, self._stops, self._lease = roles, stops, lease
        self._metrics = metrics
        self._running: dict[str, Trial] = {}
        # How often each running trial was stopped on request before.
        self._stops_before: dict[str, int] = {}
        self._warned: set[str] = set()
        # How many incidents of each trial were shown.
        self._told: dict[str, int] = {}
        self.statuses: dict[str, str] = {}
        self.reasons: dict[str, str] = {}
        self.interrupted = False

    def __getstate__(self) -> dict[str, Any]:
        """Saves nothing: Tune saves its callbacks, and this one lives only as long as the driver."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Handles the start of a trial's driver."""
        ours = _ours(trial)
        self._running[ours.key] = ours
        self._stops_before[ours.key] = self._stops_of(ours)
        # What happened to it in earlier attempts was shown then.
        self._told.setdefault(ours.key, len(incidents(self._stored.history(ours))))
        self.statuses[ours.key] = "RUNNING"
        self._progress.started(ours.key, TrialProgress.of(self._stored, ours))

    def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
        """Handles the end of a step of Tune's, several times a second."""
        if self._metrics is not None:
            self._metrics.refresh(lambda: self._progress.figures(self._roles))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        """Handles a report: an epoch was trained, or a checkpoint was scored."""
        if "kind" not in result or self._superseded:
            return
        ours = _ours(trial)
        history = self._stored.history(ours)
        record = history.find(result["epoch"], result["kind"])
        self._tell_incidents(ours)
        assert record is not None, f"{ours.key} reported an event that is not in its history"
        self._reporter.record(ours, history)
        self._progress.event(ours.key, record)
        warnings = collapse_warnings(record.metrics) if record.epoch else []
        if warnings and ours.key not in self._warned:
            self._warned.add(ours.key)
            self._progress.say(f"{ours.key}: warning at epoch {record.epoch}: {'; '.join(warnings)}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Handles the end of a trial: it ended by itself, well or not, or the scheduler stopped it."""
        if self._superseded:
            return
        ours = _ours(trial)
        history = self._stored.history(ours)
        self._tell_incidents(ours)
        if self._stop_asked and not history.is_complete(ours.config.epochs, self._roles):
            # It stays in `_running`; `close` reports its end.
            return
        if history.failure is not None:
            self._fail(ours, history.failure)
            return
        epoch = max((r.epoch for r in history.records()), default=0)
        # Training may be ahead of the score that stopped it, and one benchmark ahead of the other.
        if self._stops and not history.is_complete(ours.config.epochs, self._roles):
            history.mark_stopped(epoch)
            self._end(ours, stopped_early(epoch))
        else:
            self._end(ours, Ending("FINISHED"))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Handles a trial whose driver was lost too often."""
        ours = _ours(trial)
        if self._superseded or self._stop_asked:
            # It stays among the running ones, whose end `close` tells.
            return
        history = self._stored.history(ours)
        if history.failure is None:
            history.mark_failed("its driver died; --verbose shows Ray's messages")
        assert history.failure is not None
        self._fail(ours, history.failure)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Handles the loss of a trial's driver, which Tune starts again."""
        self._count("driver")
        self._progress.say(f"{_ours(trial).key}: its driver was lost and starts again")

    def say(self, sentence: str) -> None:
        """Shows a sentence about the sweep as a whole."""
        self._progress.say(sentence)

    def _fail(self, trial: Trial, reason: str) -> None:
        self._count(FAILED)
        self.reasons[trial.key] = reason
        self._end(trial, Ending("FAILED", reason))

    def _tell_incidents(self, trial: Trial) -> None:
        known = incidents(self._stored.history(trial))
        for incident in known[self._told.get(trial.key, 0) :]:
            self._progress.say(f"{trial.key}: {incident.text}")
            if incident.kind != ASKED_TO_STOP:
                self._count(incident.kind)
        self._told[trial.key] = len(known)

    def _count(self, kind: str) -> None:
        if self._metrics is not None:
            self._metrics.count_fault(kind)

    def close(self, keys: Collection[str]) -> None:
        """Marks as interrupted what still ran when Tune returned, and what was never started.

        Args:
            keys: the trials that Tune was to run, if they are known beforehand.
        """
        self.interrupted |= not self.statuses.keys() >= set(keys)
        if self._superseded:
            return
        why = BY_STOP if self._stop_asked else INTERRUPTED
        for trial in list(self._running.values()):
            self.interrupted = True
            self._end(trial, Ending("KILLED", why))

    def score_what_was_left(self, context: TrialContext) -> None:
        """Scores the checkpoints whose scoring was cut off when their trial was stopped."""
        for trial in [t for t in self._stored.trials() if self._stored.history(t).stopped_after is not None]:
            history = self._stored.history(trial)
            for record in score_missing(history, context):
                self._reporter.record(trial, history)
                self._progress.event(trial.key, record)
                if record.error is not None:
                    reason = f"epoch {record.epoch} has no score on {record.kind}: {record.error}"
                    self.reasons[trial.key] = reason

    @property
    def _superseded(self) -> bool:
        return self._lease is not None and self._lease.is_lost()

    @property
    def _stop_asked(self) -> bool:
        return self._lease is not None and self._lease.is_asked_to_stop()

    def _stops_of(self, trial: Trial) -> int:
        return sum(incident.kind == ASKED_TO_STOP for incident in incidents(self._stored.history(trial)))

    def going(self) -> list[str]:
        """Returns the keys of trials whose workers run and have not stopped on request since their start."""
        attempt = None if self._lease is None else self._lease.attempt
        return [
            key
            for key, trial in self._running.items()
            if self._stops_of(trial) == self._stops_before[key]
            and is_reserved(self._stored.trial_store(trial), attempt)
        ]

    def _end(self, trial: Trial, ending: Ending) -> None:
        self._running.pop(trial.key, None)
        self.statuses[trial.key] = ending.status
        self._reporter.finish(trial, self._stored.history(trial), ending)
        self._progress.ended(trial.key, ending.word, ending.reason)


def _ours(tune_trial: Any) -> Trial:
    return Trial(TrainConfig.from_dict(tune_trial.config[CONFIG_KEY]))
