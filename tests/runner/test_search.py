"""A search space reads the same in every process, and a searcher hears of scores only."""

from ray import tune
from ray.tune.search import Searcher

from runner.incidents import FAILED
from runner.search import ScoresOnly, describe_space


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
