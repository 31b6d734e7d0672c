"""A metric that is added to the list of metrics appears wherever figures are shown."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from evaluation.metrics.figure import PairMetric
from evaluation.metrics.pair_metrics import PAIR_METRICS
from evaluation.report.page import to_html
from evaluation.report.report import About
from evaluation.report.text import to_csv, to_json, to_markdown
from evaluation.statistics.variants import Variant
from runner.compare.report import compare_networks
from runner.compare.rows import find_ordering
from runner.compare.terminal import evaluation_tables, means
from runner.record.history import Record
from runner.sweep.progress import SweepProgress, TrialProgress
from runner.tracking.tables import pair_table, view_state

KEY, TITLE = "matched_keypoints", "share of keypoints that are matched"


@pytest.fixture
def scored(monkeypatch, make_evaluation):
    def numbers(pairs):
        return np.array([pair.matches / pair.keypoints1 for pair in pairs])

    monkeypatch.setitem(PAIR_METRICS, KEY, PairMetric(KEY, numbers, TITLE, decimals=2, rank=1))
    return make_evaluation()


def printed(*parts):
    console = Console(file=io.StringIO(), width=300)
    console.print(*parts)
    return console.file.getvalue()


def test_it_is_a_row_of_what_evaluate_prints_with_its_decimals(scored):
    [line] = [line for line in printed(*evaluation_tables(scored)).splitlines() if TITLE in line]
    assert [cell.strip() for cell in line.strip("│").split("│")] == [TITLE, "0.45", "0.50", "0.40"]


def test_it_is_in_every_form_of_a_comparison(scored):
    report = compare_networks([Variant("a", (scored,))], find_ordering(f"{KEY}_viewpoint"), About("t"))
    assert report.mean("a").mean == 0.4
    assert "matched keypoints viewpoint" in printed(means(report))
    for write in (to_html, to_markdown):
        assert "matched keypoints" in write(report)
    assert KEY in to_csv(report)
    other = compare_networks([Variant("a", (scored,))], find_ordering("mma_3px"), About("t"))
    assert "matched keypoints" in printed(means(other))
    assert "matched keypoints" in to_html(other)
    assert json.loads(to_json(other))["variants"][0]["figures"][KEY] == 0.45


def test_it_is_in_mlflows_tables(scored):
    assert (
        f"metrics.`validation/{KEY}`"
        in json.loads(view_state("a/b", "max", ["validation"]))["selectedColumns"]
    )
    table = pair_table(scored)
    assert [row[table.columns.index(KEY)] for row in table.rows] == [0.5, 0.4]


def test_it_is_in_the_lines_of_a_running_sweep(scored):
    console = Console(file=io.StringIO(), width=160)
    trial = TrialProgress("a", 1, None)
    progress = SweepProgress(console, "sweep", "validation/mma_3px", {"a": trial})
    metrics = {f"validation/{key}": value for key, value in scored.scalars().items()}
    progress.event("a", Record(1, "validation", metrics, "uri"))
    line = console.file.getvalue().strip()
    assert line == f"a: epoch 1 validation mma_1px 0.050 mma_3px 0.150 {KEY} 0.450"
