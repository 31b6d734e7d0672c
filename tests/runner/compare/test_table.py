"""The comparison table: means over seeds, best first, nothing hidden."""

import csv
import io
import math

import pytest

from runner.compare.table import Outcome, cell, latest, rows, to_csv, to_markdown
from runner.record.history import TRAIN, Record

METRIC = "validation/mma_3px"


def outcome(variant, seed, value, epoch=2, warnings=()):
    return Outcome(f"{variant}-{seed}", variant, seed, epoch, {METRIC: value}, warnings)


def test_seeds_of_a_variant_share_a_row_with_mean_and_deviation():
    (row,) = rows([outcome("dice", 0, 0.4), outcome("dice", 1, 0.6)], METRIC, "max")
    assert row.mean(METRIC) == pytest.approx(0.5)
    assert row.deviation(METRIC) == pytest.approx(math.sqrt(0.02))
    assert cell(row, METRIC) == "0.500 ±0.141"


def test_one_seed_has_no_deviation():
    (row,) = rows([outcome("dice", 0, 0.4)], METRIC, "max")
    assert cell(row, METRIC) == "0.400"


@pytest.mark.parametrize(("mode", "order"), [("max", ["b", "a", "c"]), ("min", ["a", "b", "c"])])
def test_the_best_row_comes_first_and_one_without_a_score_last(mode, order):
    outcomes = [outcome("c", 0, math.nan), outcome("a", 0, 0.1), outcome("b", 0, 0.2)]
    assert [row.variant for row in rows(outcomes, METRIC, mode)] == order


def test_rows_of_fewer_epochs_stand_below_those_with_a_score():
    outcomes = [outcome("c", 0, math.nan), outcome("a", 0, 0.9, epoch=1), outcome("b", 0, 0.2)]
    assert [row.variant for row in rows(outcomes, METRIC, "max", below={"a"})] == ["b", "a", "c"]


def test_the_last_scored_epoch_counts_not_the_best():
    records = [
        Record(1, TRAIN, {"train/loss_total": 3.0}, "uri"),
        Record(1, "validation", {METRIC: 0.9}, "uri"),
        Record(2, TRAIN, {"train/loss_total": 2.0}, "uri"),
        Record(2, "validation", {METRIC: 0.5}, "uri"),
        Record(3, TRAIN, {"train/loss_total": 1.0}, "uri"),
    ]
    assert latest(records) == (2, {"train/loss_total": 2.0, METRIC: 0.5})


def test_a_trial_without_scores_shows_its_last_training():
    assert latest([Record(1, TRAIN, {"train/loss_total": 3.0}, "uri")]) == (1, {"train/loss_total": 3.0})
    assert latest([]) == (0, {})


def test_csv_and_markdown_carry_figures_and_warnings():
    table = rows(
        [outcome("dice", 0, 0.4, warnings=("the map is flat",)), outcome("dice", 1, 0.6)], METRIC, "max"
    )
    (line,) = list(csv.DictReader(io.StringIO(to_csv(table, METRIC))))
    assert float(line[f"{METRIC} mean"]) == pytest.approx(0.5)
    assert (line["seeds"], line["warnings"]) == ("2", "the map is flat")
    markdown = to_markdown(table, METRIC)
    assert "| dice | 2 | 2 | 0.500 ±0.141† |" in markdown
    assert "- † dice: the map is flat" in markdown
