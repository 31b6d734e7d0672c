"""What trains nothing runs where --evaluator-label says, by which Ray means what we do."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import processes
import pytest
import ray
from ray.cluster_utils import Cluster
from rich.console import Console
from tiny_sweep import write_sweep

from evaluation.actor import EvaluatorResources
from runner.cluster.labels import is_selected, parse_labels
from runner.record.command import RunOptions
from runner.settings import Settings
from runner.sweep.plan import SweepOptions, plan_sweep
from runner.sweep.run import run_sweep
from runner.trial.driver import run_trial

pytestmark = [pytest.mark.multinode, pytest.mark.timeout(600)]

NODES = {"head": {}, "spot": {"market": "spot", "zone": "a"}, "safe": {"market": "on-demand"}}


@pytest.fixture(scope="module")
def cluster():
    """A head, a node that trains, and one without CPUs for what only waits; processes name their node."""
    helpers = str(Path(processes.__file__).parent)
    nodes = Cluster()
    for name, labels in NODES.items():
        variables = {"NODE": name, "PYTHONPATH": helpers}
        nodes.add_node(
            num_cpus=int(name == "spot"), labels=labels, env_vars=variables, include_dashboard=False
        )
    yield nodes
    nodes.shutdown()


@pytest.mark.parametrize(
    "text",
    ["market=spot", "market!=spot", "zone=in(b,a)", "zone!=in(a,b)", "zone!=c, market=in(on-demand,other)"],
)
def test_ray_selects_the_same_nodes(cluster, text):
    selector = parse_labels([text])
    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        where = ray.remote(num_cpus=0)(lambda: os.environ["NODE"])
        found = ray.get(where.options(label_selector=selector).remote(), timeout=60)
    finally:
        ray.shutdown()
    assert found in {name for name, labels in NODES.items() if is_selected(labels, selector)}


def watched(notes: Path):
    """What Tune runs for each trial: a training that notes where its processes that do not train lie."""

    def run(config, context):
        class Scoring:
            """Stands for the handle of the pool in the scoring task."""

            def __init__(self, pool):
                self._pool = pool

            @property
            def score(self):
                (notes / f"scoring_{os.environ['NODE']}").touch()
                return self._pool.score

        (notes / f"driver_{os.environ['NODE']}").touch()
        done = run_trial(config, replace(context, evaluator=Scoring(context.evaluator)))
        # The pool lies beside the sweep's driver.
        pools = processes.naming("ray::EvaluatorPool")
        for pid in set(processes.naming("ray::Evaluator")) - set(pools):
            for variable in processes.variables_of(pid):
                if variable.startswith("NODE="):
                    (notes / f"evaluator_{variable.removeprefix('NODE=')}").touch()
        return done

    return run


@pytest.mark.parametrize(("label", "node"), [("market=on-demand", "safe"), ("market=spot", "spot")])
def test_what_trains_nothing_stays_on_the_labelled_nodes(cluster, tmp_path, label, node):
    notes = tmp_path / "notes"
    notes.mkdir()
    file = write_sweep(tmp_path, "sweep = Sweep(space=TINY | {'seed': 1, 'epochs': 1}, samples=True)")
    settings = Settings.from_environment(
        {"R2D2_HOME": str(tmp_path / "home"), "RAY_ADDRESS": cluster.address}
    )
    options = SweepOptions(run=RunOptions(evaluators=EvaluatorResources(labels=parse_labels([label]))))
    plan = plan_sweep(str(file), settings, options)
    result = run_sweep(plan, settings, Console(quiet=True), watched(notes))
    assert result.failed == {}
    assert {note.name for note in notes.iterdir()} == {
        f"{process}_{node}" for process in ("driver", "evaluator", "scoring")
    }
