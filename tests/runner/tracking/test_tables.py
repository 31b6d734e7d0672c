"""MLflow's tables hold all that is known of a pair; its list of runs shows the deciding score first."""

import json
import math
from dataclasses import replace

import pytest

from evaluation.metrics.mma import THRESHOLDS
from runner.tracking.run import rounded
from runner.tracking.tables import LoggedTable, mma_table, pair_table, view_state

COUNTS = ("sequence", "split", "image", "keypoints1", "keypoints2", "matches")
SHARES = tuple(f"mma_{threshold}px" for threshold in THRESHOLDS)


def test_every_number_of_a_pair_is_a_column(make_evaluation):
    scored = make_evaluation()
    measured = replace(
        scored.pairs[0],
        corner_error_dlt=2.5,
        corner_error_poselib=math.inf,
        inliers_poselib=0,
        repeatability=(0.25, 0.5),
        localisation_error=math.nan,
        matching_score=0.75,
        coverage1=0.1,
        coverage2=0.2,
    )
    shown = json.loads(pair_table(replace(scored, pairs=(measured, *scored.pairs[1:]))).json())
    first, second = (dict(zip(shown["columns"], row, strict=True)) for row in shown["data"][:2])
    assert tuple(shown["columns"][:21]) == COUNTS + SHARES
    assert {key: first[key] for key in shown["columns"][21:]} == {
        "repeatability_1px": 0.25,
        "repeatability_3px": 0.5,
        "corner_error_dlt_px": 2.5,
        "corner_error_poselib_px": None,
        "inliers_poselib": 0,
        "localisation_error_px": None,
        "matching_score": 0.75,
        "coverage1": 0.1,
        "coverage2": 0.2,
    }
    assert second["repeatability_1px"] is None
    assert len(shown["data"]) == len(scored.pairs)


def test_what_a_protocol_leaves_out_is_no_column(make_evaluation):
    scored = make_evaluation()
    bare = tuple(replace(pair, **dict.fromkeys(_OPTIONAL)) for pair in scored.pairs)
    assert pair_table(replace(scored, pairs=bare)).columns == COUNTS + SHARES


_OPTIONAL = (
    *("corner_error_dlt", "corner_error_poselib", "inliers_poselib", "repeatability"),
    *("localisation_error", "matching_score", "coverage1", "coverage2"),
)


def test_mma_by_threshold_and_split(make_evaluation):
    scored = make_evaluation()
    table = mma_table(scored)
    assert table.columns == ("threshold", "overall", *scored.splits)
    assert [row[0] for row in table.rows] == list(THRESHOLDS)
    assert [row[1] for row in table.rows] == scored.mma().tolist()


def state(metric, mode="max", roles=("validation", "hpatches")):
    return json.loads(view_state(metric, mode, roles))


def test_rows_are_variants_with_the_mean_over_seeds():
    assert state("validation/mma_3px")["groupBy"] == {
        "aggregateFunction": "average",
        "groupByKeys": [{"mode": "tag", "groupByData": "variant"}],
    }


@pytest.mark.parametrize("metric", ["validation/mma_3px", "hpatches/auc_5px_poselib", "validation/own"])
def test_the_deciding_score_is_the_first_chart_and_column_and_orders_the_rows(metric):
    found = state(metric)
    assert found["orderByKey"] == f"metrics.`{metric}`"
    assert found["selectedColumns"][0] == f"metrics.`{metric}`"
    assert found["compareRunCharts"][0]["metricKey"] == metric
    sections = {section["uuid"]: section["name"] for section in found["compareRunSections"]}
    assert next(iter(sections.values())) == metric.partition("/")[0]
    for chart in found["compareRunCharts"]:
        assert chart["metricKey"] == f"{sections[chart['metricSectionId']]}/{chart['displayName']}"


def test_curves_that_matter_come_before_those_of_workers():
    roles = [section["name"] for section in state("validation/mma_3px")["compareRunSections"]]
    assert roles == ["validation", "hpatches", "train"]
    # Where nothing was picked MLflow sorts by name.
    assert sorted(["worker", "warning_signs", *roles])[-2:] == ["warning_signs", "worker"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.12648913338447382, 0.1265),
        (4.9623149607214145e-05, 4.962e-05),
        (119.4, 119.4),
        (123456.0, 123456.0),
        (16.452638626098633, 16.45),
        (0.0, 0.0),
    ],
)
def test_figures_have_the_digits_that_mean_something(value, shown):
    assert rounded(value) == shown


def test_a_table_shows_null_for_what_is_no_number():
    table = LoggedTable(("a", "b"), ((1, math.nan), ("x", math.inf)))
    assert json.loads(table.json()) == {"columns": ["a", "b"], "data": [[1, None], ["x", None]]}
