from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from evaluation.pictures.examples import MatchExample
from evaluation.pictures.match_lines import MAX_LINES
from evaluation.pictures.matches import (
    CAPTION_HEIGHT,
    PICTURE_WIDTH,
    match_caption,
    match_picture,
    match_thumbnail,
    mma_curves,
)


def curve(level: float) -> np.ndarray:
    return level * np.linspace(0.3, 1, 15)


SVG = "{http://www.w3.org/2000/svg}"


def elements(picture, name):
    return list(ElementTree.fromstring(picture).iter(SVG + name))


@pytest.mark.parametrize("count", [1, 9, 40])
def test_curves(count):
    picture = mma_curves({f"variant {index}": curve(0.5 + index / 100) for index in range(count)})
    curves = elements(picture, "polyline")
    assert len(curves) == count
    assert all(len(line.get("points").split()) == 15 for line in curves)
    looks = {(line.get("class"), line.get("stroke-dasharray")) for line in curves}
    assert len(looks) == min(count, 32)


def test_the_legend_is_sorted_by_mma_at_3():
    picture = mma_curves({"low": curve(0.2), "high": curve(0.9)})
    texts = [text.text for text in elements(picture, "text")]
    assert texts[-3:] == ["MMA@3", "0.360  high", "0.080  low"]


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
    # A line of black letters in the middle, and paper around it.
    assert dark.sum() > 500
    assert not dark[:, :100].any()
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
    drawn = np.stack(np.nonzero(np.abs(changed[CAPTION_HEIGHT:]).max(axis=2) > 60)[::-1], axis=1)
    scale = PICTURE_WIDTH / 160
    start, end = pair.keypoints1[0] * scale, (pair.keypoints2[0] + [100, 0]) * scale
    for place in (start, (start + end) / 2, end):
        assert np.linalg.norm(drawn - place, axis=1).min() < 6


def test_a_pair_without_matches(example):
    assert np.asarray(match_picture(example([]))).std() > 5


def test_intervals_are_bands_behind_the_curves():
    band = np.stack([curve(0.4), curve(0.6)])
    picture = mma_curves({"dice": curve(0.5), "cosine": curve(0.7)}, {"dice": band})
    (polygon,) = elements(picture, "polygon")
    assert len(polygon.get("points").split()) == 2 * 15


def test_a_thumbnail_has_the_width_asked_for_and_the_colours_of_its_matches(example):
    pair = example([0.5] * 30 + [9.0] * 30)
    picture = match_thumbnail(pair, width=320)
    assert picture.size == (320, 180)
    red, green, blue = np.asarray(picture, dtype=np.int64).transpose(2, 0, 1)
    assert (green - red > 60).any()
    assert (red - blue > 60).any()
    assert "30 of 60 matches within 3 px" in match_caption(pair)
