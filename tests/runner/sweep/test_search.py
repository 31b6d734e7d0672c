"""A search space reads the same in every process, and a searcher hears of scores only."""

import random

import pytest
from ray import tune
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from runner.record.incidents import FAILED
from runner.sweep.search import Distinct, ScoresOnly, describe_space


def space():
    return {
        "optimiser": {"learning_rate": tune.loguniform(1e-5, 1e-2)},
        "loss": {"kappa": tune.uniform(0.5, 1.5), "patch_size": tune.choice([8, 16])},
        "epochs": 9,
    }


def test_a_space_in_words_holds_no_addresses():
    words = describe_space(space())
    assert words == describe_space(space())
    assert words["epochs"] == "9"
    assert words["optimiser/learning_rate"] == "(1e-05, 0.01) LogUniform"
    assert "8" in words["loss/patch_size"]


def test_another_range_or_distribution_reads_differently():
    words = describe_space(space())
    other = {**space(), "optimiser": {"learning_rate": tune.uniform(1e-5, 1e-2)}}
    assert describe_space(other)["optimiser/learning_rate"] != words["optimiser/learning_rate"]


class Listener(Searcher):
    def __init__(self):
        super().__init__(metric="score", mode="max")
        self.heard, self.ended = [], []

    def suggest(self, trial_id):
        return {}

    def on_trial_result(self, trial_id, result):
        self.heard.append(result)

    def on_trial_complete(self, trial_id, result=None, error=False):
        self.ended.append(error)

    def save(self, checkpoint_path):
        pass

    def restore(self, checkpoint_path):
        pass


def test_a_searcher_hears_of_scores_only():
    listener = Listener()
    searcher = ScoresOnly(listener, max_concurrent=2)
    searcher.suggest("a")
    searcher.on_trial_result("a", {"loss": 1.0})
    searcher.on_trial_result("a", {"score": 0.5})
    assert listener.heard == [{"score": 0.5}]


def test_a_searcher_is_told_which_trials_failed():
    listener = Listener()
    searcher = ScoresOnly(listener, max_concurrent=3)
    for name, result in (("a", {"score": 0.5}), ("b", {"loss": 1.0}), ("c", {FAILED: True})):
        searcher.suggest(name)
        searcher.on_trial_complete(name, result)
    assert listener.ended == [False, False, True]


class Rolls(Searcher):
    """Knows nothing but its seed, and not even the points that it is given."""

    def __init__(self, space, metric, mode, seed, **_):
        super().__init__(metric=metric, mode=mode)
        self._space, self._random = space, random.Random(seed)

    def suggest(self, trial_id):
        return {"x": self._random.uniform(0, 1) if "x" in self._space else self._random.randint(1, 3)}

    def on_trial_complete(self, trial_id, result=None, error=False):
        pass

    save = restore = None


def attempt(make, space, past, count, ends=True):
    """The trials of one attempt, as Tune asks for them: those of the past first."""
    said = []
    points = [{"x": value} for value in past] or None
    searcher = make(space=space, metric="score", mode="max", points_to_evaluate=points, seed=0)
    searcher = ScoresOnly(Distinct(searcher, lambda point: repr(point["x"]), said.append), max_concurrent=99)
    found = []
    for number in range(count):
        suggestion = searcher.suggest(f"t{number}")
        if suggestion == Searcher.FINISHED:
            break
        found.append(suggestion["x"])
        if ends:
            searcher.on_trial_result(f"t{number}", {"score": 1.0, "training_iteration": 1})
            searcher.on_trial_complete(f"t{number}", {"score": found[-1]})
    return found, said


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("make", [OptunaSearch, Rolls])
def test_a_further_attempt_suggests_trials_that_there_are_not_yet(make):
    space = {"x": tune.uniform(0, 1)}
    undisturbed, _ = attempt(make, space, [], 6)
    first, _ = attempt(make, space, [], 4)
    extended, _ = attempt(make, space, first, 6)
    assert len(set(extended)) == 6
    assert extended[:4] == first
    # As if the search had never ended.
    assert extended == undisturbed


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("make", [OptunaSearch, Rolls])
def test_a_search_that_was_stopped_or_killed_ends_with_as_many_trials(make):
    known, _ = attempt(make, {"x": tune.uniform(0, 1)}, [], 3, ends=False)
    for _ in range(3):
        known, _ = attempt(make, {"x": tune.uniform(0, 1)}, known, len(known) + 1, ends=False)
    assert len(set(known)) == len(known) == 6


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("make", [OptunaSearch, Rolls])
def test_a_space_of_three_points_gives_three_trials_and_a_word(make):
    space = {"x": tune.choice([1, 2, 3])} if make is OptunaSearch else {"y": None}
    found, said = attempt(make, space, [], 5)
    assert sorted(found) == [1, 2, 3]
    assert said == ["the searcher suggests nothing new: the search ends after 3 trials"]
