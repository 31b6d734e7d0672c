"""What --evaluator-label takes, and which nodes it means."""

import pytest

from evaluation.actor import EvaluatorResources
from runner.cluster.connect import Capacity
from runner.cluster.labels import in_words, is_selected, parse_labels
from runner.cluster.resources import WorkerResources

SPOT = {"ray.io/market-type": "spot", "zone": "a", "ray.io/node-id": "0a1b"}
HEAD = {"ray.io/market-type": "on-demand", "ray.io/node-id": "2c3d"}
PLAIN = {"ray.io/node-id": "4e5f"}


@pytest.mark.parametrize(
    ("texts", "selector", "nodes"),
    [
        (["ray.io/market-type=spot"], {"ray.io/market-type": "spot"}, [SPOT]),
        # A node without the label is none of those that must not be.
        (["ray.io/market-type!=spot"], {"ray.io/market-type": "!spot"}, [HEAD, PLAIN]),
        (["ray.io/market-type=!spot"], {"ray.io/market-type": "!spot"}, [HEAD, PLAIN]),
        (["zone=in(a, b)"], {"zone": "in(a,b)"}, [SPOT]),
        (["zone!=in(a,b)"], {"zone": "!in(a,b)"}, [HEAD, PLAIN]),
        (
            ["zone!=in(b,c), ray.io/market-type=in(spot,on-demand)"],
            {"zone": "!in(b,c)", "ray.io/market-type": "in(spot,on-demand)"},
            [SPOT, HEAD],
        ),
        (["zone=a", "ray.io/market-type!=spot"], {"zone": "a", "ray.io/market-type": "!spot"}, []),
        (["any"], {}, [SPOT, HEAD, PLAIN]),
    ],
)
def test_conditions_become_rays_selector_and_select_nodes(texts, selector, nodes):
    assert parse_labels(texts) == selector
    assert [node for node in (SPOT, HEAD, PLAIN) if is_selected(node, selector)] == nodes


@pytest.mark.parametrize(
    "text", ["spot", "", "zone=", "=a", "zone=in()", "zone!=!a", "zone=a b", "a=1,", "é=1"]
)
def test_what_is_no_condition_is_refused(text):
    with pytest.raises(ValueError, match="is no condition on a label; write KEY=VALUE"):
        parse_labels([text])


def test_two_conditions_on_one_label_are_refused():
    with pytest.raises(ValueError, match="two conditions on the label 'zone'"):
        parse_labels(["zone!=a", "zone!=b"])


def test_a_selector_is_shown_as_it_is_written():
    texts = "zone!=in(b,c), ray.io/market-type=spot"
    assert in_words(parse_labels([texts])) == texts
    assert in_words(PLAIN) == "none"


def capacity(*labels: dict[str, str]) -> Capacity:
    return Capacity(8, 0, tuple({"CPU": 2.0} for _ in labels), labels)


@pytest.mark.parametrize(
    ("labels", "number", "num_cpus", "sentence"),
    [
        (
            "zone=b",
            1,
            0,
            r"no node has the labels of --evaluator-label \(zone=b\); the nodes' labels are: none; "
            r"ray.io/market-type=on-demand; ray.io/market-type=spot, zone=a\. Start such a node",
        ),
        ("zone=a", 3, 1, r"--evaluator-label \(zone=a\) hold 2 of the 3 evaluation actors"),
        ("zone=a", 1, 3, r"--evaluator-label \(zone=a\) hold 0 of the 1 evaluation actors"),
    ],
)
def test_labels_that_no_node_has_are_refused_at_once(labels, number, num_cpus, sentence):
    asked = EvaluatorResources(number, num_cpus, 0, parse_labels([labels]))
    with pytest.raises(ValueError, match=sentence):
        capacity(SPOT, HEAD, PLAIN).concurrent_trials((), asked, WorkerResources())


def test_labels_that_a_node_has_are_taken_and_those_that_an_autoscaler_may_start():
    asked = EvaluatorResources(2, 1, 0, parse_labels(["zone=a"]))
    capacity(SPOT, HEAD).concurrent_trials((), asked, WorkerResources())
    capacity(HEAD).grown(16, 0).concurrent_trials((), asked, WorkerResources())
