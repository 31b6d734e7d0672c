"""A duration is given in the unit that fits it."""

import pytest

from runner.estimate import duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min"), (7199, "120 min"), (7200, "2.0 h"), (360000, "100.0 h")],
)
def test_the_unit_fits_the_size(seconds, text):
    assert duration(seconds) == text
