"""Makes the tables that MLflow shows: those of a run, and a sweep's list of runs with columns and charts.

MLflow's list of runs shows no figures until somebody picks columns, and its charts are in alphabetical order.
A choice of columns and charts can be shared: a tag of the experiment holds it, and a link names the tag.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.evaluation import Evaluation
from evaluation.metrics.mma import THRESHOLDS
from evaluation.metrics.pair_metrics import PAIR_METRICS, ranked
from r2d2.training.metrics import LOSSES, PAIRS_PER_SECOND

VIEW = "r2d2"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
# The name of a run, variant and seed, beside which no other column repeats them.
_NAME = "attributes.`Run Name`"

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


@dataclass(frozen=True)
class LoggedTable:
    """A LoggedTable holds rows of equal length under named columns: texts, numbers, booleans or None."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            assert len(row) == len(self.columns), f"{len(row)} cells for {len(self.columns)} columns: {row}"

    def json(self) -> str:
        """Returns the JSON that MLflow shows as a table; numbers that are not finite become null."""
        rows = [[_finite_or_none(value) for value in row] for row in self.rows]
        return json.dumps({"columns": list(self.columns), "data": rows})


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def mma_table(evaluation: Evaluation) -> LoggedTable:
    """Makes the table of MMA at each threshold (pixels): overall, then each split that has pairs."""
    shares = {name: values.tolist() for name, values in evaluation.table().items()}
    rows = zip(THRESHOLDS, *shares.values(), strict=True)
    return LoggedTable(("threshold", *shares), tuple(rows))


def pair_table(evaluation: Evaluation) -> LoggedTable:
    """Makes a row per pair: sequence, split, image, counts, MMA at 1 to 15 pixels, other metrics.

    The table has null for an infinite corner error (no homography) and for a localisation error that is NaN
    (no keypoint was found again).
    """
    rows = [pair.columns() for pair in evaluation.pairs]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    # A metric without a field of its own is computed from the others.
    for metric in (one for one in PAIR_METRICS.values() if one.of_one_pair and one.key not in columns):
        numbers = metric.numbers(evaluation.pairs)
        columns[metric.key] = [] if numbers is None else numbers.tolist()
    known = {k: v for k, v in columns.items() if k == "split" or any(one is not None for one in v)}
    return LoggedTable(tuple(known), tuple(zip(*known.values(), strict=True)))


def view_state(metric: str, mode: str, roles: Sequence[str]) -> str:
    """Returns the value of the experiment's tag: the deciding score, the others, the losses.

    Rows are grouped by variant and show the mean over its seeds; charts begin with the deciding score.

    Args:
        metric: the score that decides; the best run comes first.
        mode: `max` or `min`.
        roles: the benchmarks.
    """
    scores = [f"{role}/{name}" for role in roles for name in ranked()]
    figures = [metric, *(name for name in (*scores, *LOSSES, PAIRS_PER_SECOND) if name != metric)]
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
    """Arranges charts of figures by step in sections by role; MLflow adds the others it knows after them."""
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
    """Returns the address of the table.

    Args:
        server: of the pages, `http://HOST:PORT`.
        experiment_id: of the sweep.
    """
    page = f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs"
    return f"{page}?viewStateShareKey={VIEW}&workflowType=machine_learning"


def _width(column: str) -> int:
    """Returns the pixels in which a column's heading can be read; a run's name is longer than its heading."""
    return 330 if column == _NAME else 8 * len(column.partition("`")[2]) + 40
