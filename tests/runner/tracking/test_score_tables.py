"""MLflow's tables of an evaluation hold everything that is known of a pair."""

import json
import math
from dataclasses import replace

from evaluation.metrics.mma import THRESHOLDS
from runner.tracking.score_tables import mma_table, pair_table

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
