"""Who may not become champion, and in which words; fresh pairs are others of the same photographs."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pytest
from PIL import Image
from run_log import log_checkpoints, log_epoch, log_evaluation

from evaluation.benchmarks.validation import build_validation_benchmark
from evaluation.evaluation import Evaluation, PairScore, Timings
from evaluation.protocols import PROTOCOLS
from r2d2.checkpoint import Model, save_checkpoint
from r2d2.collapse import CollapseSigns
from r2d2.config import TrainConfig
from r2d2.data.training_data import open_training_data
from r2d2.network import build_network
from runner.registry import rule
from runner.registry.promote import promote
from runner.registry.rule import (
    FreshPairs,
    PromotionRule,
    benchmarks_for,
    fresh_metric,
    fresh_seed,
    held_out_photos,
)
from runner.settings import Settings


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path / "home", tracking_uri="sqlite:///nowhere.db")


@pytest.fixture
def config(tmp_path):
    """Trains on one of four photographs."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a", "b", "c", "d"):
        coarse = Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8))
        coarse.resize((128, 96)).save(folder / f"{name}.png")
    network = {"name": "fast", "channels": 1, "dim": 16}
    data = {"photos": str(folder), "held_out": 3}
    return TrainConfig.from_dict({"network": network, "data": data, "epochs": 2})


@pytest.fixture(autouse=True)
def small_pairs(monkeypatch):
    small = partial(build_validation_benchmark, size=(48, 32))
    monkeypatch.setattr(rule, "build_validation_benchmark", lambda *given: small(*given))


@pytest.fixture
def make_run(tracker, experiment, tmp_path, config, make_evaluation):
    """Makes a trial with one checkpoint of epoch 2."""

    def make_run(key, figures=None, digest=None, config=config):
        folder = tmp_path / key
        save_checkpoint(folder, build_network(config.network, seed=len(key)), config, epoch=2)
        tags = {"role": "trial", "sweep": "mine"}
        run = tracker.open_run(experiment, key, key, tags, config.flat())
        known = digest or open_training_data(config.data).training.digest
        run.log((), {"r2d2.dataset.training": known})
        log_evaluation(run, make_evaluation(), 2, "validation")
        log_epoch(run, 2, figures or {})
        log_checkpoints(run, str(folder), 2, str(folder))
        run.finish("FINISHED")
        return tracker.get_run(run.run_id)

    return make_run


@pytest.fixture
def scores(monkeypatch):
    """Gives every network the scores that the test wants of it, one per photograph, by its name."""
    wanted = {}

    def score(pairs, model, on_image=None):
        return [scored(benchmark, wanted[model.name]) for benchmark in pairs.benchmarks]

    monkeypatch.setattr(FreshPairs, "score", score)
    return wanted


def scored(benchmark, shares, flat=False):
    names = sorted({sequence.name[2:] for sequence in benchmark.sequences})
    pairs = tuple(
        PairScore(
            s.name, None, image, 100, 90, 50, (shares[names.index(s.name[2:])] if shares else 0.5,) * 15
        )
        for s in benchmark.sequences
        for image in range(2, 7)
    )
    validation, signs = PROTOCOLS["validation"], CollapseSigns(0.01 if flat else 0.2, 0.9)
    return Evaluation("n", "m", validation, "fresh", benchmark.digest, pairs, Timings(1.0, 0.5), signs)


@pytest.fixture
def ask(tracker, settings, request):
    """Promotes a run by the rule; returns what came of it, and what was said."""

    def ask(run, **how):
        said = []
        rule = PromotionRule(tracker, settings, said.append)
        return promote(tracker, run, rule, name=request.node.name, **how), said

    return ask


def test_the_first_champion_lies_above_its_own_starting_network(ask, make_run, scores, tracker, request):
    scores.update(a=[0.5, 0.55, 0.6], start=[0.1, 0.1, 0.2])
    promotion, said = ask(make_run("a"))
    assert promotion.promoted
    assert promotion.reason == (
        "there was no champion yet, and it is above its own starting network: +0.417, +0.345 to +0.488 "
        "(mma_3px, 95 % interval on 60 fresh pairs of 3 held-out photographs)"
    )
    assert said == [
        "making fresh pairs of 3 held-out photographs",
        "scoring a and its starting network on 60 fresh pairs of 3 held-out photographs",
    ]
    tags = tracker.client.get_model_version(request.node.name, "1").tags
    assert tags["fresh_score"] == "0.5500"
    assert int(tags["fresh_seed"]) == fresh_seed(tags["model_digest"], "")


def test_below_its_own_starting_network_is_refused(ask, make_run, scores):
    scores.update(a=[0.5, 0.5, 0.5], start=[0.5, 0.6, 0.5])
    promotion, _ = ask(make_run("a"))
    assert not promotion.promoted
    assert promotion.reason.startswith("not above its own starting network: -0.033, ")


def test_what_is_not_shown_to_be_better_is_refused_and_what_is_shown_passes(ask, make_run, scores):
    scores.update(a=[0.5, 0.5, 0.5], bb=[0.55, 0.48, 0.52], ccc=[0.6, 0.62, 0.61], start=[0.1, 0.1, 0.1])
    assert ask(make_run("a"))[0].promoted
    # Version 1 is loaded from its package, where its folder is called "checkpoint".
    scores["checkpoint"] = scores["a"]
    promotion, said = ask(make_run("bb"))
    assert not promotion.promoted
    assert promotion.reason.startswith("not shown to be better: +0.017, -0.")
    assert "against version 1 (mma_3px, 95 % interval on 60 fresh pairs of 3 held-out" in promotion.reason
    assert promotion.reason.endswith("allowing for the choice among 2)")
    assert said[1].startswith("scoring bb and the champion on 60 fresh pairs")
    promotion, _ = ask(make_run("ccc"))
    assert promotion.promoted
    assert promotion.reason.startswith("better than version 1: +0.110, +0.0")


def test_better_than_the_champion_but_below_its_start_is_refused(ask, make_run, scores):
    scores.update(a=[0.5, 0.5, 0.5], bb=[0.6, 0.6, 0.6], start=[0.1, 0.1, 0.1])
    ask(make_run("a"))
    scores.update(checkpoint=scores["a"], start=[0.7, 0.7, 0.7])
    assert ask(make_run("bb"))[0].reason.startswith("not above its own starting network: -0.100, ")


def test_a_champion_of_other_data_is_scored_on_the_candidates_pairs_and_the_reason_says_so(
    ask, make_run, scores, config
):
    data = dataclasses.replace(config.data, split_seed=1)
    scores.update(a=[0.5, 0.5, 0.5], bb=[0.6, 0.6, 0.6], start=[0.1, 0.1, 0.1])
    ask(make_run("a", config=dataclasses.replace(config, data=data)))
    scores["checkpoint"] = scores["a"]
    promotion, _ = ask(make_run("bb"))
    assert promotion.promoted
    assert "; version 1 was trained on other data, perhaps on these photographs too" in promotion.reason


@pytest.mark.parametrize("place", ["train", "validation"])
def test_a_collapse_in_its_figures_is_refused_before_anything_is_scored(ask, make_run, place):
    name = "repeatability_std" if place == "train" else "mean_reliability"
    promotion, said = ask(make_run("a", {f"{place}2/{name}": 0.01}))
    assert not promotion.promoted
    assert promotion.reason.startswith(f"collapsed: {place}2: ")
    assert said == []


def test_a_network_that_is_flat_on_the_fresh_pairs_is_refused(ask, make_run, monkeypatch):
    def score(pairs, model, on_image=None):
        return [scored(benchmark, [0.9, 0.9, 0.9], flat=True) for benchmark in pairs.benchmarks]

    monkeypatch.setattr(FreshPairs, "score", score)
    promotion, _ = ask(make_run("a"))
    assert not promotion.promoted
    assert promotion.reason.startswith("collapsed: the repeatability map is flat: standard deviation 0.01")


def test_where_the_photographs_were_changed_it_is_refused(ask, make_run, tmp_path):
    assert ask(make_run("a", digest="f" * 64))[0].reason == (
        f"cannot be compared on fresh pairs: the photographs in {tmp_path}/photos were changed since its "
        "sweep was trained: which of them it has not seen is no longer known"
    )


def test_where_none_was_held_out_it_is_refused(ask, make_run, config):
    none = dataclasses.replace(config, data=dataclasses.replace(config.data, held_out=0))
    reason = ask(make_run("a", config=none))[0].reason
    assert reason.endswith("its sweep held out no photographs (data.held_out is 0)")


def test_where_the_photographs_are_gone_it_is_refused_unless_forced(
    ask, make_run, tmp_path, tracker, request
):
    run = make_run("a")
    (tmp_path / "photos").rename(tmp_path / "gone")
    reason = f"cannot be compared on fresh pairs: there is no folder '{tmp_path}/photos'"
    promotion, _ = ask(run)
    assert (promotion.promoted, promotion.reason) == (False, reason)
    promotion, _ = ask(run, force=True)
    assert (promotion.promoted, promotion.reason) == (True, f"forced, although {reason}")
    assert tracker.client.get_model_version(request.node.name, "1").tags["forced"] == reason


def test_fresh_pairs_are_other_pairs_of_the_same_photographs_and_are_not_kept(config, settings):
    digest = open_training_data(config.data).training.digest
    photos = held_out_photos(config.data, digest, settings)
    with rule.fresh_pairs(photos, 7) as pairs:
        first, second = pairs.benchmarks
        folder = first.folder
        assert [s.name for s in first.sequences] == [s.name for s in second.sequences]
        digests = [first.digest, second.digest]
    with rule.fresh_pairs(photos, 7) as again:
        assert [benchmark.digest for benchmark in again.benchmarks] == digests
    with rule.fresh_pairs(photos, 0) as others:
        assert not {benchmark.digest for benchmark in others.benchmarks} & set(digests)
    assert not folder.exists()
    assert digests[0] != digests[1]


def test_the_bar_of_a_network_counts_the_images_of_all_its_benchmarks(config, settings, monkeypatch):
    from rich.console import Console

    from runner.cli.compare import scoring_progress

    def evaluate(model, benchmark, protocol, on_image):
        images = sum(len(sequence.images) for sequence in benchmark.sequences)
        for done in range(images + 1):
            on_image(done, images)
        return scored(benchmark, None)

    monkeypatch.setattr(rule, "evaluate", evaluate)
    photos = held_out_photos(config.data, open_training_data(config.data).training.digest, settings)
    network = Model(build_network(config.network, seed=0), "a", "", config, 2)
    seen = []
    with rule.fresh_pairs(photos, 7) as pairs, scoring_progress(Console(quiet=True)) as (source, image):
        source("a")
        pairs.score(network, lambda *counts: (seen.append(counts), image(*counts)))
    # The end of one benchmark is the beginning of the next.
    assert list(dict.fromkeys(seen)) == [(done, 72) for done in range(73)]
    assert seen == sorted(seen)


def test_the_same_comparison_has_the_same_pairs_and_another_one_has_others():
    assert fresh_seed("mine", "theirs") == fresh_seed("mine", "theirs")
    assert len({fresh_seed("mine", "theirs"), fresh_seed("mine", ""), fresh_seed("other", "theirs")}) == 3


def test_few_photographs_give_more_pairs_each():
    assert [benchmarks_for(photographs) for photographs in (0, 3, 20, 53, 54, 200)] == [2, 2, 2, 2, 1, 1]


def test_what_fresh_pairs_are_compared_by():
    assert fresh_metric("hpatches/repeatability_3px") == "repeatability_3px"
    assert fresh_metric("train/loss_total") == "mma_3px"
