"""Studies whose truth is known, fewer than `python -m bench.power` makes: a gain is found, none is not."""

import numpy as np
import pytest
from click.testing import CliRunner

from bench import power


def test_a_gain_of_two_points_is_found_in_three_of_four_studies():
    """In 1,000 studies 88 % of these gains are found, and 4 % of the studies have a false verdict."""
    outcome = power.simulate(power.eight(0.02), studies=100, replicates=999)
    assert outcome.found >= 0.75
    assert outcome.false <= 0.1
    assert 0.91 <= outcome.covered <= 0.97


@pytest.mark.parametrize("how", [{}, {"seeds": 2}, {"heavy": True}, {"seeds": power.UNEQUAL}], ids=str)
def test_no_gain_is_seldom_found(how):
    outcome = power.simulate(power.eight(0.0, **how), studies=60, replicates=999)
    assert np.isnan(outcome.found)
    assert outcome.false <= 0.12
    assert 0.9 <= outcome.covered <= 0.985


def test_one_seed_says_nothing_about_a_loss():
    """Nine copies of one loss: these networks differ on other images too, and that is all that is said."""
    outcome = power.simulate(power.eight(0.0, seeds=1), studies=60, replicates=999)
    assert outcome.false == 0
    assert outcome.differing > 0.6


def test_the_figures_are_a_table():
    result = CliRunner().invoke(power.main, ["--studies", "5", "--only", "no gain, one seed"])
    assert result.exit_code == 0
    assert "no gain, one seed" in result.output
