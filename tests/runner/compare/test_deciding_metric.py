"""One rule says what orders a comparison: the metric, its benchmark, and whether small is good."""

import pytest

from runner.compare.rows import Ordering, find_ordering, mode_of
from runner.record.definition import SweepDefinition

BENCHMARKS = {role: {"protocol": role, "digest": "d"} for role in ("validation", "hpatches")}


def sweep(metric: str = "hpatches/mma_3px", mode: str = "max", benchmarks=BENCHMARKS) -> SweepDefinition:
    return SweepDefinition("mine", metric, mode, {}, {}, "", benchmarks, "")


@pytest.mark.parametrize(
    ("metric", "mode"),
    [
        ("train/loss_total", "min"),
        ("loss_peakiness", "min"),
        ("validation/localisation_error_px", "min"),
        ("localisation_error_px_viewpoint", "min"),
        ("hpatches/mma_3px", "max"),
        ("validation/keypoints", "max"),
    ],
)
def test_losses_and_errors_are_to_be_small(metric, mode):
    assert mode_of(metric) == mode_of(metric, sweep()) == mode
    other = {"min": "max", "max": "min"}[mode]
    assert mode_of(metric, sweep(metric, other)) == other


@pytest.mark.parametrize(
    ("metric", "role", "order"),
    [
        (None, "", ("hpatches", "hpatches/mma_3px", "max")),
        (None, "validation", ("validation", "validation/mma_3px", "max")),
        ("mma_1px", "", ("hpatches", "hpatches/mma_1px", "max")),
        ("mma_1px", "validation", ("validation", "validation/mma_1px", "max")),
        ("train/loss_total", "", ("hpatches", "train/loss_total", "min")),
        ("train/loss_total", "validation", ("validation", "train/loss_total", "min")),
        ("validation/mma_5px", "validation", ("validation", "validation/mma_5px", "max")),
    ],
)
def test_a_sweep_completes_what_was_not_said(metric, role, order):
    assert find_ordering(metric, role, sweep()) == Ordering(*order)


@pytest.mark.parametrize(
    ("metric", "role", "order"),
    [
        (None, "", ("", "mma_3px", "max")),
        (None, "hpatches", ("hpatches", "hpatches/mma_3px", "max")),
        ("train/loss_total", "", ("", "train/loss_total", "min")),
        ("hpatches/mma_1px", "", ("hpatches", "hpatches/mma_1px", "max")),
    ],
)
def test_without_a_sweep_the_role_may_be_unknown(metric, role, order):
    assert find_ordering(metric, role) == Ordering(*order)


def test_a_sweep_that_a_loss_decides_is_compared_on_its_first_benchmark():
    assert sweep("train/loss_total", "min").role == "validation"
    assert sweep("train/loss_total", "min", {}).role == ""


def test_contradictions_and_unknown_benchmarks_are_refused():
    with pytest.raises(ValueError, match="is a score on 'hpatches', but --role is 'validation'"):
        find_ordering("hpatches/mma_3px", "validation", sweep())
    with pytest.raises(ValueError, match="has no mine/mma_3px: it is scored on validation, hpatches"):
        find_ordering("mine/mma_3px", "", sweep())
