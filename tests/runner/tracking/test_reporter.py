"""MLflow's runs follow the histories of trials, whatever happened on the way."""

import errno
import threading
import time
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from r2d2.config import TrainConfig
from r2d2.processor.kind import Processor
from r2d2.source_code import SourceCode
from r2d2.storage.errors import PlaceError
from runner.record.history import TRAIN, History, Record, write_json
from runner.record.incidents import LOST, TAG, record_incident
from runner.record.provenance import Provenance
from runner.record.sweep import Ending
from runner.tracking.note import DatasetUse, SweepIdentity
from runner.tracking.reporter import Reporter
from runner.tracking.store import TrackingError
from search_spaces.sweep import Trial

TRIAL = Trial(TrainConfig(epochs=2))
FINISHED = Ending("FINISHED")


@pytest.fixture
def said():
    return []


@pytest.fixture
def make_reporter(tracker, request, tmp_path, said):
    made = []

    def make(digest: str = "d" * 64) -> Reporter:
        uses = (DatasetUse("samples", "a" * 64, "samples", "training"),)
        uses += (DatasetUse("held-out", digest, "/held-out", "validation"),)
        identity = SweepIdentity(request.node.name, "validation/mma_3px", "max", "?", uses)
        made.append(Reporter(tracker, identity, str(tmp_path), said.append))
        return made[-1]

    yield make
    for reporter in made:
        reporter.close()


@pytest.fixture
def history(tmp_path):
    history = History(tmp_path / "history")
    history.write(Record(1, TRAIN, {"train/loss_total": 1.0}, "uri"))
    return history


@pytest.fixture
def the_run(tracker, request):
    def find():
        [run] = tracker.list_runs(request.node.name)
        return run

    return find


@pytest.fixture
def requests(tracker, monkeypatch):
    """Names of the requests that MLflow was sent, in order."""
    sent = []

    def note(name):
        method = getattr(type(tracker.client), name)

        def noted(*args, **kwargs):
            sent.append(name)
            return method(*args, **kwargs)

        monkeypatch.setattr(type(tracker.client), name, noted)

    for name in ("create_run", "log_inputs", "log_batch", "set_terminated", "get_run", "get_metric_history"):
        note(name)
    return sent


@pytest.fixture
def away(tracker, monkeypatch):
    """Takes the store away while it is set."""
    switch = threading.Event()

    def refuse(*_):
        if switch.is_set():
            raise TrackingError("nobody there")

    monkeypatch.setattr("runner.tracking.reporter.ASK_AGAIN", (0.02, 0.1))
    monkeypatch.setattr(type(tracker), "check", refuse)
    for name in ("create_run", "log_inputs", "log_batch", "set_terminated", "log_artifacts"):
        method = getattr(type(tracker.client), name)

        def wrapped(*args, method=method, **kwargs):
            refuse()
            return method(*args, **kwargs)

        monkeypatch.setattr(type(tracker.client), name, wrapped)
    return switch


def write_score(history, evaluation, epoch=1):
    write_json(history.folder / f"table_{epoch}.json", evaluation.to_json())
    record = Record(
        epoch, "validation", {"validation/mma_3px": 0.15}, "uri", evaluation=f"table_{epoch}.json"
    )
    history.write(record)


def write_epoch(history, evaluation, epoch):
    history.write(Record(epoch, TRAIN, {"train/loss_total": 1.0 / epoch}, "uri"))
    write_score(history, evaluation, epoch)


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def test_a_run_has_the_code_of_the_attempt_that_began_it_whoever_logs_it(
    make_reporter, the_run, tracker, tmp_path
):
    sweep, processor = tmp_path / "sweeps" / "mine", Processor("A CPU", "AVX2", 1)
    history = History(sweep / "trials" / TRIAL.key / "history")
    for attempt in (1, 2):
        code = SourceCode(f"version {attempt}", f"{attempt}" * 40, f"branch-{attempt}", f"diff {attempt}\n")
        Provenance(code, {}, processor).save(sweep, attempt)
        history.write(Record(attempt, TRAIN, {"train/loss_total": 1.0}, "uri", attempt=attempt))
    write_json(sweep / "trials" / TRIAL.key / "config.json", TRIAL.config.to_dict())
    reporter = make_reporter()
    reporter.finish(TRIAL, history, FINISHED)
    assert reporter.settle() == {}
    run = the_run()
    assert run.tags["r2d2.code_version"] == "version 1"
    assert run.tags["mlflow.source.git.commit"] == "1" * 40
    assert run.tags["mlflow.source.git.branch"] == "branch-1"
    assert run.tags["mlflow.source.git.dirty"] == "true"
    diff = tracker.client.download_artifacts(run.run_id, "uncommitted.diff", str(tmp_path))
    assert Path(diff).read_text() == "diff 1\n"


def test_a_score_that_failed_at_first_reaches_mlflow_when_it_is_there(
    make_reporter, history, the_run, make_evaluation
):
    history.write(Record(1, "validation", {}, "uri", error="the evaluator died"))
    reporter = make_reporter()
    reporter.finish(TRIAL, history, Ending("FAILED", "the evaluator died"))
    assert reporter.settle() == {}
    assert "validation/mma_3px" not in the_run().metrics
    assert the_run().status == "FAILED"
    write_score(history, make_evaluation())
    reporter.finish(TRIAL, history, FINISHED)
    assert reporter.settle() == {}
    assert the_run().metrics["validation/mma_3px"] == pytest.approx(0.15)
    assert the_run().status == "FINISHED"
    assert "r2d2.reason" not in the_run().tags


def test_runs_on_other_images_are_not_continued(make_reporter, history):
    reporter = make_reporter()
    reporter.finish(TRIAL, history, FINISHED)
    reporter.settle()
    make_reporter().open()
    with pytest.raises(ValueError, match=r"with other images for validation .*--name"):
        make_reporter(digest="e" * 64).open()


def test_there_are_as_many_requests_of_figures_as_events(make_reporter, history, requests, make_evaluation):
    reporter = make_reporter()
    reporter.open()
    for epoch in (1, 2):
        history.write(Record(epoch, TRAIN, {"train/loss_total": 1.0 / epoch}, "uri"))
        reporter.record(TRIAL, history)
        reporter.settle()
        write_score(history, make_evaluation(), epoch)
        reporter.record(TRIAL, history)
        reporter.settle()
    reporter.finish(TRIAL, history, FINISHED)
    assert reporter.settle() == {}
    # The last is of the tables that MLflow lists, which are known at the end.
    assert requests == ["create_run", "log_inputs", *["log_batch"] * 5, "set_terminated"]


def test_what_waited_is_logged_once_when_mlflow_is_back(
    make_reporter, history, away, said, tracker, the_run, make_evaluation, requests
):
    reporter = make_reporter()
    reporter.open()
    write_epoch(history, make_evaluation(), 1)
    reporter.record(TRIAL, history)
    until(lambda: "log_batch" in requests)
    away.set()
    write_epoch(history, make_evaluation(), 2)
    reporter.finish(TRIAL, history, FINISHED)
    until(lambda: said)
    assert "MLflow is away since" in said[0]
    assert "nobody there" in said[0]
    assert "MLflow is away since" in reporter.standing
    assert reporter.settle(timeout=0) == {TRIAL.key: "MLflow does not answer"}
    away.clear()
    assert reporter.settle() == {}
    until(lambda: len(said) == 3)
    assert "MLflow answers again after" in said[1]
    assert said[2] == "MLflow has everything that waited."
    history_ = tracker.client.get_metric_history(the_run().run_id, "train/loss_total")
    assert [(m.step, m.value) for m in history_] == [(1, 1.0), (2, 0.5)]
    assert the_run().status == "FINISHED"


def test_events_carry_the_time_at_which_they_happened(make_reporter, history, tracker, the_run):
    happened = (history.folder / "epoch_001.train.json").stat().st_mtime_ns // 10**6
    time.sleep(0.05)
    reporter = make_reporter()
    reporter.finish(TRIAL, history, FINISHED)
    reporter.settle()
    [logged] = tracker.client.get_metric_history(the_run().run_id, "train/loss_total")
    assert logged.timestamp == pytest.approx(happened, abs=1)
    assert tracker.client.get_run(the_run().run_id).info.end_time == logged.timestamp


def test_a_run_whose_creation_was_answered_too_late_is_not_there_twice(
    make_reporter, history, tracker, request, monkeypatch, the_run
):
    monkeypatch.setattr("runner.tracking.reporter.ASK_AGAIN", (0.02, 0.1))
    create, calls = type(tracker.client).create_run, []

    def lose_the_answer(*args, **kwargs):
        calls.append(create(*args, **kwargs))
        if len(calls) == 1:
            raise tracker_error()
        return calls[-1]

    def tracker_error():
        from mlflow.exceptions import MlflowException

        return MlflowException("the answer was lost")

    monkeypatch.setattr(type(tracker.client), "create_run", lose_the_answer)
    reporter = make_reporter()
    reporter.finish(TRIAL, history, FINISHED)
    assert reporter.settle() == {}
    assert the_run().status == "FINISHED"
    assert len(calls) == 1


def test_an_empty_run_of_the_same_key_is_removed(tracker, experiment, make_reporter, history, the_run):
    for _ in range(2):
        tracker.client.create_run(experiment, tags={"r2d2.key": TRIAL.key})
    reporter = make_reporter()
    reporter.finish(TRIAL, history, FINISHED)
    assert reporter.settle() == {}
    assert the_run().metrics["train/loss_total"] == 1.0


def test_what_mlflow_never_takes_is_named_and_the_others_are_logged(
    make_reporter, history, tmp_path, tracker, monkeypatch, said, request
):
    monkeypatch.setattr("runner.tracking.reporter.ASK_AGAIN", (0.01, 0.1))
    other = Trial(TrainConfig(epochs=1, seed=5))
    log_batch = type(tracker.client).log_batch

    def refuse_one(client, run_id, **kwargs):
        if tracker.get_run(run_id).key == TRIAL.key:
            from mlflow.exceptions import MlflowException

            raise MlflowException("too long")
        return log_batch(client, run_id, **kwargs)

    monkeypatch.setattr(type(tracker.client), "log_batch", refuse_one)
    second = History(tmp_path / "second")
    second.write(Record(1, TRAIN, {"train/loss_total": 2.0}, "uri"))
    reporter = make_reporter()
    reporter.finish(TRIAL, history, FINISHED)
    reporter.finish(other, second, FINISHED)
    assert reporter.settle() == {TRIAL.key: "too long"}
    assert said == [f"MLflow does not take {TRIAL.key}: too long."]
    [told] = [run for run in tracker.list_runs(request.node.name) if run.key == other.key]
    assert told.status == "FINISHED"


def test_a_fault_of_the_program_ends_the_sweep_with_it_and_not_before(make_reporter, history, monkeypatch):
    reporter = make_reporter()
    monkeypatch.setattr("runner.tracking.logger.best_record", lambda *_: 1 / 0)
    reporter.finish(TRIAL, history, FINISHED)
    with pytest.raises(ZeroDivisionError):
        reporter.settle()


def test_a_driver_does_not_wait_for_mlflow(make_reporter, history, tracker, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(type(tracker.client), "create_run", lambda *a, **k: release.wait(10) and None)
    reporter = make_reporter()
    began = time.monotonic()
    for _ in range(1000):
        reporter.record(TRIAL, history)
    reporter.finish(TRIAL, history, FINISHED)
    assert time.monotonic() - began < 5
    monkeypatch.undo()
    release.set()


def test_a_trial_that_mlflow_has_completely_is_not_opened_again(make_reporter, history, requests):
    reporter = make_reporter()
    reporter.finish(TRIAL, history, FINISHED)
    reporter.settle()
    requests.clear()
    again = make_reporter()
    again.record(TRIAL, history)
    again.finish(TRIAL, history, FINISHED)
    assert again.settle() == {}
    assert requests == []


def test_a_run_that_is_gone_from_mlflow_is_logged_again(make_reporter, history, tracker, the_run):
    for _ in range(2):
        reporter = make_reporter()
        reporter.finish(TRIAL, history, FINISHED)
        assert reporter.settle() == {}
        assert the_run().metrics == {"train/loss_total": 1.0}
        tracker.client.delete_run(the_run().run_id)


def test_a_run_that_is_deleted_while_the_sweep_runs_is_logged_again(
    make_reporter, history, tracker, the_run, monkeypatch, make_evaluation, requests
):
    monkeypatch.setattr("runner.tracking.reporter.ASK_AGAIN", (0.02, 0.1))
    reporter = make_reporter()
    write_epoch(history, make_evaluation(), 1)
    reporter.record(TRIAL, history)
    until(lambda: "log_batch" in requests and not reporter.standing and reporter.settle() == {})
    tracker.client.delete_run(the_run().run_id)
    write_epoch(history, make_evaluation(), 2)
    reporter.finish(TRIAL, history, FINISHED)
    assert reporter.settle() == {}
    logged = tracker.client.get_metric_history(the_run().run_id, "train/loss_total")
    assert [m.step for m in logged] == [1, 2]


def test_a_store_of_yesterday_gets_what_it_lacks(
    make_reporter, history, tracker, the_run, make_evaluation, tmp_path
):
    """A database that was restored says of a run what it said then: so many events, and another end."""
    reporter = make_reporter()
    reporter.finish(TRIAL, history, Ending("KILLED", "interrupted"))
    assert reporter.settle() == {}
    yesterday = the_run()
    write_epoch(history, make_evaluation(), 2)
    again = make_reporter()
    again.finish(TRIAL, history, FINISHED)
    assert again.settle() == {}
    tracker.client.delete_run(the_run().run_id)
    restored = tracker.client.create_run(
        yesterday.experiment_id, tags=dict(yesterday.tags), run_name=yesterday.name
    )
    for key, value in yesterday.params.items():
        tracker.client.log_param(restored.info.run_id, key, value)
    tracker.client.log_metric(restored.info.run_id, "train/loss_total", 1.0, step=1)
    tracker.client.set_terminated(restored.info.run_id, yesterday.status)
    third = make_reporter()
    third.finish(TRIAL, history, FINISHED)
    assert third.settle() == {}
    logged = tracker.client.get_metric_history(restored.info.run_id, "train/loss_total")
    assert sorted(m.step for m in logged) == [1, 2]
    assert the_run().run_id == restored.info.run_id
    assert (the_run().status, the_run().metrics["validation/mma_3px"]) == ("FINISHED", 0.15)


def test_a_home_that_cannot_be_read_ends_nothing(make_reporter, history, monkeypatch, said, the_run):
    monkeypatch.setattr("runner.tracking.reporter.ASK_AGAIN", (0.02, 0.1))
    away = threading.Event()
    away.set()
    records = History.records

    def refuse(history):
        if away.is_set():
            raise PlaceError(errno.EACCES, "the session token has expired", "s3://bucket/home")
        return records(history)

    monkeypatch.setattr(History, "records", refuse)
    reporter = make_reporter()
    reporter.finish(TRIAL, history, FINISHED)
    reason = "s3://bucket/home: the session token has expired"
    assert reporter.settle(timeout=0.3) == {TRIAL.key: reason}
    assert said == [f"What is to be logged in MLflow cannot be read now, and is logged later: {reason}."]
    away.clear()
    assert reporter.settle() == {}
    assert the_run().status == "FINISHED"


def test_what_mlflow_takes_at_last_is_not_behind(make_reporter, history, tracker, monkeypatch):
    monkeypatch.setattr("runner.tracking.reporter.ASK_AGAIN", (0.01, 0.1))

    def refuse(*_, **__):
        raise MlflowException("too long")

    monkeypatch.setattr(type(tracker.client), "log_batch", refuse)
    reporter = make_reporter()
    reporter.finish(TRIAL, history, FINISHED)
    assert reporter.settle() == {TRIAL.key: "too long"}
    monkeypatch.undo()
    reporter.finish(TRIAL, history, FINISHED)
    assert reporter.settle() == {}


def test_what_befell_a_trial_is_a_tag_of_its_run(make_reporter, history, the_run):
    record_incident(history, LOST, "a worker was lost; the trial goes on")
    reporter = make_reporter()
    reporter.finish(TRIAL, history, FINISHED)
    reporter.settle()
    assert the_run().tags[TAG] == "a worker was lost; the trial goes on"
