"""Tuning: has Ray Tune run the trials of a sweep. Its own files are temporary: nobody reads them again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray import tune

from r2d2.config import TrainConfig
from r2d2.scratch import scratch_folder
from runner.record.lease import Lease
from runner.sweep.callback import SweepCallback
from runner.sweep.halt import Halt
from runner.sweep.plan import SweepPlan
from runner.trial.driver import CONFIG_KEY
from runner.trial.scoring import TrialContext
from search_spaces.sweep import Trial

# How often the driver of a trial may be lost, with the node it is on, until the trial counts as failed.
LOST_DRIVERS = 10

Trainable = Callable[[dict[str, Any], TrialContext], dict[str, Any]]


@dataclass(frozen=True)
class Tuning:
    """What Tune needs to run trials of a sweep.

    Attributes:
        plan: the sweep.
        trainable: what runs a trial.
        context: what every trial is told.
        callback: hears of the trials.
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
            how: what `TuneConfig` is told beside that.
        """
        sweep = self.plan.sweep
        # A trial's driver only waits: it asks for a byte of memory, as Tune refuses a request for nothing.
        resources = tune.PlacementGroupFactory([{"memory": 1}])
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
        """The sweep's searcher, told of the trials of earlier attempts so that it asks for them first."""
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


def _trial_name(tune_trial: Any) -> str:
    return Trial(TrainConfig.from_dict(tune_trial.config[CONFIG_KEY])).key
