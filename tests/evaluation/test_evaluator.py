import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluation.benchmarks.hpatches import open_benchmark
from evaluation.evaluator import PROTOCOLS, Protocol, evaluate
from evaluation.metrics.homography import DLT, POSELIB
from evaluation.predictions.images import ImageStore
from r2d2.checkpoint import load_model
from r2d2.data.images import ImageRefused
from r2d2.extraction.settings import ExtractionSettings
from r2d2.geometry import translation

GOLDEN = Path(__file__).parents[1] / "golden"

# One level, so that the positions of the hand-made features are exact.
ONE_SCALE = Protocol(
    "one scale",
    ExtractionSettings(min_scale=1.0, min_size=0, min_repeatability=0.1, precision="float32"),
    estimators=(DLT,),
)


@pytest.fixture
def bench(tmp_path):
    return tmp_path / "bench"


def test_images_shifted_by_two_pixels(patch_model, write_sequence, texture, bench):
    write_sequence("v_shifted", texture(), texture(dx=2))
    scores = evaluate(patch_model, open_benchmark(bench), ONE_SCALE)
    assert all(pair.matches > 100 for pair in scores.pairs)
    assert scores.mma()[[0, 1, 2]].tolist() == [0, 1, 1]
    scalars = scores.scalars()
    assert (scalars["mma_1px"], scalars["mma_3px"], scalars["mma_3px_viewpoint"]) == (0, 1, 1)


def test_how_many_images_there_are_is_said_before_the_first_is_scored(
    patch_model, write_sequence, texture, bench
):
    write_sequence("v_shifted", texture(), texture(dx=2))
    said = []
    evaluate(patch_model, open_benchmark(bench), ONE_SCALE, on_image=lambda *numbers: said.append(numbers))
    images = len(open_benchmark(bench).sequences[0].images)
    assert said == [(done, images) for done in range(images + 1)]


def test_a_shift_that_the_homography_knows(patch_model, write_sequence, texture, bench):
    write_sequence("v_shifted", texture(), texture(dx=7, dy=-3), homography=translation(7, -3))
    assert evaluate(patch_model, open_benchmark(bench), ONE_SCALE).mma()[0] == 1


def test_every_metric_of_a_known_shift(patch_model, write_sequence, texture, bench):
    """All keypoints are found again 2 px beside the truth, so are the corners."""
    write_sequence("v_shifted", texture(), texture(dx=2))
    protocol = replace(ONE_SCALE, estimators=(DLT, POSELIB))
    scores = evaluate(patch_model, open_benchmark(bench), protocol)
    scalars = scores.scalars()
    for estimator in ("dlt", "poselib"):
        assert [scalars[f"mha_{t}px_{estimator}"] for t in (1, 3, 5)] == [0, 1, 1]
        # All five corner errors are 2: from (0, 0) to (2, 1/5), up to (2, 1), and flat from there.
        assert scalars[f"auc_3px_{estimator}"] == pytest.approx((0.2 + 1) / 3, abs=1e-3)
    assert all(pair.corner_error_dlt == pytest.approx(2, abs=1e-3) for pair in scores.pairs)
    assert scalars["repeatability_3px"] == 1
    assert 0.5 < scalars["localisation_error_px"] <= 2
    assert scalars["matching_score"] == pytest.approx(scalars["matches"] / scalars["keypoints"], abs=0.01)
    # The noise covers 60 x 50 of 140 x 100 pixels.
    assert 0.15 < scalars["coverage"] < 60 * 50 / (140 * 100) + 0.05


def test_a_resized_protocol_scales_the_homography(patch_model, write_sequence, texture, bench):
    """At half the size a shift of 8 px is one of 4; the errors are those of the resized images."""
    large = [np.kron(texture(dx=dx), np.ones((2, 2, 1), np.uint8)) for dx in (0, 4, 6)]
    write_sequence("v_known", large[0], large[1], homography=translation(8, 0))
    write_sequence("v_wrong", large[0], large[2], homography=translation(8, 0))
    half = replace(ONE_SCALE, shorter_side=100)
    scores = evaluate(patch_model, open_benchmark(bench), half, examples=1)
    known, wrong = scores.pairs[0], scores.pairs[5]
    assert (known.mma[0], known.corner_error_dlt) == (1, pytest.approx(0, abs=1e-3))
    assert wrong.corner_error_dlt == pytest.approx(2, abs=1e-3)
    assert (wrong.mma[0], wrong.mma[1]) == (0, 1)
    assert scores.examples[0].image1.shape == (100, 140, 3)


def test_a_protocol_says_which_homographies_are_estimated(patch_model, write_sequence, texture, bench):
    write_sequence("v_shifted", texture(), texture(dx=2))
    scores = evaluate(patch_model, open_benchmark(bench), replace(ONE_SCALE, estimators=()))
    assert not [name for name in scores.scalars() if name.startswith(("mha", "auc"))]


def test_an_image_larger_than_the_memory_is_named(patch_model, three_splits, monkeypatch):
    class Huge(type(patch_model.network)):
        def forward(self, image):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 TB")

    patch_model.network.__class__ = Huge
    with pytest.raises(ImageRefused, match=r"i_same/1\.png: 140 x 100 pixels are too many for the memory"):
        evaluate(patch_model, three_splits, ONE_SCALE)


@pytest.fixture
def three_splits(write_sequence, texture, bench):
    """MMA@1 is 1 in the illumination sequence, 0 in the viewpoint sequence and in the other one."""
    write_sequence("i_same", texture(), texture())
    write_sequence("v_moved", texture(), texture(dx=2))
    write_sequence("other", texture(), texture(dy=4))
    return open_benchmark(bench)


def test_splits_and_overall(patch_model, three_splits):
    table = evaluate(patch_model, three_splits, ONE_SCALE).table()
    assert list(table) == ["overall", "illumination", "viewpoint"]
    assert [round(table[name][0], 9) for name in table] == [round(1 / 3, 9), 1, 0]
    assert [round(table[name][2], 9) for name in table] == [round(2 / 3, 9), 1, 1]
    assert table["overall"][3] == 1


def test_pairs_come_in_order(patch_model, three_splits):
    scores = evaluate(patch_model, three_splits, ONE_SCALE)
    assert [(p.sequence, p.split, p.image) for p in scores.pairs] == [
        (name, split, image)
        for name, split in (("i_same", "illumination"), ("other", None), ("v_moved", "viewpoint"))
        for image in range(2, 7)
    ]
    assert (scores.model, scores.benchmark, scores.benchmark_digest) == (
        "patches",
        "bench",
        three_splits.digest,
    )


def test_progress_counts_images(patch_model, three_splits):
    seen = []
    evaluate(patch_model, three_splits, ONE_SCALE, on_image=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 18) for done in range(19)]


def test_keypoints_are_extracted_once_per_image(patch_model, three_splits):
    calls = []
    patch_model.network.register_forward_hook(lambda *args: calls.append(args))
    evaluate(patch_model, three_splits, ONE_SCALE)
    assert len(calls) == 18 + 3  # and one look at the first image of each sequence for signs of collapse


def test_a_store_serves_many_evaluations(patch_model, three_splits):
    store = ImageStore()
    first = evaluate(patch_model, three_splits, ONE_SCALE, images=store)
    assert len(store) == 18
    again = evaluate(patch_model, three_splits, ONE_SCALE, images=store)
    assert (again.pairs, again.scalars()) == (first.pairs, first.scalars())


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, []), (1, ["other"]), (2, ["i_same", "v_moved"]), (9, ["i_same", "other", "v_moved"])],
)
def test_examples_are_spread_over_the_sequences(patch_model, three_splits, count, expected):
    examples = evaluate(patch_model, three_splits, ONE_SCALE, examples=count).examples
    assert [example.sequence for example in examples] == expected
    for example in examples:
        assert example.image == 4
        assert example.image2.shape == (100, 140, 3)
        assert len(example.matches) == len(example.errors)
        assert (example.errors <= 4).all()


def test_a_black_image_scores_nothing(patch_model, write_sequence, texture, bench):
    write_sequence("v_dark", texture(), np.full_like(texture(), 0))
    scores = evaluate(patch_model, open_benchmark(bench), ONE_SCALE)
    assert [(p.keypoints2, p.matches, sum(p.mma)) for p in scores.pairs] == [(0, 0, 0)] * 5
    scalars = scores.scalars()
    assert (scalars["mma_10px"], scalars["mha_5px_dlt"], scalars["repeatability_3px"]) == (0, 0, 0)
    assert "localisation_error_px" not in scalars


def test_signs_of_collapse(patch_model, three_splits):
    capped = replace(
        ONE_SCALE,
        extraction=ExtractionSettings(top_k=20, min_size=0, min_repeatability=0.1, precision="float32"),
    )
    scalars = evaluate(patch_model, three_splits, capped).scalars()
    assert (scalars["keypoints"], scalars["keypoints_at_cap"]) == (20, 1)
    assert scalars["mean_reliability"] == pytest.approx(0.9)
    assert 0.2 < scalars["repeatability_std"] < 0.4
    unlimited = replace(ONE_SCALE, extraction=ExtractionSettings(top_k=None, min_size=0, precision="float32"))
    assert "keypoints_at_cap" not in evaluate(patch_model, three_splits, unlimited).scalars()


def test_the_mode_of_the_network_is_left_alone(patch_model, three_splits):
    patch_model.network.train()
    evaluate(patch_model, three_splits, ONE_SCALE)
    assert patch_model.network.training


def test_an_unreadable_image_is_named(patch_model, three_splits, bench):
    (bench / "v_moved" / "3.png").write_bytes(b"no image")
    with pytest.raises(ImageRefused, match=r"v_moved/3\.png"):
        evaluate(patch_model, three_splits, ONE_SCALE)


@pytest.mark.real_size
@pytest.mark.timeout(1800)
def test_released_network_on_real_sequences(shared):
    """The reference is the public code's result; ties in float32 may move single keypoints."""
    name = "faster2d2_WASF_N16"
    model = load_model(shared / "weights" / f"{name}.pt")
    scores = evaluate(model, open_benchmark(shared / "data" / "hpatches"), PROTOCOLS["d2net"])
    reference = json.loads((GOLDEN / "hpatches_reference.json").read_text())[name]
    assert len(scores.pairs) == 15
    for pair in scores.pairs:
        expected = next(p for p in reference[pair.sequence] if p["image"] == pair.image)
        assert (pair.keypoints1, pair.keypoints2) == (expected["keypoints1"], expected["keypoints2"])
        assert abs(pair.matches - expected["matches"]) <= 3
        # One match more or less moves a share by one over their number.
        np.testing.assert_allclose(pair.mma, expected["mma"], rtol=0, atol=1.5 / expected["matches"])
