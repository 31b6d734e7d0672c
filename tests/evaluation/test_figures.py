import io

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from PIL import Image

from evaluation.examples import MatchExample
from evaluation.figures import (
    match_caption,
    match_pictures,
    match_thumbnail,
    mma_curves,
)
from evaluation.match_lines import CORRECT, MAX_LINES, WRONG


def drawn(figure) -> np.ndarray:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return np.asarray(Image.open(buffer).convert("RGB"))


def curve(level: float) -> np.ndarray:
    return level * np.linspace(0.3, 1, 15)


@pytest.mark.parametrize("count", [0, 1, 9, 40])
def test_curves(count):
    figure = mma_curves({f"variant {index}": curve(0.5 + index / 100) for index in range(count)})
    (axes,) = figure.axes
    curves = [line for line in axes.lines if len(line.get_xdata()) == 15]
    assert len(curves) == count
    assert drawn(figure).std() > 5
    looks = {(line.get_color(), line.get_linestyle()) for line in curves}
    assert len(looks) == min(count, 32)


def test_the_legend_is_sorted_by_mma_at_3():
    figure = mma_curves({"low": curve(0.2), "high": curve(0.9)})
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["0.360  high", "0.080  low"]


@pytest.fixture
def example():
    def make(errors, sizes=((80, 100), (90, 60))):
        rng = np.random.default_rng(0)
        images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
        points = [rng.uniform(0, 60, (1000, 2)).astype(np.float32) for _ in sizes]
        matches = np.stack([np.arange(len(errors))] * 2, axis=1)
        return MatchExample("v_wall", 4, *images, *points, matches, np.array(errors, dtype=np.float64))

    return make


def lines(figure):
    """Colour -> number of lines."""
    return {to_hex(c.get_color()[0]): len(c.get_segments()) for c in line_collections(figure)}


def line_collections(figure):
    return [c for c in figure.axes[0].collections if isinstance(c, LineCollection)]


def test_correct_matches_are_green_and_wrong_ones_red(example):
    figure = match_pictures(example([0.5, 3.0, 3.1, np.inf, 90]))
    assert lines(figure) == {CORRECT: 2, WRONG: 3}
    assert "2 of 5 matches within 3 px" in figure.axes[0].get_title()
    assert drawn(figure).std() > 5


def test_a_line_joins_the_two_keypoints(example):
    pair = example([0.0])
    figure = match_pictures(pair)
    (segment,) = (s for c in line_collections(figure) for s in c.get_segments())
    np.testing.assert_allclose(segment, [pair.keypoints1[0], pair.keypoints2[0] + [100, 0]], rtol=1e-6)


def test_many_matches_are_thinned_and_the_title_says_so(example):
    figure = match_pictures(example([0.0] * 500 + [9.0] * 500))
    assert lines(figure) == {CORRECT: MAX_LINES // 2, WRONG: MAX_LINES // 2}
    assert f"{MAX_LINES} drawn" in figure.axes[0].get_title()


def test_a_pair_without_matches(example):
    figure = match_pictures(example([]))
    assert "0 of 0 matches" in figure.axes[0].get_title()
    assert drawn(figure).std() > 5


def test_intervals_are_bands_behind_the_curves():
    band = np.stack([curve(0.4), curve(0.6)])
    figure = mma_curves({"dice": curve(0.5), "cosine": curve(0.7)}, {"dice": band})
    (drawn_band,) = figure.axes[0].collections
    ys = drawn_band.get_paths()[0].vertices[:, 1]
    assert (ys.min(), ys.max()) == pytest.approx((band.min(), band.max()))


def test_a_thumbnail_has_the_width_asked_for_and_the_colours_of_its_matches(example):
    pair = example([0.5] * 30 + [9.0] * 30)
    picture = match_thumbnail(pair, width=320)
    assert picture.size == (320, 180)
    red, green, blue = np.asarray(picture, dtype=np.int64).transpose(2, 0, 1)
    assert (green - red > 60).any()
    assert (red - blue > 60).any()
    assert "30 of 60 matches within 3 px" in match_caption(pair)
