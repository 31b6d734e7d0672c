"""Everything that is logged is in MLflow, once, under names that say what it is."""

from __future__ import annotations

import base64
import json
import math
import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from ports import free_port
from run_log import log_checkpoints, log_epoch, log_evaluation, log_final

from evaluation.pictures.maps import ImageMaps
from evaluation.pictures.network import epoch_picture
from r2d2.config import TrainConfig
from r2d2.source_code import SourceCode
from runner.record.history import Record
from runner.tracking.experiments import Tracker
from runner.tracking.logger import RunLogger
from runner.tracking.note import DatasetUse, SweepIdentity
from runner.tracking.store import TrackingError
from runner.tracking.tables import LoggedTable

PARAMS = TrainConfig().flat()


@pytest.fixture
def open_run(tracker, experiment):
    def open_run(key="ap-dice-s0", tags=None, params=PARAMS, datasets=()):
        tags = tags or {"sweep": "smoke"}
        return tracker.open_run(experiment, key, f"name of {key}", tags, params, datasets)

    return open_run


def read(tracker, run, name):
    return Path(tracker.client.download_artifacts(run.run_id, name)).read_text()


def test_a_run_holds_configuration_tags_and_code(tracker, open_run):
    run = open_run(tags={"sweep": "smoke", "similarity": "dice"})
    log_epoch(run, 1, {})
    logged = tracker.get_run(run.run_id)
    assert logged.params == {key: str(value) for key, value in PARAMS.items()}
    assert logged.params["loss.similarity"] == "cosine"
    assert logged.tags["similarity"] == "dice"
    assert len(logged.tags["mlflow.source.git.commit"]) == 40
    assert logged.tags["mlflow.source.git.dirty"] in ("true", "false")
    assert logged.status == "RUNNING"
    assert json.loads(read(tracker, run, "config.json")) == PARAMS
    assert "torch" in json.loads(read(tracker, run, "environment.json"))["packages"]


def test_the_same_key_is_the_same_run(tracker, open_run):
    first = open_run()
    first.finish("FAILED", "out of memory")
    assert tracker.get_run(first.run_id).status == "FAILED"
    assert tracker.get_run(first.run_id).tags["r2d2.reason"] == "out of memory"
    again = open_run()
    assert again.run_id == first.run_id
    assert tracker.get_run(again.run_id).status == "RUNNING"
    assert "r2d2.reason" not in tracker.get_run(again.run_id).tags
    assert open_run("other").run_id != first.run_id


def test_a_run_is_not_continued_with_other_parameters(open_run):
    open_run().finish("FINISHED")
    with pytest.raises(ValueError, match=r"loss\.similarity was cosine, is dice"):
        open_run(params={**PARAMS, "loss.similarity": "dice"})


def test_a_run_interrupted_before_its_parameters_gets_them(tracker, experiment, open_run):
    tracker.client.create_run(experiment, tags={"r2d2.key": "half"})
    run = open_run("half")
    run.finish("FINISHED")
    assert len(tracker.get_run(run.run_id).params) == len(PARAMS)
    assert "packages" in read(tracker, run, "environment.json")


def test_an_overlong_parameter_is_whole_in_the_file(tracker, open_run):
    long = "x" * 7000
    run = open_run(params={"data.photos": long})
    run.finish("FINISHED")
    assert tracker.get_run(run.run_id).params["data.photos"] == "x" * 5999 + "…"
    assert json.loads(read(tracker, run, "config.json"))["data.photos"] == long


def test_each_step_is_logged_once_even_after_a_restart(tracker, open_run):
    run = open_run()
    log_epoch(run, 1, {"train/loss_total": 0.9, "train/loss_similarity": 0.5})
    log_epoch(run, 1, {"train/loss_total": 0.8})
    log_epoch(run, 2, {"train/loss_total": 0.7})
    again = open_run()
    log_epoch(again, 1, {"train/loss_total": 0.1})
    log_epoch(again, 1, {"validation/mma_3px": 0.3})
    log_epoch(again, 3, {"train/loss_total": 0.6})
    history = tracker.client.get_metric_history(run.run_id, "train/loss_total")
    assert [(m.step, m.value) for m in history] == [(1, 0.9), (2, 0.7), (3, 0.6)]
    assert tracker.metric_history(run.run_id, "validation/mma_3px") == {1: 0.3}


def test_an_epoch_that_another_version_trains_again_is_logged_once(tracker, open_run):
    """A killed driver's epoch, trained again by a version that measures more."""
    run = open_run()
    log_epoch(run, 1, {"train/loss_total": 0.9})
    again = open_run()
    for step in (2, 1, 2):
        log_epoch(again, step, {"train/added": 1.0, "train/loss_total": 0.1 * step})
    assert tracker.metric_history(run.run_id, "train/added") == {2: 1.0}
    history = tracker.client.get_metric_history(run.run_id, "train/loss_total")
    assert [(m.step, m.value) for m in history] == [(1, 0.9), (2, 0.2)]


def test_scores_may_come_late_and_out_of_order(tracker, open_run):
    run = open_run()
    for step in (3, 1, 2):
        log_epoch(run, step, {"validation/mma_3px": step / 10})
    assert tracker.metric_history(run.run_id, "validation/mma_3px") == {1: 0.1, 2: 0.2, 3: 0.3}
    assert tracker.get_run(run.run_id).metrics["validation/mma_3px"] == 0.3


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_is_not_made_one(tracker, open_run, value):
    run = open_run()
    log_epoch(run, 4, {"train/loss_total": value, "train/valid_queries": 10})
    logged = tracker.get_run(run.run_id)
    assert math.isnan(logged.metrics["train/loss_total"])
    assert logged.tags["r2d2.non_finite"] == f"train/loss_total is {value} at 4"
    assert logged.metrics["train/valid_queries"] == 10


def test_one_epoch_is_one_request(open_run, monkeypatch):
    run = open_run()
    requests = []
    monkeypatch.setattr(type(run._client), "log_batch", lambda *a, **k: requests.append(k))
    log_epoch(run, 1, {f"train/{i}": 0.5 for i in range(50)}, tags={"phase": "train"})
    log_epoch(run, 1, {f"train/{i}": 0.5 for i in range(50)}, tags={"phase": "train"})
    assert len(requests) == 1


def test_a_request_holds_whole_events_and_as_many_as_mlflow_takes(open_run, tracker, monkeypatch):
    run, requests = open_run(), []
    log_batch = type(run._client).log_batch

    def note(client, run_id, metrics=(), **rest):
        requests.append([m.step for m in metrics])
        log_batch(client, run_id, metrics=metrics, **rest)

    monkeypatch.setattr(type(run._client), "log_batch", note)
    run.log(
        [Record(step, "train", {f"train/{i}": 0.5 for i in range(40)}, "") for step in range(1, 26)],
        {"last": "yes"},
    )
    assert [sorted(set(steps)) for steps in requests] == [list(range(1, 24)), [24, 25]]
    assert {len(steps) % 40 for steps in requests} == {0}
    assert list(tracker.metric_history(run.run_id, "train/39")) == list(range(1, 26))
    assert tracker.get_run(run.run_id).tags["last"] == "yes"


def test_a_failed_request_may_be_logged_again(tracker, open_run, monkeypatch):
    run = open_run()
    log_batch = type(run._client).log_batch

    def fail_before(*args, **kwargs):
        raise MlflowException("away")

    def fail_after(*args, **kwargs):
        log_batch(*args, **kwargs)
        raise MlflowException("away")

    for step, failure in enumerate((fail_before, fail_after), start=1):
        with monkeypatch.context() as patch:
            patch.setattr(type(run._client), "log_batch", failure)
            with pytest.raises(TrackingError, match="away"):
                log_epoch(run, step, {"train/loss_total": step / 10})
        run = open_run()
        log_epoch(run, step, {"train/loss_total": step / 10})
    history = tracker.client.get_metric_history(run.run_id, "train/loss_total")
    assert [(m.step, m.value) for m in history] == [(1, 0.1), (2, 0.2)]


def test_other_code_that_goes_on_is_noted(tracker, open_run, monkeypatch):
    run = open_run()
    assert "r2d2.resumed_with" not in tracker.get_run(open_run().run_id).tags
    monkeypatch.setattr("runner.tracking.experiments.source_code", lambda: SourceCode("newer"))
    open_run()
    assert tracker.get_run(run.run_id).tags["r2d2.resumed_with"] == "newer"


def test_a_score_is_metrics_and_two_tables(tracker, open_run, make_evaluation):
    run = open_run()
    log_evaluation(run, make_evaluation(), 3, "validation")
    logged = tracker.get_run(run.run_id)
    assert logged.metrics["validation/mma_3px"] == pytest.approx(0.15)
    assert logged.metrics["validation/mma_3px_viewpoint"] == pytest.approx(0.15)
    assert logged.tags["r2d2.dataset.validation"] == "d" * 64
    assert logged.tags["r2d2.protocol.validation"] == "validation"
    assert logged.tags["r2d2.protocol.validation.digest"] == make_evaluation().protocol.digest
    table = json.loads(read(tracker, run, "mma/validation_epoch_003.json"))
    assert table["columns"] == ["threshold", "overall", "illumination", "viewpoint"]
    assert [row[0] for row in table["data"]] == list(range(1, 16))
    assert table["data"][2][1:] == pytest.approx([0.15, 0.15, 0.15])
    pairs = json.loads(read(tracker, run, "pairs/validation_epoch_003.json"))
    assert pairs["columns"][:6] == ["sequence", "split", "image", "keypoints1", "keypoints2", "matches"]
    assert pairs["data"][1][:7] == ["v_two", "viewpoint", 3, 100, 80, 40, pytest.approx(0.05)]


@pytest.fixture
def maps():
    grey = np.full((48, 64), 128, np.uint8)
    return (ImageMaps("i_one 1", np.stack([grey] * 3, axis=2), grey, grey, np.zeros((0, 2), np.float32)),)


@pytest.fixture
def drawn(monkeypatch):
    """The titles of the pictures of epochs that were drawn."""
    titles = []

    def draw(maps, title):
        titles.append(title)
        return epoch_picture(maps, title)

    monkeypatch.setattr("evaluation.pictures.network.epoch_picture", draw)
    return titles


def pictures(tracker, run):
    return [f.path for f in tracker.client.list_artifacts(run.run_id, "pictures/validation")]


def test_each_epoch_has_a_picture(tracker, open_run, make_evaluation, maps, drawn):
    run = open_run()
    for step in (0, 3):
        log_evaluation(run, make_evaluation(), step, "validation", maps)
    assert pictures(tracker, run) == [f"pictures/validation/epoch_{n:03d}.png" for n in (0, 3)]
    assert drawn == [f"epoch {n}, validation: MMA@3 0.150" for n in (0, 3)]
    file = tracker.client.download_artifacts(run.run_id, "pictures/validation/epoch_003.png")
    assert Path(file).read_bytes()[:4] == b"\x89PNG"


def test_a_picture_that_mlflow_did_not_take_is_logged_again(
    tracker, open_run, make_evaluation, maps, drawn, monkeypatch
):
    run = open_run()
    with monkeypatch.context() as patch:
        patch.setattr(type(run._client), "log_artifacts", lambda *a, **k: 1 / 0)
        with pytest.raises(TrackingError):
            log_evaluation(run, make_evaluation(), 1, "validation", maps)
    assert pictures(tracker, run) == []
    log_evaluation(run, make_evaluation(), 1, "validation", maps)
    assert len(pictures(tracker, run)) == 1


def test_a_score_without_maps_has_no_picture(tracker, open_run, make_evaluation):
    run = open_run()
    log_evaluation(run, make_evaluation(), 1, "validation")
    assert pictures(tracker, run) == []


@pytest.mark.parametrize("change", [{"digest": "e" * 64}, {"protocol": "d2net"}])
def test_scores_that_cannot_be_compared_are_kept_apart(open_run, make_evaluation, change):
    run = open_run()
    log_evaluation(run, make_evaluation(), 1, "validation")
    with pytest.raises(ValueError, match=r"r2d2\.\w+\.validation of MLflow run .* was .* and is now"):
        log_evaluation(run, make_evaluation(**change), 2, "validation")


def test_pictures_and_tables_of_the_chosen_epoch(tracker, experiment, open_run, make_evaluation):
    run = open_run()
    for _ in range(2):
        log_final(run, make_evaluation(), "validation")
    figures = {f.path for f in tracker.client.list_artifacts(run.run_id, "figures")}
    names = ("mma_validation.svg", "matches_validation_1.png", "matches_validation_2.png")
    assert figures == {f"figures/{name}" for name in names}
    picture = tracker.client.download_artifacts(run.run_id, "figures/matches_validation_1.png")
    assert Path(picture).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    listed = json.loads(tracker.get_run(run.run_id).tags["mlflow.loggedArtifacts"])
    assert [entry["path"] for entry in listed] == ["mma/validation.json", "pairs/validation.json"]


def test_data_sets_carry_their_whole_digest(tracker, open_run):
    uses = [
        DatasetUse("samples", "a" * 64, "/photos", "training"),
        DatasetUse("held-out", "b" * 64, "/cache/validation", "validation"),
    ]
    # The second time as after an answer that was lost: nothing says yet that MLflow has them.
    for _ in range(2):
        run = open_run(datasets=uses)
    inputs = tracker.client.get_run(run.run_id).inputs.dataset_inputs
    assert {(i.dataset.name, i.tags[0].value) for i in inputs} == {
        ("samples", "training"),
        ("held-out", "validation"),
    }
    assert json.loads(inputs[0].dataset.profile)["sha256"] in ("a" * 64, "b" * 64)


def test_checkpoints_are_tags_and_a_table(tracker, open_run):
    run = open_run()
    log_checkpoints(run, "/c/1", 1, "/c/2", epochs={1: "/c/1", 2: "/c/2"})
    tags = tracker.get_run(run.run_id).tags
    assert tags["r2d2.checkpoint.best"] == "/c/1"
    assert tags["r2d2.checkpoint.best_epoch"] == "1"
    assert tags["r2d2.checkpoint.last"] == "/c/2"
    assert json.loads(read(tracker, run, "checkpoints.json"))["data"] == [
        [1, "/c/1", True],
        [2, "/c/2", False],
    ]


def test_several_trials_are_logged_at_once(tracker, experiment, open_run):
    runs = [open_run(f"trial-{i}") for i in range(4)]

    def tell(index):
        for step in range(1, 6):
            log_epoch(runs[index], step, {"train/loss_total": index + step / 10})

    threads = [threading.Thread(target=tell, args=[i]) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, run in enumerate(runs):
        expected = {step: index + step / 10 for step in range(1, 6)}
        assert tracker.metric_history(run.run_id, "train/loss_total") == expected


def test_runs_are_listed_oldest_first_and_only_ours(tracker, experiment, open_run, request):
    keys = [open_run(key).run_id and key for key in ("b", "a", "c")]
    tracker.client.create_run(experiment)
    assert [run.key for run in tracker.list_runs(request.node.name)] == keys
    with pytest.raises(ValueError, match=f"no sweep 'nothing'; known: .*{request.node.name}"):
        tracker.list_runs("nothing")
    with pytest.raises(ValueError, match="no run 'abc'"):
        tracker.get_run("abc")


def test_many_runs_are_listed_page_by_page(tracker, experiment, open_run, request, monkeypatch):
    monkeypatch.setattr("runner.tracking.experiments._PAGE", 2)
    keys = [f"trial-{i}" for i in range(5)]
    for key in keys:
        open_run(key, params={})
    assert [run.key for run in tracker.list_runs(request.node.name)] == keys


def test_a_summary_replaces_the_former_one(tracker, experiment, request):
    for score in (0.5, 0.75):
        table = LoggedTable(("variant", "mma"), (("ap+dice", score), ("untrained", None)))
        files = {"comparison.md": f"| ap+dice | {score} |", "mma_curves.svg": b"picture"}
        logger = RunLogger(tracker, SweepIdentity(request.node.name, "validation/mma_3px", "max", "?", ()))
        best = {"validation/mma_3px": score}
        run_id = logger.log_summary(f"dice is highest, {score}", table, best, files)
    (summary,) = tracker.list_runs(request.node.name)
    assert (summary.run_id, summary.role, summary.status) == (run_id, "summary", "FINISHED")
    assert summary.metrics == {"validation/mma_3px": 0.75}
    assert summary.tags["variant"] == "summary"
    described = tracker.client.get_experiment(experiment).tags["mlflow.note.content"]
    assert summary.tags["mlflow.note.content"] == described == "dice is highest, 0.75"
    run = tracker.open_run(experiment, "summary", "summary", {}, {})
    assert json.loads(read(tracker, run, "variants.json")) == {
        "columns": ["variant", "mma"],
        "data": [["ap+dice", 0.75], ["untrained", None]],
    }
    assert read(tracker, run, "comparison.md") == "| ap+dice | 0.75 |"
    assert {f.path for f in tracker.client.list_artifacts(run_id)} == {
        "comparison.md",
        "variants.json",
        "mma_curves.svg",
    }


def test_a_server_that_is_not_there_is_named_at_once():
    started = time.monotonic()
    with pytest.raises(ValueError, match=r"server at http://127.0.0.1:\d+ does not answer: .*refused"):
        Tracker(f"http://127.0.0.1:{free_port()}")
    assert time.monotonic() - started < 30


def test_a_server_that_is_silent_is_given_up(monkeypatch):
    monkeypatch.setattr("runner.tracking.store.ANSWER_WITHIN_S", 0.3)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with pytest.raises(ValueError, match=r"does not answer: .*timed out"):
            Tracker(f"http://127.0.0.1:{listener.getsockname()[1]}")


def test_a_damaged_store_is_named_at_once(tmp_path):
    (tmp_path / "mlflow.db").write_text("this is no database")
    with pytest.raises(ValueError, match="is no SQLite database"):
        Tracker(f"sqlite:///{tmp_path / 'mlflow.db'}")


def test_a_folder_of_runs_is_refused(tmp_path):
    with pytest.raises(ValueError, match="use sqlite:///FILE"):
        Tracker(str(tmp_path / "mlruns"))


def test_a_deleted_experiment_is_not_written_into(tracker, experiment, request):
    tracker.client.delete_experiment(experiment)
    with pytest.raises(ValueError, match="was deleted"):
        tracker.open_experiment(request.node.name)


REFUSALS = [
    (403, "Invalid Host header - possible DNS rebinding attack detected", "--allowed-hosts"),
    (403, '{"error_code": "PERMISSION_DENIED", "message": "Permission denied"}', "one who may do this"),
    (401, "You are not authenticated.", "set MLFLOW_TRACKING_USERNAME"),
    (404, "<html>nothing here</html>", "is no working MLflow server: status 404$"),
    (503, '{"message": "the database is being restored"}', "does not answer: status 503"),
]


@pytest.mark.parametrize(("status", "body", "advice"), REFUSALS)
def test_a_refusal_is_told_in_the_words_of_the_server(status, body, advice):
    with answering(lambda _: (status, body)) as uri, pytest.raises(ValueError, match=advice) as caught:
        Tracker(uri)
    assert f"status {status}" in str(caught.value)
    if "<" not in body:
        words = json.loads(body)["message"] if "{" in body else body
        assert f"'{words}'" in str(caught.value)
    if "Host" in body:
        assert "MLFLOW_TRACKING_USERNAME" not in str(caught.value)


def test_a_refusal_is_not_taken_for_a_run_that_is_not_there(tracker, monkeypatch):
    def refuse(*_):
        raise MlflowException("Permission denied", error_code=PERMISSION_DENIED)

    monkeypatch.setattr(type(tracker.client), "get_run", refuse)
    with pytest.raises(TrackingError, match="Permission denied"):
        tracker.get_run("0" * 32)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="MLflow has no run '0000"):
        tracker.get_run("0" * 32)


def test_a_login_that_is_renewed_on_disk_is_used_at_once(tmp_path, monkeypatch):
    """MLflow reads its file of credentials for each request."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("USERNAME", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    file = tmp_path / ".mlflow" / "credentials"
    file.parent.mkdir()
    file.write_text("[mlflow]\nmlflow_tracking_username = lab\nmlflow_tracking_password = new\n")
    good = f"Basic {base64.b64encode(b'lab:new').decode()}"
    answer = (200, '{"experiments": []}')
    with answering(lambda login: answer if login == good else (401, "You are not authenticated.")) as uri:
        tracker = Tracker(uri)
        file.write_text(file.read_text().replace("new", "old"))
        with pytest.raises(TrackingError, match="refuses access"):
            tracker.check()
        file.write_text(file.read_text().replace("old", "new"))
        tracker.check()


@contextmanager
def answering(answer):
    """The address of a server that answers everything alike: `answer` makes status and body of the login."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, body = answer(self.headers.get("Authorization"))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
