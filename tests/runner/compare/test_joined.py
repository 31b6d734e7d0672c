"""Which networks share a row: seeds of one variant do, what agrees in name only does not."""

from dataclasses import replace

import pytest

from evaluation.statistics.variants import Variant, joined
from runner.compare.sources import told_apart


@pytest.fixture
def network(make_evaluation):
    def make(name="dice", network="a", origin="mine", seed=None, **fields) -> Variant:
        evaluation = replace(make_evaluation(), model_digest=network * 64)
        seeds = None if seed is None else (seed,)
        return Variant(name, (evaluation,), seeds, origin=origin, **fields)

    return make


def test_seeds_of_a_variant_share_a_row_in_the_order_of_their_first(network):
    found = [
        network("dice", "a", seed=0),
        network("cosine", "b", seed=0),
        network("dice", "c", seed=1, origin="other"),
    ]
    rows = joined(told_apart(found))
    assert [(row.name, row.seeds, len(row.evaluations)) for row in rows] == [
        ("dice", (0, 1), 2),
        ("cosine", (0,), 1),
    ]


def test_a_network_named_twice_counts_once(network):
    others = [network("cosine", "b", seed=0), network(seed=0, origin="yours")]
    kept = told_apart([network(seed=0, origin="mine"), *others])
    assert [(one.name, one.origin) for one in kept] == [("dice", "mine"), ("cosine", "mine")]


@pytest.mark.parametrize("seed", [0, None])
def test_the_same_name_for_other_networks_gets_its_origin(network, seed):
    found = [network(network=n, origin=o, seed=seed) for n, o in (("a", "mine"), ("b", "yours"))]
    names = [one.name for one in told_apart([*found, network("cosine", "c")])]
    assert names == ["dice [mine]", "dice [yours]", "cosine"]


def test_networks_of_one_given_name_are_seeds_that_nobody_knows(network):
    (row,) = joined(told_apart([network(network=n, origin="dice") for n in "ab"]))
    assert (row.name, row.seeds, len(row.evaluations)) == ("dice", None, 2)


def test_a_row_gathers_what_is_known_of_every_network(network):
    loss, curves = {"train/loss_total": 1.0}, {"train/loss_total": ((1, 0.5),)}
    found = [
        network(network="a", epochs=(3,), further=(loss,), curves=(curves,), warnings=("flat", "odd")),
        network(network="b", epochs=(5,), further=({},), curves=({},), collapsed=True, warnings=("flat",)),
        network("released", "c"),
    ]
    dice, released = joined(found)
    assert (dice.epochs, dice.collapsed, dice.warnings) == ((3, 5), True, ("flat", "odd"))
    assert (released.epochs, released.collapsed, released.warnings) == ((), False, ())
    assert (dice.further, dice.curves, dice.trained_for) == ((loss, {}), (curves, {}), "3-5")
    assert dice.values["train/loss_total"] == [1.0]
