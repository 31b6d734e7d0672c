import json
import time
from dataclasses import replace

import numpy as np
import pytest

from evaluation.benchmarks.hpatches import split_of
from evaluation.evaluation import Evaluation, PairScore, Timings
from evaluation.metrics.mma import THRESHOLDS
from evaluation.protocols import PROTOCOLS
from evaluation.statistics.compare import CURVE, compare, mean_curves
from evaluation.statistics.variants import Variant
from r2d2.collapse import CollapseSigns

SEQUENCES = [f"i_{number}" for number in range(10)] + [f"v_{number}" for number in range(14)]
DIFFICULTY = np.random.default_rng(0).uniform(0.3, 0.8, size=len(SEQUENCES))


def evaluation(levels, network, sequences=SEQUENCES, protocol="d2net", benchmark_digest="b" * 64):
    """`levels`: (sequences,), MMA at 3 px; other thresholds are 0.01 a pixel away."""
    pairs = tuple(
        PairScore(
            name, split_of(name), image, 500, 500, 100, tuple(level + 0.01 * (t - 3) for t in THRESHOLDS)
        )
        for name, level in zip(sequences, levels, strict=True)
        for image in range(2, 7)
    )
    digest = network.ljust(64, "0")
    parts = (PROTOCOLS[protocol], "bench", benchmark_digest, pairs, Timings(1, 1), CollapseSigns(0.2, 0.8))
    return Evaluation("net", digest, *parts)


def variant(name, gain=0.0, seeds=(0, 1, 2), noise=0.01, sequences=SEQUENCES, **how):
    """Networks whose MMA lies `gain` (a number or one per sequence) above the sequence's difficulty."""
    rng = np.random.default_rng(sum(name.encode()))
    level = DIFFICULTY[: len(sequences)] + gain
    scored = (
        evaluation(level + noise * rng.standard_normal(len(sequences)), f"{name}{seed}", sequences, **how)
        for seed in seeds
    )
    return Variant(name, tuple(scored), seeds)


def test_better_worse_and_no_difference_shown():
    table = compare(
        [variant("cosine"), variant("dice", 0.05), variant("jaccard", -0.05), variant("again")], "cosine"
    )
    verdicts = {row.variant: row.verdict for row in table.differences if row.metric == "mma_3px"}
    assert verdicts == {"dice": "better", "jaccard": "worse", "again": "no difference shown"}
    dice = table.difference("dice", "mma_3px")
    assert 0.04 < dice.low < dice.estimate < dice.high < 0.06
    assert (dice.sequences, dice.same_seeds, dice.covers_seeds) == (24, True, True)


def test_means_are_those_of_the_evaluations():
    dice = variant("dice", 0.05)
    table = compare([variant("cosine"), dice], "cosine", metrics=("mma_1px", "mma_15px"))
    for split in (None, "illumination", "viewpoint"):
        for threshold in (1, 15):
            row = table.mean("dice", f"mma_{threshold}px", split or "overall")
            expected = np.mean([scored.mma(split)[threshold - 1] for scored in dice.evaluations])
            assert row.mean == pytest.approx(expected)
            assert row.low < row.mean < row.high
    assert (row.seeds, row.sequences, row.covers_seeds) == (3, 14, True)


def test_curves_are_the_means_at_every_threshold():
    variants = [variant("cosine"), variant("dice", 0.05)]
    curves = mean_curves(variants, replicates=199)
    table = compare(variants, "cosine", metrics=("mma_3px",), replicates=199)
    assert [row.metric for row in curves[:15]] == list(CURVE)
    at_3 = [row for row in curves if row.metric == "mma_3px"]
    assert [(row.variant, row.split) for row in at_3] == [(row.variant, row.split) for row in table.means]
    ends = [end for row in at_3 for end in (row.low, row.mean, row.high)]
    assert ends == pytest.approx([end for row in table.means for end in (row.low, row.mean, row.high)])


def test_a_gain_on_one_split_is_found_there():
    gain = np.where([name.startswith("v_") for name in SEQUENCES], 0.05, 0)
    table = compare([variant("cosine"), variant("dice", gain)], "cosine")
    assert table.difference("dice", "mma_3px", "viewpoint").verdict == "better"
    assert table.difference("dice", "mma_3px", "illumination").verdict == "no difference shown"


def test_where_a_variant_wins():
    gain = np.zeros(len(SEQUENCES))
    gain[SEQUENCES.index("v_3")] = 0.2
    table = compare([variant("cosine"), variant("dice", gain)], "cosine")
    at_3 = [row for row in table.by_sequence if row.metric == "mma_3px"]
    assert len(at_3) == len(SEQUENCES)
    best = max(at_3, key=lambda row: row.estimate)
    assert (best.sequence, best.split) == ("v_3", "viewpoint")
    assert best.estimate == pytest.approx(0.2, abs=0.05)
    assert 0 < best.standard_error < 0.03


def test_a_difference_that_depends_on_the_seed_is_not_shown():
    """A lucky seed of three: every sequence agrees, and still three seeds are only three."""
    lucky = [evaluation(DIFFICULTY + gain, f"lucky{gain}") for gain in (0.0, 0.01, 0.06)]
    table = compare([variant("cosine"), Variant("lucky", tuple(lucky), (0, 1, 2))], "cosine")
    row = table.difference("lucky", "mma_3px")
    assert row.estimate > 0.02
    assert row.verdict == "no difference shown"
    assert row.low < 0


def test_one_seed_is_compared_over_sequences_and_says_so():
    table = compare([variant("cosine", seeds=(0,)), variant("dice", 0.05, seeds=(0,))], "cosine")
    row = table.difference("dice", "mma_3px")
    assert row.verdict == "these networks differ"
    assert not row.covers_seeds
    assert not table.mean("dice", "mma_3px").covers_seeds
    assert {row.standard_error for row in table.by_sequence} == {None}


def test_a_released_network_against_three_seeds():
    released = Variant("released", (evaluation(DIFFICULTY, "released"),))
    row = compare([released, variant("dice", 0.05)], "released").difference("dice", "mma_3px")
    assert (row.verdict, row.same_seeds, row.covers_seeds) == ("these networks differ", False, False)


@pytest.mark.parametrize(
    ("dice", "cosine", "verdict"),
    [
        ({"epochs": (5, 5, 5)}, {"epochs": (5, 5, 5)}, "better"),
        ({"epochs": (9, 9, 9)}, {"epochs": (1, 1, 1)}, "unequal training"),
        ({"epochs": (9, 9, 8)}, {"epochs": (9, 9, 9)}, "unequal training"),
        ({"epochs": (5, 5, 5)}, {"epochs": (0, 0, 0)}, "better"),
        ({"collapsed": True, "warnings": ("flat",)}, {}, "collapsed"),
        ({}, {"collapsed": True, "warnings": ("flat",)}, "baseline collapsed"),
        ({"warnings": ("half as many pairs a step",)}, {}, "unequal training"),
    ],
)
def test_no_verdict_where_trainings_are_no_equals(dice, cosine, verdict):
    """A starting network, of no epochs, shows what training does."""
    variants = [replace(variant("cosine"), **cosine), replace(variant("dice", 0.05), **dice), variant("one")]
    table = compare(variants, "cosine")
    row = table.difference("dice", "mma_3px")
    assert row.verdict == verdict
    assert (row.p_holm is None) == (verdict != "better")
    assert (row.estimate, row.p) == (pytest.approx(0.05, abs=0.01), pytest.approx(0, abs=0.01))


def test_each_variant_may_have_a_baseline_of_its_own():
    variants = [variant(name, gain) for name, gain in (("a", 0), ("b", 0.05), ("c", 0.2), ("d", 0.2))]
    table = compare(variants, {"b": "a", "d": "c"})
    assert [(row.variant, row.baseline) for row in table.differences if row.metric == "mma_3px"][:2] == [
        ("b", "a"),
        ("d", "c"),
    ]
    assert table.difference("b", "mma_3px").verdict == "better"
    assert table.difference("d", "mma_3px").verdict == "no difference shown"
    assert {row.variant for row in table.means} == set("abcd")
    assert {(row.variant, row.baseline) for row in table.by_sequence} == {("b", "a"), ("d", "c")}


def test_more_variants_say_more_of_seeds_and_ask_for_a_smaller_p():
    seeds = {name: np.array(lifts)[:, None] for name, lifts in LIFTS.items()}

    def row(names):
        variants = [
            Variant(
                name, tuple(evaluation(level, f"{name}{n}") for n, level in enumerate(DIFFICULTY + lifts))
            )
            for name, lifts in seeds.items()
            if name in names
        ]
        variants = [replace(one, seeds=(0, 1, 2)) for one in variants]
        return compare(variants, "cosine").difference("dice", "mma_3px")

    few, many = row(("cosine", "dice")), row(tuple(seeds))
    assert few.estimate == many.estimate == pytest.approx(0.02)
    assert few.p_holm == few.p
    assert many.p_holm == pytest.approx(3 * many.p)
    # Student's distribution with 2 degrees of freedom, and with 6.
    assert few.high - few.low > 1.5 * (many.high - many.low)
    assert (few.verdict, many.verdict) == ("no difference shown", "better")


LIFTS = {
    "cosine": (-0.005, 0.0, 0.005),
    "dice": (0.025, 0.02, 0.015),
    "one": (0.0, 0.005, -0.005),
    "two": (0.005, -0.005, 0.0),
}


def test_a_network_against_itself_differs_by_nothing():
    cosine = variant("cosine")
    row = compare([cosine, Variant("copy", cosine.evaluations, cosine.seeds)], "cosine").difference(
        "copy", "mma_3px"
    )
    assert (row.estimate, row.low, row.high, row.p) == (0, 0, 0, 1)
    assert row.verdict == "no difference shown"


def test_a_single_sequence_gives_estimates_without_confidence():
    names = SEQUENCES[:1]
    table = compare([variant("cosine", sequences=names), variant("dice", 0.05, sequences=names)], "cosine")
    row = table.difference("dice", "mma_3px")
    assert row.estimate == pytest.approx(0.05, abs=0.03)
    assert (row.low, row.high, row.p, row.p_holm) == (None,) * 4
    assert row.verdict == "no difference shown"


def test_a_single_variant_has_means_only():
    table = compare([variant("cosine")], "cosine")
    assert {row.split for row in table.means} == {"overall", "illumination", "viewpoint"}
    assert table.differences == table.by_sequence == ()


def test_a_benchmark_without_splits():
    names = [f"photo_{number}" for number in range(6)]
    table = compare([variant("cosine", sequences=names), variant("dice", 0.05, sequences=names)], "cosine")
    assert {row.split for row in table.differences} == {"overall"}
    assert {row.split for row in table.by_sequence} == {None}
    assert table.difference("dice", "mma_3px").verdict == "better"


def test_rows_are_plain():
    table = compare([variant("cosine"), variant("dice", 0.05)], "cosine")
    rows = json.loads(json.dumps(table.to_rows(), allow_nan=False))
    assert {name: len(values) for name, values in rows.items()} == {
        "means": 2 * 3 * 5,
        "differences": 3 * 5,
        "by_sequence": len(SEQUENCES) * 5,
    }
    assert rows["differences"][1]["variant"] == "dice"
    assert rows["differences"][1]["metric"] == "mma_3px"


def test_the_same_table_twice():
    variants = [variant("cosine"), variant("dice", 0.05)]
    assert compare(variants, "cosine") == compare(variants, "cosine")


@pytest.mark.parametrize(
    ("variants", "arguments", "reason"),
    [
        (["cosine", "dice"], {"baseline": "dise"}, "unknown baseline 'dise'; known: cosine, dice"),
        ([], {"baseline": "dice"}, "known: no variant"),
        (["cosine", "cosine"], {"baseline": "cosine"}, "names of variants must differ: cosine, cosine"),
        (
            ["cosine"],
            {"baseline": "cosine", "metrics": ("mma_0px",)},
            "unknown metric 'mma_0px'; known: mma_1px, ",
        ),
    ],
)
def test_impossible_tables_are_refused(variants, arguments, reason):
    with pytest.raises(ValueError, match=reason):
        compare([variant(name) for name in variants], **arguments)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"protocol": "validation"}, "different protocols .name validation and d2net; extraction.top_k 1000"),
        ({"benchmark_digest": "c" * 64}, "different images or homographies"),
        ({"sequences": SEQUENCES[:-1]}, "only one of them has a score of pair 1-2 of sequence 'v_13'"),
    ],
)
def test_numbers_that_were_not_measured_alike_are_never_side_by_side(how, reason):
    with pytest.raises(ValueError, match=f"cannot compare 'dice' with 'cosine': .*{reason}"):
        compare([variant("cosine"), variant("dice", **how)], "cosine")


def test_a_full_table_takes_seconds():
    """10 variants, 3 seeds, 108 sequences: 0.7 s on one core; the limit allows for a busy machine."""
    names = [f"{'iv'[number % 2]}_{number}" for number in range(108)]
    rng = np.random.default_rng(0)
    variants = [
        Variant(
            str(number),
            tuple(evaluation(rng.uniform(size=108), f"{number}-{seed}", names) for seed in range(3)),
            (0, 1, 2),
        )
        for number in range(10)
    ]
    start = time.perf_counter()
    compare(variants, "0")
    assert time.perf_counter() - start < 30


def test_nine_copies_of_one_loss_with_one_seed_have_no_verdict_about_it():
    """Each network is lifted by its seed: they differ, and trained again another would be the best."""
    lifts = np.random.default_rng(7).normal(0, 0.02, size=9)
    copies = [variant(f"copy {number}", lift, seeds=(0,)) for number, lift in enumerate(lifts)]
    table = compare(copies, "copy 0")
    words = {row.verdict for row in table.differences}
    assert words == {"these networks differ", "seeds needed"}


def test_no_difference_of_shares_reaches_beyond_one():
    """One network finds nearly everything but on one of four sequences, the other nothing."""
    levels = {"bad": [0.01] * 4, "good": [0.99, 0.99, 0.99, 0.01]}
    rows = [Variant(name, (evaluation(level, name, SEQUENCES[:4]),)) for name, level in levels.items()]
    better = compare(rows, "bad").difference("good", "mma_3px")
    worse = compare(rows, "good").difference("bad", "mma_3px")
    assert better.low < better.estimate < better.high == 1
    assert -1 == worse.low < worse.estimate < worse.high
