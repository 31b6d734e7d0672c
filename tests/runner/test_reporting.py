"""MLflow's runs follow the histories of trials, whatever happened on the way."""

import pytest

from r2d2.config import TrainConfig
from runner.history import TRAIN, History, Record, write_json
from runner.incidents import LOST, TAG, record_incident
from runner.reporting import Reporter, SweepIdentity
from runner.tracking import DatasetUse
from search_spaces.sweep import Trial

TRIAL = Trial(TrainConfig(epochs=1))


@pytest.fixture
def make_reporter(tracker, experiment, request):
    def make(digest: str = "d" * 64) -> Reporter:
        uses = (DatasetUse("samples", "a" * 64, "samples", "training"),)
        uses += (DatasetUse("held-out", digest, "/held-out", "validation"),)
        name = request.node.name
        return Reporter(tracker, SweepIdentity(name, experiment, "validation/mma_3px", "max", "?", uses))

    return make


@pytest.fixture
def history(tmp_path):
    history = History(tmp_path / "history")
    history.write(Record(1, TRAIN, {"train/loss_total": 1.0}, "uri"))
    return history


def write_score(history, evaluation):
    write_json(history.folder / "table.json", evaluation.to_json())
    history.write(Record(1, "validation", {"validation/mma_3px": 0.15}, "uri", evaluation="table.json"))


def test_a_score_that_failed_at_first_reaches_mlflow_when_it_is_there(
    make_reporter, history, tracker, make_evaluation, request
):
    history.write(Record(1, "validation", {}, "uri", error="the judge died"))
    reporter = make_reporter()
    assert reporter.catch_up(TRIAL, history, "FINISHED", None)
    [run] = tracker.list_runs(request.node.name)
    assert "validation/mma_3px" not in run.metrics
    write_score(history, make_evaluation())
    assert make_reporter().catch_up(TRIAL, history, "FINISHED", None)
    [run] = tracker.list_runs(request.node.name)
    assert run.metrics["validation/mma_3px"] == pytest.approx(0.15)


def test_runs_on_other_images_are_not_continued(make_reporter, history):
    make_reporter().catch_up(TRIAL, history, "FINISHED", None)
    make_reporter().refuse_other_images()
    with pytest.raises(ValueError, match=r"with other images for validation .*--name"):
        make_reporter(digest="e" * 64).refuse_other_images()


def test_what_befell_a_trial_is_a_tag_of_its_run(make_reporter, history, tracker, request):
    record_incident(history, LOST, "a worker was lost; the trial goes on")
    make_reporter().catch_up(TRIAL, history, "FINISHED", None)
    [run] = tracker.list_runs(request.node.name)
    assert run.tags[TAG] == "a worker was lost; the trial goes on"
