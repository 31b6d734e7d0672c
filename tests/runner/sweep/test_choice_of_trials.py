"""What decides which trials a sweep trains, and for how long: a scheduler, a searcher."""

import pytest
from tiny_sweep import run, runs_of, write_sweep

from runner.record.command import RunOptions
from runner.sweep.plan import SweepOptions

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    # Ray leaves sockets and processes for its own exit handlers to close.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray", "ignore::FutureWarning:ray"),
]

ONE_BAD = """
# A trial that can match, then one that cannot (its descriptors are one number, 1 or -1: one match in each
# pair of images), then a third. How right the matches of so small a network are is a matter of chance.
LONG = {**TINY, "data": {**TINY["data"], "pairs_per_epoch": 160}}
sweep = Sweep(
    samples=True,
    space=[
        {**LONG, "network": {"channels": 1, "dim": dim}, "epochs": epochs}
        for dim, epochs in [(16, 3), (1, 6), (8, 2)]
    ],
    metric="validation/matching_score",
    scheduler=partial(ASHAScheduler, time_attr="epoch", max_t=6, grace_period=2, reduction_factor=2),
    starting_networks=False,
)
"""
SEARCHED = """
from ray.tune.search.optuna import OptunaSearch
sweep = Sweep(
    samples=True,
    space={**TINY, "epochs": 1, "optimiser": {"learning_rate": tune.loguniform(1e-4, 1e-2)}},
    num_samples=2, search_alg=OptunaSearch, starting_networks=False,
)
"""


def test_a_bad_trial_is_stopped_early_by_its_score(tmp_path):
    file = write_sweep(tmp_path, ONE_BAD)
    plan, result = run(file, tmp_path / "home", SweepOptions(run=RunOptions(concurrent=1)))
    good, bad, _ = plan.trials
    assert max(r.epoch for r in plan.stored.history(good).records()) == 3
    # Its workers end with it: while the third trial trains, it does not. As training does not wait for the
    # evaluator, it may have trained on while the score that stopped it was made.
    epochs = max(r.epoch for r in plan.stored.history(bad).records())
    assert plan.stored.history(bad).stopped_after <= epochs < 6
    statuses = {r.key: (r.status, r.tags.get("r2d2.reason", "")) for r in runs_of(plan, tmp_path / "home")}
    assert statuses[good.key][0] == "FINISHED"
    assert statuses[bad.key][0] == "KILLED"
    assert "stopped early by its score" in statuses[bad.key][1]
    assert not result.failed
    # Asked again, the stopped trial stays stopped.
    run(file, tmp_path / "home", SweepOptions(run=RunOptions(concurrent=1)))
    assert max(r.epoch for r in plan.stored.history(bad).records()) == epochs


def test_a_searcher_suggests_trials_and_is_told_of_those_of_an_earlier_attempt(tmp_path):
    file = write_sweep(tmp_path, SEARCHED)
    plan, result = run(file, tmp_path / "home")
    assert not result.failed
    keys = {t.key for t in plan.stored.trials() if t.config.epochs}
    assert len(keys) == 2
    again, _ = run(file, tmp_path / "home")
    assert {t.key for t in again.stored.trials() if t.config.epochs} == keys
    # Its random numbers begin anew, its trials do not.
    extended, _ = run(file, tmp_path / "home", SweepOptions(num_samples=3))
    more = {t.key for t in extended.stored.trials() if t.config.epochs}
    assert len(more) == 3
    assert more > keys
