"""Who passes becomes champion, every move of the alias is told, and the champion answers by itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from run_log import log_checkpoints, log_evaluation

from evaluation.protocols import PROTOCOLS
from r2d2.checkpoint import load_checkpoint, save_checkpoint
from r2d2.config import TrainConfig
from r2d2.data.normalisation import normalise
from r2d2.extraction.keypoints import extract_keypoints
from r2d2.extraction.settings import ExtractionSettings
from r2d2.network import build_network
from runner.registry import promote as registry
from runner.registry.aliases import AliasMove, alias_moves, described, model_versions, roll_back
from runner.registry.package import resolve_model
from runner.registry.promote import PromotionVerdict, best_run

CONFIG = TrainConfig.from_dict({"network": {"name": "fast", "channels": 1, "dim": 16}, "epochs": 2})
METRIC = "validation/mma_3px"
LOOSE = {"min_reliability": 0.0, "min_repeatability": 0.0, "min_size": 0, "top_k": 50}


@pytest.fixture
def make_run(tracker, experiment, tmp_path, make_evaluation):
    """Makes a trial with one checkpoint, scored `bonus` above the usual."""

    def make_run(key, bonus=0.0, role="trial", **evaluation):
        folder = tmp_path / key
        save_checkpoint(folder, build_network(CONFIG.network, seed=len(key)), CONFIG, epoch=2)
        run = tracker.open_run(experiment, key, key, {"role": role}, CONFIG.flat())
        run.log((), {"r2d2.dataset.training": "a" * 64})
        log_evaluation(run, make_evaluation(bonus, **evaluation), 2, "validation")
        log_checkpoints(run, str(folder), 2, str(folder))
        run.finish("FINISHED")
        return tracker.get_run(run.run_id)

    return make_run


@pytest.fixture
def name(request):
    """A registered model of this test alone."""
    return request.node.name.replace("[", "-").replace("]", "")


def versions(tracker, name):
    return sorted(int(v.version) for v in tracker.client.search_model_versions(f"name = '{name}'"))


def champion(tracker, name):
    return int(tracker.client.get_model_version_by_alias(name, "champion").version)


def passes(candidate, champion):
    """A rule that lets everything pass."""
    who = "nobody" if champion is None else f"version {champion.version}"
    return PromotionVerdict(True, f"better than {who}", {"fresh_score": "0.4000"})


def refuses(candidate, champion):
    """A rule that lets nothing pass."""
    return PromotionVerdict(False, "not shown to be better: +0.004, -0.006 to +0.013")


def promote(tracker, run, rule=passes, *args, **how):
    return registry.promote(tracker, run, rule, *args, **how)


def test_who_passes_takes_the_title_and_who_held_it_is_previous(tracker, make_run, name):
    first, refused, second = make_run("a"), make_run("bb"), make_run("ccc")
    result = promote(tracker, first, name=name)
    assert (result.promoted, result.version, result.reason) == (True, 1, "better than nobody")
    result = promote(tracker, refused, refuses, name=name)
    assert (result.promoted, result.version) == (False, None)
    assert result.reason == "not shown to be better: +0.004, -0.006 to +0.013"
    result = promote(tracker, second, name=name)
    assert (result.promoted, result.version, result.reason) == (True, 2, "better than version 1")
    assert (versions(tracker, name), champion(tracker, name)) == ([1, 2], 2)
    assert previous(tracker, name) == 1


def previous(tracker, name):
    return int(tracker.client.get_model_version_by_alias(name, "previous").version)


def test_the_rule_knows_of_how_many_the_candidate_is_the_best(tracker, make_run, name):
    make_run("a"), make_run("bb"), make_run("ccc", role="baseline")
    seen = []
    promote(tracker, make_run("dddd"), lambda *asked: seen.append(asked) or refuses(*asked), name=name)
    ((candidate, former),) = seen
    assert (candidate.chosen_from, candidate.epoch, former) == (3, 2, None)


def test_a_version_tells_where_it_came_from(tracker, make_run, name):
    run = make_run("a")
    promote(tracker, run, name=name)
    version = tracker.client.get_model_version(name, "1")
    checkpoint = load_checkpoint(Path(run.tags["r2d2.checkpoint.best"]))
    assert version.run_id == run.run_id
    assert version.tags == {
        "metric": METRIC,
        "score": repr(run.metrics[METRIC]),
        "fresh_score": "0.4000",
        "training_digest": "a" * 64,
        "benchmark_digest": "d" * 64,
        "protocol": "validation",
        "protocol_digest": PROTOCOLS["validation"].digest,
        "run_id": run.run_id,
        "epoch": "2",
        "code_version": checkpoint.code_version,
        "model_digest": checkpoint.digest,
    }
    outputs = tracker.client.get_run(run.run_id).outputs.model_outputs
    model = tracker.client.get_logged_model(outputs[0].model_id)
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": name, "version": 1}]


def test_a_checkpoint_becomes_a_version_once(tracker, make_run, name):
    first, second = make_run("a"), make_run("bb", 0.1)
    promote(tracker, first, name=name)
    again = promote(tracker, first, refuses, name=name)
    assert (again.promoted, again.version, again.reason) == (False, 1, "it is the champion already")
    assert again.is_champion
    promote(tracker, second, name=name)
    back = promote(tracker, first, refuses, name=name, force=True)
    assert (back.promoted, back.version) == (True, 1)
    assert (versions(tracker, name), champion(tracker, name)) == ([1, 2], 1)


def test_what_is_forced_says_so_until_it_passes(tracker, make_run, name):
    first, second = make_run("a"), make_run("bb")
    promote(tracker, first, name=name)
    forced = promote(tracker, second, refuses, name=name, force=True)
    reason = "not shown to be better: +0.004, -0.006 to +0.013"
    assert (forced.promoted, forced.reason) == (True, f"forced, although {reason}")
    assert tracker.client.get_model_version(name, "2").tags["forced"] == reason
    promote(tracker, first, name=name)
    assert promote(tracker, second, name=name).promoted
    assert "forced" not in tracker.client.get_model_version(name, "2").tags


def test_an_alias_goes_back_and_forth_and_every_move_is_written_down(tracker, make_run, name, monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    promote(tracker, make_run("a"), name=name)
    tracker.client.update_registered_model(name, "Features for the robot.")
    promote(tracker, make_run("bb"), refuses, name=name, force=True)
    assert roll_back(tracker, name, "champion").reason == "rolled back from version 2"
    assert champion(tracker, name) == 1
    assert previous(tracker, name) == 2
    roll_back(tracker, name, "champion")
    assert champion(tracker, name) == 2
    moves = alias_moves(tracker, name)
    assert [(m.who, m.version, m.former) for m in moves] == [
        ("ada", 1, None),
        ("ada", 2, 1),
        ("ada", 1, 2),
        ("ada", 2, 1),
    ]
    text = tracker.client.get_registered_model(name).description
    own, heading, *table = (line for line in text.splitlines() if line)
    assert (own, heading) == ("Features for the robot.", "## Who held the alias")
    assert len(table) == 2 + 4
    assert table[-1].endswith("| ada | champion | 1 | - | better than nobody |")
    assert "| ada | champion | 2 | 1 | forced, although not shown to be better" in table[-2]
    assert [v.version for v in model_versions(tracker, name)] == [2, 1]
    assert [v.aliases for v in model_versions(tracker, name)] == [["champion"], ["previous"]]


def test_the_table_of_moves_keeps_within_what_a_description_may_hold():
    moves = [AliasMove("2026-11-30T12:00:00Z", "ada", "champion", n, None, "w" * 200) for n in range(60)]
    text = described("own words", moves)
    assert 4000 < len(text) <= 5000
    assert text.startswith("own words\n\n## Who held the alias")
    assert "| 59 | - |" in text
    assert text.endswith("earlier moves: see the tags r2d2.move.*")
    assert described(text, moves) == text


def test_what_cannot_be_rolled_back_is_said(tracker, make_run, name):
    with pytest.raises(ValueError, match=r"no version of '.*' is champion: there is nothing to roll back"):
        roll_back(tracker, name, "champion")
    with pytest.raises(ValueError, match=r"no version of '.*' is registered yet: r2d2 promote SWEEP"):
        model_versions(tracker, name)
    promote(tracker, make_run("a"), name=name)
    with pytest.raises(ValueError, match=r"no version of '.*' was champion before version 1"):
        roll_back(tracker, name, "champion")


def test_a_promotion_that_broke_off_leaves_nothing_behind(tracker, make_run, name, monkeypatch):
    run = make_run("a")

    def fail(*args, **kwargs):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(type(tracker.client), "log_model_artifacts", fail)
        with pytest.raises(OSError, match="disk full"):
            promote(tracker, run, name=name)
    assert tracker.client.search_logged_models([run.experiment_id]) == []
    with monkeypatch.context() as patch:
        patch.setattr(type(tracker.client), "create_model_version", fail)
        with pytest.raises(OSError, match="disk full"):
            promote(tracker, run, name=name)
    assert versions(tracker, name) == []
    promote(tracker, run, name=name)
    assert versions(tracker, name) == [1]
    assert len(tracker.client.search_logged_models([run.experiment_id])) == 1


def test_the_best_trial_is_found(tracker, make_run, request):
    make_run("a", 0.1)
    best = make_run("bb", 0.2)
    make_run("ccc", 0.3, role="baseline")
    assert best_run(tracker, request.node.name, METRIC).key == "bb"
    assert best_run(tracker, request.node.name, METRIC, mode="min").key == "a"
    with pytest.raises(
        ValueError, match=r"no trial of .* has a checkpoint with 'validation/mma@3'; .*mma_3px"
    ):
        best_run(tracker, request.node.name, "validation/mma@3")
    assert best.metrics[METRIC] == pytest.approx(0.35)


def test_what_cannot_be_promoted_is_said(tracker, experiment, make_run, name):
    bare = tracker.open_run(experiment, "bare", "bare", {}, {})
    with pytest.raises(ValueError, match=r"run 'bare' .* has no checkpoint to promote"):
        promote(tracker, tracker.get_run(bare.run_id), name=name)
    run = make_run("a")
    with pytest.raises(ValueError, match=r"has no 'hpatches/mma_3px'; its metrics: .*validation/mma_3px"):
        promote(tracker, run, passes, "hpatches/mma_3px", name=name)
    (Path(run.tags["r2d2.checkpoint.best"]) / "weights.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"weights\.safetensors"):
        promote(tracker, run, name=name)
    assert versions(tracker, name) == []


def test_model_names_become_checkpoint_folders(tracker, make_run, name):
    run = make_run("a")
    promote(tracker, run, name=name)
    digest = load_checkpoint(Path(run.tags["r2d2.checkpoint.best"])).digest
    for uri in (f"runs:/{run.run_id}", f"models:/{name}@champion", f"models:/{name}/1"):
        assert load_checkpoint(resolve_model(uri, tracker)).digest == digest
    artifact = resolve_model(f"runs:/{run.run_id}/config.json", tracker)
    assert json.loads(artifact.read_text())["network.dim"] == 16


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("models:/nobody@champion", "is not in the registry"),
        ("models:/nobody/1", "is not in the registry"),
        ("models:/nobody", "names no model version; write"),
        ("runs:/0123", "MLflow has no run '0123'"),
        ("s3://bucket/model", "names no model; write runs:/RUN_ID"),
        ("runs:/", "names no model"),
    ],
)
def test_a_name_of_nothing_is_refused(tracker, uri, message):
    with pytest.raises(ValueError, match=message):
        resolve_model(uri, tracker)


def test_a_checkpoint_that_was_deleted_is_missed(tracker, make_run):
    run = make_run("a")
    folder = Path(run.tags["r2d2.checkpoint.best"])
    folder.rename(folder.with_name("gone"))
    with pytest.raises(ValueError, match="is not there"):
        resolve_model(f"runs:/{run.run_id}", tracker)
    with pytest.raises(ValueError, match="has no artifact 'nothing'"):
        resolve_model(f"runs:/{run.run_id}/nothing", tracker)


@pytest.mark.parametrize(
    "place", ["ftp://127.0.0.1:9/x", "http://169.254.169.254/x", "hdfs://x/y", "dbfs:/x"]
)
def test_no_other_server_is_asked_for_a_checkpoint(tracker, make_run, place):
    run = make_run("a")
    tracker.client.set_tag(run.run_id, "r2d2.checkpoint.best", place)
    with pytest.raises(ValueError, match=f"checkpoint {place} is neither in a folder nor on S3"):
        resolve_model(f"runs:/{run.run_id}", tracker)


@pytest.fixture
def served(tracker, tracking_uri, make_run, name):
    """The folder of a model version, the model as MLflow loads it, and the network it was made from."""
    import mlflow

    run = make_run("a")
    promote(tracker, run, name=name)
    folder = resolve_model(f"models:/{name}@champion", tracker).parent.parent
    mlflow.set_tracking_uri(tracking_uri)
    model = mlflow.pyfunc.load_model(f"models:/{name}@champion")
    yield folder, model, load_checkpoint(Path(run.tags["r2d2.checkpoint.best"])).network
    mlflow.set_tracking_uri(None)


def photo(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_the_champion_answers_like_its_network(served):
    _, model, network = served
    images = [photo(80, 96), photo(90, 64, seed=1)]
    answers = model.predict(images, params=LOOSE)
    for image, answer in zip(images, answers, strict=True):
        expected = extract_keypoints(network, normalise(image), ExtractionSettings(**LOOSE))
        assert answer["keypoints"].shape == (50, 3)
        assert answer["descriptors"].shape == (50, 16)
        np.testing.assert_allclose(answer["keypoints"], expected.keypoints)
        np.testing.assert_allclose(answer["descriptors"], expected.descriptors, atol=1e-6)
        np.testing.assert_allclose(answer["scores"], expected.scores, atol=1e-6)


def test_one_image_a_batch_and_nested_lists_are_understood(served):
    _, model, _ = served
    image = photo(64, 72)
    (alone,) = model.predict(image, params=LOOSE)
    for images in (image[None], [image], image.tolist(), image[None].tolist()):
        (answer,) = model.predict(images, params=LOOSE)
        np.testing.assert_array_equal(answer["keypoints"], alone["keypoints"])
    assert len(model.predict(np.stack([image, image]), params=LOOSE)) == 2


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((64, 64, 3), np.float32), "image 1 is of type float32; it must be uint8"),
        ([np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)], r"image 2 has shape \(64, 64\)"),
        (np.zeros((2, 3, 64, 64), np.uint8), r"image 1 has shape \(3, 64, 64\)"),
        ([[[[300, 0, 0]] * 64] * 64], "must be uint8, 0 to 255"),
    ],
)
def test_what_is_no_image_is_refused(images, message):
    from runner.registry.served_model import as_images

    with pytest.raises(ValueError, match=message):
        as_images(images)


def test_the_signature_names_inputs_outputs_and_settings(served):
    signature = served[1].metadata.signature
    assert [i.name for i in signature.inputs.inputs] == ["images"]
    assert [o.name for o in signature.outputs.inputs] == ["keypoints", "descriptors", "scores"]
    settings = ExtractionSettings()
    assert {p.name: p.default for p in signature.params.params} == vars(settings)


def test_a_model_version_holds_no_pickle_and_its_own_code(served):
    folder = served[0]
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert {"MLmodel", "served_model.py", "code/r2d2/network.py"} <= files
    assert {"artifacts/checkpoint/weights.safetensors", "requirements.txt", "input_example.json"} <= files
    assert not [f for f in files if f.endswith((".pkl", ".pickle", ".pt", ".pth", ".pyc"))]
    assert not [f for f in files if (folder / f).read_bytes()[:2] == b"\x80\x04"]
    requirements = (folder / "requirements.txt").read_text().split()
    assert f"torch=={torch.__version__.partition('+')[0]}" in requirements


def test_a_model_version_runs_without_this_project(served, tmp_path):
    code = (
        "import sys, numpy, mlflow;"
        f"answer = mlflow.pyfunc.load_model({str(served[0])!r}).predict(numpy.zeros((64, 64, 3), 'uint8'));"
        "import r2d2; print(r2d2.__file__, sorted(answer[0]));"
        "assert 'runner' not in sys.modules"
    )
    # -I: neither the working directory nor PYTHONPATH lead to the repository.
    command = [sys.executable, "-I", "-c", code]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.split() == [
        str(served[0] / "code" / "r2d2" / "__init__.py"),
        "['descriptors',",
        "'keypoints',",
        "'scores']",
    ]
