from dataclasses import replace

import numpy as np
import pytest

from evaluation.pictures.examples import MatchExample
from evaluation.pictures.matches import (
    CAPTION_HEIGHT,
    MAX_LINES,
    PICTURE_WIDTH,
    coloured,
    drawn,
    match_caption,
    match_picture,
    match_thumbnail,
)
from evaluation.pictures.sheet import CORRECT, MARGIN, WRONG


@pytest.fixture
def example():
    def make(errors, sizes=((80, 100), (90, 60))):
        rng = np.random.default_rng(0)
        images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
        points = [rng.uniform(0, 60, (1000, 2)).astype(np.float32) for _ in sizes]
        matches = np.stack([np.arange(len(errors))] * 2, axis=1)
        return MatchExample("v_wall", 4, *images, *points, matches, np.array(errors, dtype=np.float64))

    return make


def test_a_picture_says_above_it_what_it_shows(example):
    picture = np.asarray(match_picture(example([0.5, 3.0, 3.1, np.inf, 90])))
    assert picture.shape == (CAPTION_HEIGHT + PICTURE_WIDTH * 90 // 160, PICTURE_WIDTH, 3)
    dark = (picture[:CAPTION_HEIGHT] < 128).all(axis=2)
    # A line of black letters from the margin on, and paper around it.
    assert dark.sum() > 500
    assert not dark[:, :MARGIN].any()
    assert not dark[:, -100:].any()
    assert picture[CAPTION_HEIGHT:].std() > 5


def test_the_caption_counts_matches_and_says_if_not_all_are_drawn(example):
    assert "2 of 5 matches within 3 px" in match_caption(example([0.5, 3.0, 3.1, np.inf, 90]))
    assert f"{MAX_LINES} drawn" in match_caption(example([0.0] * 500 + [9.0] * 500))
    assert "0 of 0 matches" in match_caption(example([]))


def test_a_line_joins_the_two_keypoints(example):
    pair = example([0.0])
    without = replace(pair, matches=pair.matches[:0], errors=pair.errors[:0])
    changed = np.asarray(match_picture(pair), int) - np.asarray(match_picture(without), int)
    pixels = np.stack(np.nonzero(np.abs(changed[CAPTION_HEIGHT:]).max(axis=2) > 60)[::-1], axis=1)
    scale = PICTURE_WIDTH / 160
    start, end = pair.keypoints1[0] * scale, (pair.keypoints2[0] + [100, 0]) * scale
    for place in (start, (start + end) / 2, end):
        assert np.linalg.norm(pixels - place, axis=1).min() < 6


def test_a_pair_without_matches(example):
    assert np.asarray(match_picture(example([]))).std() > 5


def test_a_thumbnail_has_the_width_asked_for_and_the_colours_of_its_matches(example):
    pair = example([0.5] * 30 + [9.0] * 30)
    picture = match_thumbnail(pair, width=320)
    assert picture.size == (320, 180)
    red, green, blue = np.asarray(picture, dtype=np.int64).transpose(2, 0, 1)
    assert (green - red > 60).any()
    assert (red - blue > 60).any()
    assert "30 of 60 matches within 3 px" in match_caption(pair)


@pytest.mark.parametrize("total", [0, 1, MAX_LINES])
def test_few_matches_are_all_drawn(total):
    np.testing.assert_array_equal(drawn(total), np.arange(total))


def test_of_many_matches_an_even_part_is_drawn():
    shown = drawn(10 * MAX_LINES)
    assert len(shown) == MAX_LINES
    assert (shown[0], shown[-1]) == (0, 10 * MAX_LINES - 1)
    assert set(np.diff(shown)) <= {10, 11}


def test_wrong_ones_are_drawn_first_and_three_pixels_are_correct():
    (wrong, first), (correct, second) = coloured(np.array([0.0, 3.0, 3.01, np.inf]))
    assert (first, second) == (WRONG, CORRECT)
    assert wrong.tolist() == [False, False, True, True]
    assert correct.tolist() == [True, True, False, False]
