"""What MLflow's pages show of a sweep: columns and their order, rows grouped by variant, charts in order.

MLflow shows no figures in its table until somebody picks columns, and charts in alphabetical order. What was
picked can be shared: it lies in a tag of the experiment, and a link names the tag.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

SHARE = "r2d2"
TAG = f"mlflow.sharedViewState.{SHARE}"
# The name of a run, variant and seed, beside which no other column repeats them.
_NAME = "attributes.`Run Name`"
_FIGURES = ("mma_3px", "mma_1px", "mma_5px", "auc_5px_poselib", "repeatability_3px", "keypoints")
_TRAINING = (
    "train/loss_total",
    "train/loss_reliability",
    "train/loss_similarity",
    "train/loss_peakiness",
    "train/pairs_per_second",
)

# A chart of one figure by step, as MLflow's pages make one.
_LINE = {
    "type": "LINE",
    "runsCountToCompare": 10,
    "deleted": False,
    "isGenerated": True,
    "lineSmoothness": 0,
    "xAxisScaleType": "linear",
    "scaleType": "linear",
    "range": {},
    "xAxisKey": "step",
    "selectedXAxisMetricKey": "",
    "yAxisKey": "metric",
    "yAxisExpressions": [],
    "ignoreOutliers": False,
    "useGlobalXaxisKey": True,
    "useGlobalLineSmoothing": True,
}


def view_state(metric: str, mode: str, roles: Sequence[str]) -> str:
    """The value of the experiment's tag: the deciding score, the others, the losses.

    Rows are grouped by variant and show the mean over its seeds; charts begin with the deciding score.

    Args:
        metric: the score that decides; the best run comes first.
        mode: `max` or `min`.
        roles: the benchmarks.
    """
    scores = [f"{role}/{name}" for role in roles for name in _FIGURES]
    figures = [metric, *(name for name in (*scores, *_TRAINING) if name != metric)]
    columns = [f"metrics.`{name}`" for name in figures]
    state = {
        "searchFilter": "",
        "orderByKey": f"metrics.`{metric}`",
        "orderByAsc": mode == "min",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": [_NAME, *columns],
        "columnWidths": {column: _width(column) for column in (_NAME, *columns)},
        "groupBy": {
            "aggregateFunction": "average",
            "groupByKeys": [{"mode": "tag", "groupByData": "variant"}],
        },
        **_charts(figures),
    }
    return json.dumps(state)


def _charts(figures: Sequence[str]) -> dict[str, Any]:
    """Charts of figures by step, in sections by role; MLflow adds what else it knows below and after them."""
    sections = {role: f"r2d2-{role}" for role in dict.fromkeys(key.rpartition("/")[0] for key in figures)}
    return {
        "compareRunSections": [
            {"uuid": uuid, "name": role, "display": True, "isReordered": True}
            for role, uuid in sections.items()
        ],
        "isAccordionReordered": True,
        "compareRunCharts": [
            {**_LINE, "uuid": f"r2d2-{key}", "metricSectionId": sections[role], "metricKey": key}
            | {"displayName": name}
            for key in figures
            for role, _, name in [key.rpartition("/")]
        ],
    }


def view_link(server: str, experiment_id: str) -> str:
    """The address of the table.

    Args:
        server: of the pages, `http://HOST:PORT`.
        experiment_id: of the sweep.
    """
    page = f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs"
    return f"{page}?viewStateShareKey={SHARE}&workflowType=machine_learning"


def _width(column: str) -> int:
    """Pixels in which a column's heading can be read; a run's name is longer than its heading."""
    return 330 if column == _NAME else 8 * len(column.partition("`")[2]) + 40
