from dataclasses import replace

import numpy as np
import pytest

from evaluation.benchmarks.hpatches import split_of
from evaluation.evaluation import Evaluation, PairScore, Timings
from evaluation.protocols import PROTOCOLS
from evaluation.statistics.contrasts import contrast
from evaluation.statistics.variants import Variant
from r2d2.collapse import CollapseSigns


def evaluation(shares, network="a", protocol="d2net", benchmark_digest="b" * 64):
    """`shares`: sequence -> the share of each of its pairs, the same at all thresholds."""
    pairs = tuple(
        PairScore(sequence, split_of(sequence), image, 500, 500, 100, (share,) * 15)
        for sequence, of_pairs in shares.items()
        for image, share in enumerate(of_pairs, start=2)
    )
    return Evaluation(
        "net",
        network * 64,
        PROTOCOLS[protocol],
        "bench",
        benchmark_digest,
        pairs,
        Timings(1, 1),
        CollapseSigns(0.2, 0.8),
    )


def test_scores_are_means_over_the_pairs_of_a_sequence():
    first = evaluation({"v_b": [0.2, 0.4], "i_a": [0.5, 0.7]}, "1")
    second = evaluation({"v_b": [0.0, 0.0], "i_a": [1.0, 1.0]}, "2")
    variant = Variant("dice", (first, second), seeds=(0, 1))
    assert variant.sequences == {"i_a": "illumination", "v_b": "viewpoint"}
    np.testing.assert_allclose(
        variant.scores(("mma_1px", "mma_15px")).values, [[[0.6, 0.6], [0.3, 0.3]], [[1, 1], [0, 0]]]
    )


def test_each_threshold_is_a_column_of_its_own():
    scored = evaluation({"v_a": [0.5]})
    shares = tuple(float(t) for t in range(1, 16))
    scored = replace(scored, pairs=(replace(scored.pairs[0], mma=shares),))
    np.testing.assert_array_equal(
        Variant("dice", (scored,)).scores([f"mma_{t}px" for t in (1, 3, 5, 10)]).values, [[[1, 3, 5, 10]]]
    )


def test_the_order_of_the_pairs_does_not_matter():
    scored = evaluation({"v_a": [0.1, 0.2], "v_b": [0.3, 0.4]})
    turned = replace(scored, pairs=scored.pairs[::-1], model_digest="9" * 64)
    scores = Variant("dice", (scored, turned)).scores(["mma_3px"]).values
    np.testing.assert_array_equal(scores[0], scores[1])


def test_equal_seeds_are_paired_whatever_their_order():
    def variant(shares, seeds):
        scored = (evaluation({"v_a": [share]}, str(number)) for number, share in enumerate(shares))
        return Variant("any", tuple(scored), seeds).scores(["mma_3px"])

    dice = variant([0.5, 0.6, 0.7], (0, 1, 2))
    paired = contrast(dice, variant([0.6, 0.4, 0.5], (2, 0, 1)))
    assert len(paired) == 1
    np.testing.assert_allclose(paired[0].ravel(), [0.1, 0.1, 0.1])
    for others in ((0, 1, 3), None):
        unrelated = contrast(dice, variant([0.6, 0.4, 0.5], others))
        assert len(unrelated) == 2
        np.testing.assert_allclose(sum(s.mean() for s in unrelated), 0.1)


def test_variants_have_the_same_seeds_only_if_they_are_known():
    networks = (evaluation({"v_a": [0.5]}, "1"), evaluation({"v_a": [0.5]}, "2"))
    one, turned, other, unknown = (Variant("a", networks, s) for s in ((0, 1), (1, 0), (1, 2), None))
    assert one.has_seeds_of(turned)
    assert len(contrast(one.scores(["mma_3px"]), turned.scores(["mma_3px"]))) == 1
    assert not any(one.has_seeds_of(row) or row.has_seeds_of(one) for row in (other, unknown))
    assert not unknown.has_seeds_of(unknown)


@pytest.mark.parametrize(
    ("networks", "seeds", "reason"),
    [
        ("", None, "variant 'dice' has no evaluation"),
        ("aba", (0, 1, 2), "holds network aaaaaaaaaaaa 2 times"),
        ("ab", (0, 0), r"the seeds \[0, 0\] for 2 evaluation"),
        ("ab", (0,), r"the seeds \[0\] for 2 evaluation"),
        ("a", (0, 0), r"the seeds \[0, 0\] for 1 evaluation"),
    ],
)
def test_a_variant_holds_different_networks_with_a_seed_each(networks, seeds, reason):
    with pytest.raises(ValueError, match=reason):
        Variant("dice", tuple(evaluation({"v_a": [0.5]}, network) for network in networks), seeds)


def test_what_was_not_scored_alike_is_refused_with_the_difference():
    shares = {"v_a": [0.5, 0.5]}
    usual = evaluation(shares, "1")
    top_1000 = PROTOCOLS["d2net"].with_extraction(replace(usual.protocol.extraction, top_k=1000))
    resized = replace(usual.protocol, name="small", shorter_side=480)
    repeated = usual.pairs[:1] * 2 + usual.pairs[1:]
    for other, reason in (
        (
            replace(usual, protocol=top_1000),
            r"different protocols \(name d2net\[top_k=1000\] and d2net; extraction.top_k 1000 and 5000\)",
        ),
        (
            replace(usual, protocol=resized),
            r"different protocols \(name small and d2net; images.shorter_side 480 and None\)",
        ),
        (
            evaluation(shares, benchmark_digest="c" * 64),
            "different images or homographies .* digest cccccccccccc, and bench, digest bbbbbbbbbbbb",
        ),
        (evaluation({"v_a": [0.5]}), "only one of them has a score of pair 1-3 of sequence 'v_a'"),
        (replace(usual, pairs=repeated), "only one of them has a score of pair 1-2 of sequence 'v_a'"),
    ):
        with pytest.raises(ValueError, match=f"cannot compare 'dice' with 'dice': .*{reason}"):
            Variant("dice", (usual, replace(other, model_digest="2" * 64)))


def test_protocols_that_differ_in_name_alone_are_compared():
    usual = evaluation({"v_a": [0.5]}, "1")
    renamed = replace(usual, protocol=replace(usual.protocol, name="mine"), model_digest="2" * 64)
    assert len(Variant("dice", (usual, renamed)).evaluations) == 2


def test_sequences_of_unequal_size_are_refused():
    variant = Variant("dice", (evaluation({"v_a": [0.5, 0.5], "v_b": [0.5]}),))
    with pytest.raises(ValueError, match="unequally many pairs, v_b 1 and v_a 2"):
        variant.scores(["mma_3px"])
