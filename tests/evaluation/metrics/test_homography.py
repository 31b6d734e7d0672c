from importlib.util import find_spec

import numpy as np
import pytest

from evaluation.metrics import homography as homography_module
from evaluation.metrics.homography import (
    DLT,
    POSELIB,
    corner_error,
    homography_dlt,
    robust_estimate,
)
from evaluation.metrics.pair_metrics import PAIR_METRICS, PairScore
from r2d2.geometry import apply_homography, translation

# Not square, and the homography treats x and y differently, so that a swapped axis is noticed.
WIDTH, HEIGHT = 640, 360
TRUTH = np.array([[0.9, 0.15, 20.0], [-0.1, 1.1, -8.0], [2e-4, -3e-4, 1.0]])

needs_poselib = pytest.mark.skipif(
    find_spec("poselib") is None, reason="needs PoseLib, which is not installed"
)


def points(count, seed=0):
    return np.random.default_rng(seed).uniform([0, 0], [WIDTH - 1, HEIGHT - 1], size=(count, 2))


def in_order(count):
    return np.stack([np.arange(count), np.arange(count)], axis=1)


def homography_robust(*arguments, **settings):
    return robust_estimate(*arguments, **settings).homography_1to2


both = pytest.mark.parametrize(
    "estimate",
    [
        pytest.param(homography_dlt, id="dlt"),
        pytest.param(homography_robust, id="robust", marks=needs_poselib),
    ],
)


def mha(errors, name="mha"):
    """A figure of pairs with these corner errors, at all thresholds."""
    pairs = [PairScore("v", None, 2, 9, 9, 9, (1.0,) * 15, corner_error_dlt=float(e)) for e in errors]
    return np.array([PAIR_METRICS[f"{name}_{t}px_dlt"].numbers(pairs).mean() for t in (1, 3, 5)])


def auc(errors):
    return mha(errors, "auc")


def matched(estimate, points1, points2, **settings):
    return estimate(points1, points2, in_order(len(points1)), **settings)


def error_of(estimate, truth=TRUTH):
    return corner_error(estimate, truth, WIDTH, HEIGHT)


# Estimation


@both
@pytest.mark.parametrize("count", [4, 5, 500])
def test_a_known_homography_is_found(estimate, count):
    first = points(count)
    found = matched(estimate, first, apply_homography(TRUTH, first))
    assert error_of(found) < 1e-6
    np.testing.assert_allclose(found, TRUTH / np.linalg.norm(TRUTH), atol=1e-8)


@both
def test_more_columns_than_x_and_y_and_the_order_of_keypoints_do_not_matter(estimate):
    first = points(50)
    second = apply_homography(TRUTH, first)[::-1]
    scales = np.full((50, 1), 32.0)
    matches = np.stack([np.arange(50), np.arange(50)[::-1]], axis=1)
    keypoints1, keypoints2 = np.hstack([first, scales]), np.hstack([second, scales])
    assert error_of(estimate(keypoints1, keypoints2, matches)) < 1e-6


@both
def test_keypoints_in_single_precision_suffice(estimate):
    first = points(100)
    second = apply_homography(TRUTH, first)
    assert error_of(matched(estimate, first.astype(np.float32), second.astype(np.float32))) < 1e-3


@both
@pytest.mark.parametrize("count", [0, 1, 3])
def test_fewer_than_four_matches_determine_nothing(estimate, count):
    first = points(count)
    assert matched(estimate, first, first) is None


@both
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_matches_on_a_line_determine_nothing(estimate, dtype):
    along = np.linspace(0, 300, 40)[:, None]
    first = (np.array([20, 5]) + along * np.array([1.3, 0.7])).astype(dtype)
    assert matched(estimate, first, first + np.array([2, 0], dtype)) is None


@both
def test_four_matches_of_which_three_lie_on_a_line_determine_nothing(estimate):
    first = np.array([[0.0, 0], [100, 50], [200, 100], [40, 300]])
    assert matched(estimate, first, first + 2) is None


@both
def test_four_matches_that_turn_a_line_into_a_corner_determine_nothing(estimate):
    # What maps them is singular: it throws all but one point of image 1 onto a line.
    first = np.array([[0.0, 0], [100, 50], [200, 100], [40, 300]])
    second = np.array([[0.0, 0], [100, 50], [150, 300], [40, 300]])
    assert matched(estimate, first, second) is None


@both
def test_equal_matches_count_once(estimate):
    first = np.repeat(points(3), 20, axis=0)
    assert matched(estimate, first, apply_homography(TRUTH, first)) is None


@both
def test_one_place_matched_to_many_determines_nothing(estimate):
    many, one = points(20), np.full((20, 2), 7.0)
    assert matched(estimate, one, many) is None
    assert matched(estimate, many, one) is None


@both
def test_the_same_matches_give_the_same_homography(estimate):
    first = points(300)
    second = apply_homography(TRUTH, first) + np.random.default_rng(1).normal(0, 0.8, size=(300, 2))
    second[::3] = points(100, seed=2)
    np.testing.assert_array_equal(matched(estimate, first, second), matched(estimate, first, second))


@both
def test_noise_is_averaged_out(estimate):
    first = points(2000)
    noise = np.random.default_rng(1).normal(0, 0.3, size=(2000, 2))
    assert error_of(matched(estimate, first, apply_homography(TRUTH, first) + noise)) < 0.15


@needs_poselib
@pytest.mark.parametrize("wrong", [0.3, 0.7])
def test_robust_ignores_wrong_matches_and_dlt_does_not(wrong):
    first = points(400)
    second = apply_homography(TRUTH, first)
    count = int(wrong * 400)
    second[:count] = points(count, seed=1)
    assert error_of(matched(homography_robust, first, second)) < 0.01
    assert error_of(matched(homography_dlt, first, second)) > 20


@needs_poselib
def test_matches_within_the_threshold_support_a_robust_estimate():
    # 60 matches say "by 0", 40 say "by 4": together they hold up to 5 px, apart up to 1 px.
    first = points(100)
    second = first.copy()
    second[60:, 0] += 4
    apart = matched(homography_robust, first, second, threshold=1.0)
    together = matched(homography_robust, first, second, threshold=5.0)
    assert error_of(apart, np.eye(3)) < 1e-6
    assert 0.5 < error_of(together, np.eye(3)) < 5


@needs_poselib
def test_inliers_are_the_matches_within_the_threshold():
    """40 of 50 matches obey a homography; 10 are 20 px off."""
    points1 = points(50)
    points2 = apply_homography(TRUTH, points1)
    points2[:10] += 20 * np.random.default_rng(0).choice([-1, 1], (10, 2))
    estimate = POSELIB.estimate(points1, points2, in_order(50))
    assert estimate.inliers == 40
    assert error_of(estimate.homography_1to2) < 0.1
    assert DLT.estimate(points1, points2, in_order(50)).inliers is None
    none = POSELIB.estimate(points1, points2, in_order(3))
    assert (none.homography_1to2, none.inliers) == (None, 0)


@pytest.mark.parametrize("threshold", [0, -1, float("nan")])
def test_a_robust_threshold_is_positive(threshold):
    with pytest.raises(ValueError, match="it must be positive"):
        matched(homography_robust, points(5), points(5), threshold=threshold)


def test_without_poselib_a_sentence_says_what_to_install(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(homography_module, "import_module", missing)
    with pytest.raises(ValueError, match="need PoseLib, which is not installed; `pip install poselib`"):
        matched(homography_robust, points(5), points(5))


def test_dlt_weighs_each_match_the_same_at_any_place_and_scale():
    # Normalisation: moving both images by 10,000 px, or measuring in another unit, moves the result alike.
    first = points(100)
    second = apply_homography(TRUTH, first) + np.random.default_rng(1).normal(0, 1, size=(100, 2))
    near = matched(homography_dlt, first, second)
    far = matched(homography_dlt, 3 * first + 10_000, 3 * second + 10_000)
    moved = apply_homography(far, 3 * first + 10_000)
    np.testing.assert_allclose((moved - 10_000) / 3, apply_homography(near, first), atol=1e-6)


# Error


def test_a_shift_by_two_pixels_is_an_error_of_two():
    assert corner_error(translation(2, 0), np.eye(3), WIDTH, HEIGHT) == pytest.approx(2)
    assert corner_error(translation(5, 4), translation(2, 0), WIDTH, HEIGHT) == pytest.approx(5)


def test_corners_are_those_of_the_frame_of_an_image_that_is_not_square():
    # Twice as wide about x = 0: the left corners move by half a pixel, the right ones by 639.5.
    assert corner_error(np.diag([2.0, 1, 1]), np.eye(3), WIDTH, HEIGHT) == pytest.approx(320)
    assert corner_error(np.diag([1.0, 2, 1]), np.eye(3), WIDTH, HEIGHT) == pytest.approx(180)


def test_errors_are_measured_in_image_two():
    double = np.diag([2.0, 2, 1])
    assert corner_error(double @ translation(1, 0), double, WIDTH, HEIGHT) == pytest.approx(2)


@pytest.mark.parametrize("factor", [-1, 1e-6, 40])
def test_the_scale_of_a_homography_does_not_matter(factor):
    assert error_of(factor * TRUTH) == pytest.approx(0, abs=1e-9)
    assert error_of(TRUTH, factor * TRUTH) == pytest.approx(0, abs=1e-9)


def test_without_a_homography_or_with_a_corner_behind_the_horizon_the_error_is_infinite():
    assert error_of(None) == np.inf
    assert error_of(np.array([[1.0, 0, 0], [0, 1, 0], [-1 / 500, 0, 1]])) == np.inf


# Accuracy over pairs


def test_thresholds_of_mha_are_inclusive():
    assert mha(np.array([0, 1, 1.001, 3, 5, 6, np.inf, np.inf])).tolist() == [2 / 8, 4 / 8, 5 / 8]


def test_shifted_by_two_pixels_mha_is_nothing_at_one_and_all_at_three():
    first = points(30)
    found = matched(homography_dlt, first, first + np.array([2, 0]))
    assert mha(np.array([error_of(found, np.eye(3))])).tolist() == [0, 1, 1]


@pytest.mark.parametrize("accuracy", [mha, auc])
def test_the_best_and_the_worst(accuracy):
    assert accuracy(np.zeros(7)).tolist() == [1, 1, 1]
    assert accuracy(np.full(7, np.inf)).tolist() == [0, 0, 0]
    assert accuracy(np.array([np.inf])).tolist() == [0, 0, 0]


def test_area_of_one_pair():
    # From (0, 0) straight to (2, 1), then flat: up to 3 px an area of 1 + 1, up to 5 px of 1 + 3.
    np.testing.assert_allclose(auc(np.array([2.0])), [0, 2 / 3, 4 / 5])


def test_area_of_three_pairs_of_which_one_has_no_homography():
    # Points (0, 0), (0.5, 1/3), (2, 2/3). Up to 1 px: 1/12 + 1/6; up to 3: 1/12 + 3/4 + 2/3; up to 5: + 4/3.
    errors = np.array([2.0, np.inf, 0.5])
    np.testing.assert_allclose(auc(errors), [1 / 4, 1.5 / 3, (1.5 + 4 / 3) / 5])


def test_an_error_at_the_threshold_adds_no_area():
    np.testing.assert_allclose(auc(np.array([1.0, 3.0, 5.0]))[0], 0)


def test_area_does_not_depend_on_the_order_of_pairs_and_lies_above_the_staircase():
    errors = np.random.default_rng(0).exponential(3, size=540)
    areas = auc(errors)
    np.testing.assert_allclose(areas, auc(errors[::-1]), rtol=1e-12)
    stairs = np.array([np.clip(1 - errors / t, 0, None).mean() for t in homography_module.THRESHOLDS])
    assert ((areas >= stairs) & (areas <= stairs + 1 / (2 * 540))).all()
