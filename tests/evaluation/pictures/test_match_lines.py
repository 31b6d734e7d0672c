import numpy as np
import pytest

from evaluation.pictures.match_lines import CORRECT, MAX_LINES, WRONG, coloured, drawn


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
