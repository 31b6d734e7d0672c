from xml.etree import ElementTree

import numpy as np
import pytest

from evaluation.report.charts import mma_curves


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
