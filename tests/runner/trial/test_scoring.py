"""A score stands in the history with all that belongs to it, or not at all."""

from types import SimpleNamespace

import numpy as np
import pytest

from evaluation.actor import ScoredCheckpoint
from evaluation.pictures.maps import ImageMaps
from runner.cluster.resources import WorkerResources
from runner.record.history import History, read_evaluation, read_maps
from runner.record.layout import HISTORY
from runner.record.looks import Ledger
from runner.trial.scoring import TrialContext, score_checkpoint, score_role


@pytest.fixture
def evaluator(make_evaluation, monkeypatch):
    """An evaluator pool that answers at once."""
    grey = np.full((48, 64), 128, np.uint8)
    maps = ImageMaps("i_one 1", np.stack([grey] * 3, axis=2), grey, grey, np.ones((3, 2), np.float32))
    scored = ScoredCheckpoint.of(make_evaluation(), (maps,))
    monkeypatch.setattr("runner.trial.scoring.ray.get", lambda answer: answer)
    return SimpleNamespace(score=SimpleNamespace(remote=lambda uri, role: scored))


@pytest.fixture
def context(tmp_path, evaluator):
    """Of the sweep `a` in the home `home`."""
    trials = str(tmp_path / "home/sweeps/a/trials")
    return TrialContext(
        trials, evaluator, ("validation",), {}, WorkerResources(), "validation/mma_3px", "max"
    )


def test_table_examples_and_maps_lie_beside_the_event(tmp_path, context):
    history = History(tmp_path)
    record = score_role(history, "/checkpoint", 3, "validation", context)
    assert history.records() == [record]
    assert {path.name for path in tmp_path.iterdir()} == {
        "epoch_003.validation.json",
        "table_003.validation.json",
        "examples_003.validation.npz",
        "maps_003.validation.npz",
    }
    (seen,) = read_maps(history, record)
    assert (seen.name, len(seen.keypoints)) == ("i_one 1", 3)
    assert len(read_evaluation(history, record).examples) == 2


@pytest.mark.parametrize(("mode", "sign"), [("max", 1), ("min", -1)])
def test_a_checkpoint_that_could_not_be_scored_is_kept_as_if_it_were_the_best(
    tmp_path, evaluator, mode, sign
):
    def die(answer):
        raise RuntimeError("3 evaluators died")

    context = TrialContext(
        str(tmp_path), evaluator, ("validation",), {}, WorkerResources(), "validation/mma_3px", mode
    )
    checkpoint = SimpleNamespace(path="/checkpoint")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("runner.trial.scoring.ray.get", die)
        kept_by = score_checkpoint(checkpoint, 1, context, str(tmp_path))
    assert sign * kept_by["validation/mma_3px"] > 1e6
    assert History(tmp_path / HISTORY).find(1, "validation").error == "3 evaluators died"
    # Asked again, it is scored, and counts for what it is.
    assert score_checkpoint(checkpoint, 1, context, str(tmp_path))["validation/mma_3px"] == pytest.approx(
        0.15
    )


def test_a_score_whose_maps_cannot_be_written_did_not_happen(tmp_path, context, monkeypatch):
    history = History(tmp_path)
    kind = type(history.store)
    write = kind.write

    def fail(store, name, content):
        if name.startswith("maps"):
            raise OSError("disk full")
        write(store, name, content)

    monkeypatch.setattr(kind, "write", fail)
    with pytest.raises(OSError, match="disk full"):
        score_role(history, "/checkpoint", 3, "validation", context)
    assert History(tmp_path).records() == []


def test_a_score_of_before_there_were_maps_has_none(tmp_path, context):
    history = History(tmp_path)
    record = score_role(history, "/checkpoint", 3, "validation", context)
    (tmp_path / "maps_003.validation.npz").unlink()
    assert read_maps(history, record) == ()


def test_a_score_outlives_its_examples(tmp_path, context):
    history = History(tmp_path)
    record = score_role(history, "/checkpoint", 3, "validation", context)
    (tmp_path / "examples_003.validation.npz").unlink()
    assert read_evaluation(history, record).examples == ()


@pytest.mark.parametrize(("role", "looks"), [("hpatches", 1), ("validation", 0)])
def test_a_score_on_a_test_is_written_into_the_ledger(tmp_path, context, role, looks):
    for epoch in (1, 2):
        score_role(History(tmp_path), "/checkpoint", epoch, role, context)
    ledger = Ledger.of_home(tmp_path / "home", 1.0)
    assert ledger.looks("d" * 64, "a").sweep == looks
