"""Predictors: extracting once is enough, and features of others are scored like our own."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from evaluation.benchmarks.hpatches import open_benchmark
from evaluation.evaluator import Protocol, evaluate
from evaluation.metrics.homography import DLT
from evaluation.predictions.images import ImageStore
from evaluation.predictions.predictors import FeaturePredictor, NetworkPredictor, StoredPredictor
from evaluation.predictions.store import PredictionStore
from r2d2.data.images import read_image
from r2d2.data.normalisation import normalise
from r2d2.extraction.keypoint_file import save_keypoints
from r2d2.extraction.keypoints import extract_keypoints
from r2d2.extraction.settings import ExtractionSettings

SETTINGS = ExtractionSettings(min_scale=1.0, min_size=0, min_repeatability=0.1, precision="float32")
ONE_SCALE = Protocol("one scale", SETTINGS, estimators=(DLT,))


@pytest.fixture
def benchmark(write_sequence, texture, tmp_path):
    folder = write_sequence("v_shifted", texture(), texture(dx=2))
    for number in range(2, 7):
        # Too dark to be a keypoint, and enough to make the files differ.
        image = texture(dx=2)
        image[0, 0] = number
        Image.fromarray(image).save(folder / f"{number}.png")
    return open_benchmark(tmp_path / "bench")


@pytest.fixture
def calls(patch_model):
    """One entry for each time the network ran."""
    seen = []
    patch_model.network.register_forward_hook(lambda *args: seen.append(args))
    return seen


@pytest.fixture
def stored(patch_model, benchmark, tmp_path):
    """Makes a predictor with a store in the same folder each time."""

    def make(model=patch_model):
        network = NetworkPredictor(model, ImageStore(max_bytes=0))
        return StoredPredictor(network, benchmark, PredictionStore(tmp_path / "store", 10**9))

    return make


def test_the_second_time_the_network_does_not_run(stored, benchmark, calls):
    first = evaluate(stored(), benchmark, ONE_SCALE, examples=1)
    ran = len(calls)
    assert ran == 6 + 1  # and one look for signs of collapse
    again = evaluate(stored(), benchmark, ONE_SCALE, examples=1)
    assert len(calls) == ran
    assert (again.pairs, again.scalars()) == (first.pairs, first.scalars())
    assert (first.timings.reused, again.timings.reused) == (0, 6)
    assert again.timings.extraction == first.timings.extraction


def test_another_protocol_with_the_same_extraction_does_not_run_it_either(stored, benchmark, calls):
    evaluate(stored(), benchmark, ONE_SCALE)
    ran = len(calls)
    other = evaluate(stored(), benchmark, replace(ONE_SCALE, name="no homographies", estimators=()))
    assert (len(calls), other.timings.reused) == (ran, 6)


def test_what_decides_a_prediction_is_in_its_key(stored, benchmark, calls, patch_model):
    evaluate(stored(), benchmark, ONE_SCALE)
    for model, protocol in (
        (replace(patch_model, digest="1" * 64), ONE_SCALE),
        (patch_model, replace(ONE_SCALE, extraction=replace(SETTINGS, top_k=10))),
        (patch_model, replace(ONE_SCALE, shorter_side=64)),
    ):
        ran = len(calls)
        assert evaluate(stored(model), benchmark, protocol).timings.reused == 0
        assert len(calls) >= ran + 6


def test_a_changed_image_is_extracted_again(stored, benchmark, texture, tmp_path, calls):
    evaluate(stored(), benchmark, ONE_SCALE)
    Image.fromarray(texture(dx=5)).save(tmp_path / "bench" / "v_shifted" / "4.png")
    changed = open_benchmark(tmp_path / "bench")
    network = stored()._predictor
    store = PredictionStore(tmp_path / "store", 10**9)
    ran = len(calls)
    scores = evaluate(StoredPredictor(network, changed, store), changed, ONE_SCALE)
    assert (len(calls), scores.timings.reused) == (ran + 1, 5)
    assert scores.pairs[2].mma[3] == 0


def test_storing_changes_no_metric(stored, benchmark, patch_model):
    plain = evaluate(patch_model, benchmark, ONE_SCALE).scalars()
    for _ in range(2):
        for name, value in evaluate(stored(), benchmark, ONE_SCALE).scalars().items():
            assert value == pytest.approx(plain[name], abs=1e-4), name


def test_a_full_disk_is_a_warning(stored, benchmark, monkeypatch):
    from evaluation.predictions import store as predictions

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(predictions, "atomic_file", full)
    scores = evaluate(stored(), benchmark, ONE_SCALE)
    assert len(scores.warnings) == 1
    assert "No space left on device" in scores.warnings[0]


@pytest.fixture
def features(benchmark, patch_model):
    """Writes the network's own keypoints beside the images, as `.mine`."""
    for path in benchmark.sequences[0].images:
        found = extract_keypoints(patch_model.network, normalise(read_image(path)), SETTINGS)
        save_keypoints(path.with_name(path.name + ".mine"), found)
    return FeaturePredictor(benchmark, "mine")


def test_features_score_as_the_network_that_made_them(features, benchmark, patch_model):
    network = evaluate(patch_model, benchmark, ONE_SCALE)
    files = evaluate(features, benchmark, ONE_SCALE)
    for name in ("mma_3px", "mha_3px_dlt", "repeatability_1px", "matching_score", "coverage", "matches"):
        assert files.scalars()[name] == pytest.approx(network.scalars()[name], abs=1e-6)
    assert (files.model, files.arithmetic, files.collapse) == ("mine", "files", None)
    assert files.warnings == ()


def test_features_are_moved_to_the_resized_image(features, benchmark):
    half = evaluate(features, benchmark, replace(ONE_SCALE, shorter_side=50))
    whole = evaluate(features, benchmark, ONE_SCALE)
    # Errors of 2 px become 1 px.
    assert (whole.pairs[0].mma[0], whole.pairs[0].mma[1]) == (0, 1)
    assert half.pairs[0].localisation_error < 0.6 * whole.pairs[0].localisation_error + 0.5
    assert half.pairs[0].corner_error_dlt == pytest.approx(1, abs=1e-3)


def test_the_digest_of_features_follows_their_bytes(features, benchmark):
    assert FeaturePredictor(benchmark, "mine").digest == features.digest
    path = benchmark.sequences[0].images[3]
    path.with_name(path.name + ".mine").write_bytes(b"other")
    assert FeaturePredictor(benchmark, "mine").digest != features.digest


def test_an_image_without_features_is_named(features, benchmark):
    path = benchmark.sequences[0].images[5]
    path.with_name(path.name + ".mine").unlink()
    with pytest.raises(ValueError, match=r"there is no file of features .*/6\.png\.mine"):
        FeaturePredictor(benchmark, "mine")


def rewrite(path, **changes):
    with np.load(path) as archive:
        arrays = dict(archive) | changes
    with path.open("wb") as file:
        np.savez(file, **arrays)


def test_repairs_are_said_once_with_their_count(features, benchmark):
    for image in benchmark.sequences[0].images[1:4]:
        path = image.with_name(image.name + ".mine")
        with np.load(path) as archive:
            longer = archive["descriptors"] * 9
        rewrite(path, descriptors=longer)
    scores = evaluate(FeaturePredictor(benchmark, "mine"), benchmark, ONE_SCALE)
    assert len(scores.warnings) == 1
    assert "(3 files, first " in scores.warnings[0]
    assert scores.pairs[0].mma[1] == 1


def test_images_without_keypoints_match_nothing(features, benchmark):
    path = benchmark.sequences[0].images[1]
    nothing = {"keypoints": np.zeros((0, 3)), "descriptors": np.zeros((0, 25)), "scores": np.zeros(0)}
    rewrite(path.with_name(path.name + ".mine"), **nothing)
    scores = evaluate(FeaturePredictor(benchmark, "mine"), benchmark, ONE_SCALE)
    first = scores.pairs[0]
    assert (first.matches, first.repeatability, first.coverage2) == (0, (0, 0), 0)
    assert np.isinf(first.corner_error_dlt)
    assert scores.pairs[1].matches > 0


def test_descriptors_of_two_lengths_are_refused(features, benchmark):
    path = benchmark.sequences[0].images[2]
    path = path.with_name(path.name + ".mine")
    with np.load(path) as archive:
        shorter = archive["descriptors"][:, :20]
    rewrite(path, descriptors=shorter)
    with pytest.raises(ValueError, match=r"3\.png\.mine has descriptors of 20 numbers and .*mine of 25"):
        evaluate(FeaturePredictor(benchmark, "mine"), benchmark, ONE_SCALE)
