"""Drawings are well-formed, show what they are given, where it belongs, and escape every text."""

from xml.etree import ElementTree

import pytest

from evaluation.report.charts import Line, bar_axis, interval_bar, line_chart, swatch, ticks

HOSTILE = '<script>alert("x")</script>&'


def parsed(svg):
    return ElementTree.fromstring(str(svg))


def texts(svg):
    return ["".join(text.itertext()) for text in parsed(svg).iter("text")]


def numbers(text):
    return [float(number) for number in text.replace(",", " ").split()]


@pytest.mark.parametrize(
    ("low", "high", "whole", "expected"),
    [
        (0, 1, False, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.31, 0.72, False, [0.3, 0.4, 0.5, 0.6, 0.7, 0.8]),
        (-0.013, 0.031, False, [-0.02, -0.01, 0, 0.01, 0.02, 0.03, 0.04]),
        (1, 2, True, [1, 2]),
        (1, 25, True, [0, 5, 10, 15, 20, 25]),
        (5, 5, True, [5, 6]),
        (0, 0, False, [0, 0.2]),
    ],
)
def test_ticks_are_round_and_enclose_the_values(low, high, whole, expected):
    assert ticks(low, high, whole=whole) == pytest.approx(expected)


def test_a_line_goes_where_its_values_say_and_the_band_around_it():
    line = Line("dice", 0, [(1, 0.2), (2, 0.8)], band=[(0.1, 0.3), (0.7, 0.9)])
    svg = parsed(line_chart([line], "threshold", "MMA"))
    (drawn,) = svg.iter("polyline")
    x1, y1, x2, y2 = numbers(drawn.get("points"))
    assert x1 < x2
    assert y1 > y2
    (band,) = svg.iter("polygon")
    ys = numbers(band.get("points"))[1::2]
    assert ys[0] > y1 > ys[3]
    assert ys[1] > y2 > ys[2]


def test_one_epoch_is_a_dot():
    svg = parsed(line_chart([Line("dice", 0, [(1, 0.5)])], "epoch", "loss"))
    assert len(list(svg.iter("circle"))) == 1
    assert not list(svg.iter("polyline"))


def test_texts_are_escaped():
    svg = line_chart([Line(HOSTILE, 9, [(1, 0.5), (2, 0.6)], thin=True)], HOSTILE, HOSTILE)
    assert "<script" not in str(svg)
    assert HOSTILE in texts(svg)


def test_a_whisker_spans_the_interval_and_the_dot_lies_on_the_value():
    svg = parsed(interval_bar(0.05, 0.0, 0.1, 0.1, "better"))
    (dot,) = svg.iter("circle")
    zero, whisker = (path.get("d") for path in svg.iter("path"))
    start, end = numbers(whisker.replace("M", "").replace("H", " "))[::2]
    assert start == numbers(zero.replace("M", "").replace("V", " "))[0]
    assert float(dot.get("cx")) == pytest.approx((start + end) / 2, abs=0.1)
    assert "better" in svg.get("class")


def test_what_lies_beyond_the_axis_is_an_arrow_at_its_end():
    svg = parsed(interval_bar(-0.5, -0.6, -0.4, 0.1, "worse"))
    assert not list(svg.iter("circle"))
    (arrow,) = svg.iter("polygon")
    tip, *back = numbers(arrow.get("points"))[::2]
    assert all(tip < x for x in back)


def test_without_an_interval_there_is_no_whisker():
    svg = parsed(interval_bar(0.05, None, None, 0.1, "none"))
    assert len(list(svg.iter("path"))) == 1


def test_the_axis_names_its_ticks_with_their_sign():
    assert texts(bar_axis(0.1)) == ["-0.1", "-0.05", "0", "+0.05", "+0.1"]


def test_thirty_two_looks_differ():
    assert len({str(swatch(look)) for look in range(32)}) == 32
