"""What MLflow's pages show of a sweep: the deciding score first, the mean of each variant."""

import json

import pytest

from runner.tracking.run import rounded
from runner.tracking.run_table import view_state


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
