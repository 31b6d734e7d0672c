import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest

from evaluation.benchmarks.hpatches import split_of
from evaluation.evaluation import Evaluation, PairScore, Timings
from evaluation.evaluator import PROTOCOLS
from r2d2.collapse import CollapseSigns


def pair(sequence, image=2, share=0.5, keypoints=(5000, 5000), matches=100):
    return PairScore(sequence, split_of(sequence), image, *keypoints, matches, (share,) * 15)


def evaluation(*pairs, protocol="d2net"):
    return Evaluation(
        "net",
        "a" * 64,
        PROTOCOLS[protocol],
        "bench",
        "b" * 64,
        pairs,
        Timings(2.5, 0.5),
        CollapseSigns(0.2, 0.8),
    )


def full_pair(sequence, image=2, **changes):
    """A pair with every metric."""
    usual = {
        "corner_error_dlt": 2.0,
        "corner_error_poselib": 0.5,
        "repeatability": (0.25, 0.5),
        "localisation_error": 1.5,
        "matching_score": 0.4,
        "coverage1": 0.3,
        "coverage2": 0.6,
    }
    return replace(pair(sequence, image), **{**usual, **changes})


def test_means_are_over_pairs():
    scores = evaluation(pair("i_a", share=1.0), pair("i_b", share=0.4), pair("v_c", share=0.1))
    np.testing.assert_allclose(scores.mma(), [0.5] * 15)
    np.testing.assert_allclose(scores.mma("illumination"), [0.7] * 15)
    assert scores.scalars()["mma_10px_viewpoint"] == pytest.approx(0.1)


def test_a_split_without_pairs_is_absent():
    scores = evaluation(pair("v_a"), pair("other"))
    assert list(scores.table()) == ["overall", "viewpoint"]
    assert not [name for name in scores.scalars() if "illumination" in name]
    assert "NaN" not in json.dumps(scores.to_json())
    with pytest.raises(ValueError, match="no illumination pairs"):
        scores.mma("illumination")


def test_the_first_image_is_counted_once():
    scores = evaluation(
        pair("v_a", 2, keypoints=(5000, 100)),
        pair("v_a", 3, keypoints=(5000, 200)),
        pair("v_b", 2, keypoints=(300, 400)),
    )
    scalars = scores.scalars()
    assert scalars["keypoints"] == (5000 + 100 + 200 + 300 + 400) / 5
    assert scalars["keypoints_at_cap"] == 1 / 5


def test_scalars_are_legal_metric_names_and_hold_no_timings():
    scalars = evaluation(pair("v_a"), pair("i_a")).scalars()
    expected = {f"mma_{t}px{s}" for t in (1, 3, 5, 6, 10) for s in ("", "_illumination", "_viewpoint")}
    expected |= {"keypoints", "matches", "keypoints_at_cap", "repeatability_std", "mean_reliability"}
    assert set(scalars) == expected


def test_scalars_of_every_metric():
    none = {"corner_error_poselib": math.inf, "localisation_error": math.nan}
    scores = evaluation(full_pair("i_a"), full_pair("v_b", corner_error_dlt=4.0, **none))
    scalars = scores.scalars()
    assert [scalars[f"mha_{t}px_dlt"] for t in (1, 3, 5)] == [0, 0.5, 1]
    assert [scalars[f"mha_{t}px_poselib"] for t in (1, 3, 5)] == [0.5, 0.5, 0.5]
    # From (0, 0) to (0.5, 1/2), then flat: (0.125 + 0.25) up to 1 px.
    assert scalars["auc_1px_poselib"] == pytest.approx(0.375)
    assert scalars["auc_5px_poselib"] == pytest.approx((0.125 + 4.5 * 0.5) / 5)
    assert (scalars["repeatability_1px"], scalars["repeatability_3px"]) == (0.25, 0.5)
    assert (scalars["localisation_error_px"], scalars["matching_score"]) == (1.5, 0.4)
    # Each image once: 0.3 and 0.6 of both sequences.
    assert scalars["coverage"] == pytest.approx(0.45)
    assert scalars["mha_3px_dlt_viewpoint"] == 0
    assert scalars["mha_3px_dlt_illumination"] == 1
    assert scalars["auc_5px_poselib_viewpoint"] == 0
    # A split in which nothing was found again has no mean distance.
    assert "localisation_error_px_viewpoint" not in scalars
    for name in scalars:
        assert re.fullmatch(r"[a-z0-9_]+", name)
    assert all(math.isfinite(value) for value in scalars.values())


def test_a_metric_that_one_pair_lacks_is_absent():
    scalars = evaluation(full_pair("v_a"), full_pair("v_a", 3, corner_error_poselib=None)).scalars()
    assert "mha_1px_dlt" in scalars
    assert not [name for name in scalars if "poselib" in name]


def test_what_is_infinite_or_unknown_is_null_in_json():
    lost = full_pair("v_a", corner_error_dlt=math.inf, localisation_error=math.nan)
    scores = evaluation(lost, full_pair("v_a", 3))
    stored = json.loads(json.dumps(scores.to_json(), allow_nan=False))
    assert (stored["pairs"][0]["corner_error_dlt"], stored["pairs"][0]["localisation_error"]) == (None, None)
    assert stored["pairs"][1]["repeatability"] == [0.25, 0.5]
    again = Evaluation.from_json(stored)
    assert again == scores
    assert again.pairs[0].corner_error_dlt == math.inf
    assert math.isnan(again.pairs[0].localisation_error)


def test_evaluations_of_earlier_versions_are_read():
    stored = evaluation(pair("v_a"), pair("i_a")).to_json()
    for key in ("protocol_digest", "protocol_settings", "arithmetic", "warnings"):
        del stored[key]
    # There was only one way then, today's exact one.
    del stored["settings"]["exact"]
    stored["timings"] = {"extraction": 2.5, "matching": 0.5}
    scores = Evaluation.from_json(stored)
    exact = replace(PROTOCOLS["d2net"].extraction, exact=True)
    assert scores.protocol == replace(PROTOCOLS["d2net"], extraction=exact)
    assert scores.scalars()["mma_3px"] == 0.5
    assert not [name for name in scores.scalars() if name.startswith(("mha", "auc", "coverage"))]


def test_features_without_a_network_have_no_signs_of_collapse():
    scores = replace(evaluation(pair("v_a")), collapse=None, arithmetic="files")
    assert "repeatability_std" not in scores.scalars()
    assert Evaluation.from_json(json.loads(json.dumps(scores.to_json()))) == scores


def test_warnings_are_kept():
    scores = replace(evaluation(pair("v_a")), warnings=("3 duplicates",))
    assert Evaluation.from_json(scores.to_json()).warnings == ("3 duplicates",)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_json_and_back(protocol):
    scores = evaluation(pair("v_a", share=1 / 3), pair("i_a"), pair("other"), protocol=protocol)
    stored = json.loads(json.dumps(scores.to_json(), allow_nan=False))
    assert Evaluation.from_json(stored) == scores


def test_json_holds_what_others_read():
    stored = evaluation(pair("v_a", matches=7)).to_json()
    assert stored["protocol"] == "d2net"
    assert stored["settings"]["top_k"] == 5000
    assert stored["benchmark_digest"] == "b" * 64
    assert stored["protocol_digest"] == PROTOCOLS["d2net"].digest
    assert stored["arithmetic"] == "float32"
    assert stored["timings"] == {"extraction": 2.5, "matching": 0.5, "metrics": 0.0, "reused": 0}
    assert stored["summary"]["mma"]["overall"] == [0.5] * 15
    assert stored["summary"]["mma_3px"] == 0.5
    assert stored["pairs"] == [
        {
            "sequence": "v_a",
            "image": 2,
            "keypoints1": 5000,
            "keypoints2": 5000,
            "matches": 7,
            "mma": [0.5] * 15,
        }
    ]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda v: v.pop("pairs"), "lacks 'pairs'"),
        (lambda v: v["pairs"][0].pop("matches"), "lacks 'matches'"),
        (lambda v: v["pairs"][0].update(mma=[1.0]), "1 shares; it must have 15"),
        (lambda v: v["settings"].update(top_k=-1), "top_k is -1"),
        (lambda v: v["settings"].update(colour="red"), "colour"),
        (lambda v: v["protocol_settings"].update(matcher="ratio"), "unknown matcher 'ratio'"),
        (lambda v: v["protocol_settings"]["estimators"][0].update(name="magic"), "estimator 'magic'"),
        (lambda v: v.update(timings=None), "no stored evaluation"),
        (lambda v: v.update(pairs=[]), "no pairs"),
    ],
)
def test_damaged_json_is_refused(damage, reason):
    stored = evaluation(pair("v_a")).to_json()
    damage(stored)
    with pytest.raises(ValueError, match=reason):
        Evaluation.from_json(stored)
