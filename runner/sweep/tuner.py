"""Has Ray Tune run the trials of a sweep. Tune's own files are temporary: nobody reads them again."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray import tune

from r2d2.config import TrainConfig
from r2d2.storage.scratch import scratch_folder
from runner.record.lease import Lease
from runner.sweep.callback import SweepCallback
from runner.sweep.plan import SweepPlan
from runner.trial.driver import CONFIG_KEY
from runner.trial.scoring import TrialContext
from search_spaces.sweep import Trial

# How often the driver of a trial may be lost, with the node it is on, until the trial counts as failed.
LOST_DRIVERS = 10
# A training asks every few seconds, and leaves a checkpoint; one that has not begun yet is not waited for.
GRACE_S = 25.0
_LOOK_S = 0.2

Trainable = Callable[[dict[str, Any], TrialContext], dict[str, Any]]


@dataclass(frozen=True)
class Tuning:
    """A Tuning holds what Tune needs to run trials of a sweep.

    Attributes:
        plan: the sweep.
        trainable: what runs a trial.
        context: what every trial gets beside its configuration.
        callback: handles the events of the trials.
        lease: the driver's hold on the sweep.
        concurrent: trials that train at a time.
    """

    plan: SweepPlan
    trainable: Trainable
    context: TrialContext
    callback: SweepCallback
    lease: Lease
    concurrent: int

    def run_listed(self, trials: Sequence[Trial]) -> None:
        """Runs the given trials."""
        if trials:
            space = tune.grid_search([trial.config.to_dict() for trial in trials])
            self._run(space, num_samples=1, max_concurrent_trials=self.concurrent)
            self.callback.close([trial.key for trial in trials])

    def run_suggested(self) -> None:
        """Runs the trials that the sweep's searcher suggests."""
        searcher, samples = self._searcher(), self.plan.sweep.num_samples
        self._run(self.plan.space, num_samples=samples, search_alg=searcher)
        self.callback.close(())

    def _run(self, space: Any, **how: Any) -> None:
        """Has Tune run what a space names.

        Args:
            space: of a trial's configuration.
            how: further arguments of `TuneConfig`.
        """
        sweep = self.plan.sweep
        # A trial's driver only waits: it asks for a byte of memory, as Tune refuses a request for nothing.
        labels = [dict(self.context.labels)]
        resources = tune.PlacementGroupFactory([{"memory": 1}], bundle_label_selector=labels)
        with scratch_folder() as folder:
            tuner = tune.Tuner(
                tune.with_resources(tune.with_parameters(self.trainable, context=self.context), resources),
                param_space={CONFIG_KEY: space},
                tune_config=tune.TuneConfig(
                    metric=sweep.metric,
                    mode=sweep.mode,
                    scheduler=sweep.scheduler() if sweep.scheduler else None,
                    # A trial that is stopped takes its driver along, and so its workers, which would go on.
                    reuse_actors=sweep.scheduler is None,
                    trial_name_creator=_trial_name,
                    trial_dirname_creator=_trial_name,
                    **how,
                ),
                run_config=tune.RunConfig(
                    name=self.plan.definition.name,
                    storage_path=str(folder),
                    callbacks=[self.callback],
                    stop=Halt(self.lease, self.callback.going),
                    # What fails of a trial itself is no error to Tune (`run_trial`): these are lost drivers.
                    failure_config=tune.FailureConfig(max_failures=LOST_DRIVERS),
                    verbose=0,
                ),
            )
            try:
                tuner.fit()
            finally:
                # Whatever Tune says of it, this is why.
                self.lease.attempt.require_current()

    def _searcher(self) -> Any:
        """Makes the sweep's searcher, which first asks for the trials of earlier attempts again."""
        from ray.tune.utils import flatten_dict
        from ray.tune.utils.util import unflatten_dict  # type: ignore[attr-defined]  # of its utilities

        from runner.sweep.search import Distinct, ScoresOnly

        plan = self.plan
        assert plan.sweep.search_alg is not None
        flat = flatten_dict(plan.space)
        domains = {k for k, v in flat.items() if hasattr(v, "sample")}
        points = [
            {f"{CONFIG_KEY}/{k}": flatten_dict(trial.config.to_dict())[k] for k in domains}
            for trial in plan.stored.trials()
            if trial.config.epochs
        ]
        searcher = plan.sweep.search_alg(
            metric=plan.sweep.metric, mode=plan.sweep.mode, points_to_evaluate=points or None, seed=0
        )

        def key_of(suggestion: Mapping[str, Any]) -> str:
            config = unflatten_dict({**flat, **flatten_dict(suggestion[CONFIG_KEY])})
            return Trial(TrainConfig.from_dict(config)).key

        distinct = Distinct(searcher, key_of, self.callback.say)
        return ScoresOnly(distinct, max_concurrent=self.concurrent)


class Halt(tune.Stopper):
    """Ends Tune's run when the sweep was asked to stop or another driver has taken it over.

    Tune asks it after each of its steps.
    """

    def __init__(self, lease: Lease, going: Callable[[], Collection[str]]) -> None:
        """Prepares the stopper.

        Args:
            lease: the driver's.
            going: the trials that run and have not stopped yet.
        """
        self._lease, self._going = lease, going

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002  (Tune's signature)
        """Returns False: no single trial is stopped."""
        return False

    def stop_all(self) -> bool:
        """Says whether to end all trials now; after a request their checkpoints are waited for.

        While it waits, Tune starts no other trial.
        """
        if self._lease.must_stop and self._lease.stop_asked:
            until = time.monotonic() + GRACE_S
            while self._going() and time.monotonic() < until:
                time.sleep(_LOOK_S)
        return self._lease.must_stop

    def __getstate__(self) -> dict[str, Any]:
        """Saves nothing: Tune saves its stoppers, and this one lives only as long as the driver."""
        return {}


def _trial_name(tune_trial: Any) -> str:
    return Trial(TrainConfig.from_dict(tune_trial.config[CONFIG_KEY])).key
