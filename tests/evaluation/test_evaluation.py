import json

import numpy as np
import pytest

from evaluation.collapse import CollapseSigns
from evaluation.evaluation import Evaluation, PairScore, Timings
from evaluation.evaluator import PROTOCOLS
from evaluation.hpatches import split_of


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
    expected = {f"mma_{t}px{s}" for t in (1, 3, 5, 10) for s in ("", "_illumination", "_viewpoint")}
    expected |= {"keypoints", "matches", "keypoints_at_cap", "repeatability_std", "mean_reliability"}
    assert set(scalars) == expected


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
    assert stored["timings"] == {"extraction": 2.5, "matching": 0.5}
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
        (lambda v: v.update(timings=None), "no stored evaluation"),
        (lambda v: v.update(pairs=[]), "no pairs"),
    ],
)
def test_damaged_json_is_refused(damage, reason):
    stored = evaluation(pair("v_a")).to_json()
    damage(stored)
    with pytest.raises(ValueError, match=reason):
        Evaluation.from_json(stored)
