"""The table of runs on MLflow's pages: which columns, in which order, sorted by what.

MLflow shows no figures in its table until somebody picks columns. What was picked can be shared: it lies in a
tag of the experiment, and a link names the tag.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

SHARE = "r2d2"
TAG = f"mlflow.sharedViewState.{SHARE}"
_TAGS = ("variant", "seed")
_FIGURES = ("mma_3px", "mma_1px", "mma_5px", "auc_5px_poselib", "repeatability_3px", "keypoints")
_TRAINING = (
    "train/loss_total",
    "train/loss_reliability",
    "train/loss_similarity",
    "train/loss_peakiness",
    "train/pairs_per_second",
)


def view_state(metric: str, mode: str, roles: Sequence[str]) -> str:
    """The value of the experiment's tag: variant and seed, the deciding score, the others, the losses.

    Args:
        metric: the score that decides; the best run comes first.
        mode: `max` or `min`.
        roles: the benchmarks.
    """
    scores = [f"{role}/{name}" for role in roles for name in _FIGURES]
    figures = [metric, *(name for name in (*scores, *_TRAINING) if name != metric)]
    columns = [f"tags.`{name}`" for name in _TAGS] + [f"metrics.`{name}`" for name in figures]
    state = {
        "searchFilter": "",
        "orderByKey": f"metrics.`{metric}`",
        "orderByAsc": mode == "min",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": {column: _width(column) for column in columns},
    }
    return json.dumps(state)


def view_link(server: str, experiment_id: str) -> str:
    """The address of the table.

    Args:
        server: of the pages, `http://HOST:PORT`.
        experiment_id: of the sweep.
    """
    page = f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs"
    return f"{page}?viewStateShareKey={SHARE}&workflowType=machine_learning"


def _width(column: str) -> int:
    """Pixels in which a column's heading can be read; a variant's name is longer than its heading."""
    return 270 if column == "tags.`variant`" else 8 * len(column.partition("`")[2]) + 40
