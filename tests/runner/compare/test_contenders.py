"""Which networks share a row: seeds of one variant do, what agrees in name only does not."""

from dataclasses import replace

import pytest

from runner.compare.contenders import Contender, curves_of, figures_of, told_apart, variants_of


@pytest.fixture
def contender(make_evaluation):
    def make(variant="dice", network="a", origin="mine", **fields) -> Contender:
        evaluation = replace(make_evaluation(), model_digest=network * 64)
        return Contender(variant, evaluation, origin, **fields)

    return make


def test_seeds_of_a_variant_share_a_row_in_the_order_of_their_first(contender):
    found = [
        contender("dice", "a", seed=0),
        contender("cosine", "b", seed=0),
        contender("dice", "c", seed=1, origin="other"),
    ]
    rows = variants_of(told_apart(found))
    assert [(row.name, row.seeds, len(row.evaluations)) for row in rows] == [
        ("dice", (0, 1), 2),
        ("cosine", (0,), 1),
    ]


def test_a_network_named_twice_counts_once(contender):
    others = [contender("cosine", "b", seed=0), contender(seed=0, origin="yours")]
    kept = told_apart([contender(seed=0, origin="mine"), *others])
    assert [(c.variant, c.origin) for c in kept] == [("dice", "mine"), ("cosine", "mine")]


@pytest.mark.parametrize("seed", [0, None])
def test_the_same_name_for_other_networks_gets_its_origin(contender, seed):
    found = [contender(network=n, origin=o, seed=seed) for n, o in (("a", "mine"), ("b", "yours"))]
    names = [c.variant for c in told_apart([*found, contender("cosine", "c")])]
    assert names == ["dice [mine]", "dice [yours]", "cosine"]


def test_networks_of_one_given_name_are_seeds_that_nobody_knows(contender):
    (row,) = variants_of(told_apart([contender(network=n, origin="dice") for n in "ab"]))
    assert (row.name, row.seeds, len(row.evaluations)) == ("dice", None, 2)


def test_a_row_gathers_what_is_known_of_every_network(contender):
    found = [
        contender(network="a", epoch=3, figures={"train/loss_total": 1.0}, warnings=("flat", "odd")),
        contender(
            network="b", epoch=5, figures={"train/loss_total": 2.0}, collapsed=True, warnings=("flat",)
        ),
        contender("released", "c"),
    ]
    dice, released = variants_of(found)
    assert (dice.epochs, dice.collapsed, dice.warnings) == ((3, 5), True, ("flat", "odd"))
    assert (released.epochs, released.collapsed, released.warnings) == ((), False, ())
    assert [figures["train/loss_total"] for figures in figures_of(found)["dice"]] == [1.0, 2.0]


def test_training_curves_go_figure_by_figure(contender):
    curves = {"train/loss_total": ((1, 0.5),), "validation/mma_3px": ((1, 0.4),)}
    found = curves_of([contender(seed=0, curves=curves), contender(seed=1, curves=curves)])
    assert [(c.metric, c.seed) for c in found] == [(m, s) for m in curves for s in (0, 1)]
