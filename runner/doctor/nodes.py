"""Checks a cluster: the driver's machine, then every node, and the clocks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from runner.doctor.checks import (
    Check,
    Expected,
    Machine,
    code_digest,
    mark_in,
    run_checks,
)
from runner.record.provenance import installed_versions
from runner.settings import Settings

ANSWER_WITHIN_S = 120.0
# Timestamps of MLflow and leases of files bear that; S3 refuses requests that are 15 minutes off.
CLOCK_S = 2.0


@dataclass(frozen=True)
class Node:
    """A Node is one node of a cluster.

    Attributes:
        id: Ray's.
        name: its address and the start of its id.
        gpus: the number that Ray counts there.
    """

    id: str
    name: str
    gpus: float

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Node:
        """Reads an entry of `ray.nodes()`."""
        name = f"{entry['NodeManagerAddress']} ({entry['NodeID'][:6]})"
        return cls(entry["NodeID"], name, entry["Resources"].get("GPU", 0.0))


class NodeCheck:
    """Checks a node from inside, as an actor; it asks for no CPU."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def now(self) -> float:
        """Returns the time by the node's clock, seconds since 1970."""
        return time.time()

    def run(self) -> list[Check]:
        """Runs all checks on this node."""
        return list(run_checks(self._machine))


def all_checks(settings: Settings) -> Iterator[Check]:
    """Checks this machine, then every node of the cluster that the settings name."""
    well = True
    for check in run_checks(Machine(settings)):
        well = check.ok if check.name == "ray" else well
        yield check
    if settings.ray_address is not None and well:
        from runner.cluster.connect import ray_cluster

        try:
            with ray_cluster(settings.ray_address, verbose=False):
                yield from _node_checks(settings)
        except ValueError as error:
            yield Check("nodes", False, str(error))


def _node_checks(settings: Settings) -> Iterator[Check]:
    import ray

    nodes = [Node.of(entry) for entry in ray.nodes() if entry["Alive"]]  # type: ignore[no-untyped-call]
    with mark_in(str(settings.home)) as mark:
        versions, code = installed_versions(), code_digest()
        actors = {
            node: _actor(node, Machine(settings, Expected(versions, code, mark, node.gpus))) for node in nodes
        }
        for node, actor in actors.items():
            yield from _checks_of(node, actor)
            ray.kill(actor)


def _actor(node: Node, machine: Machine) -> Any:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # The smallest part of a GPU makes it visible.
    remote = ray.remote(num_cpus=0, num_gpus=0.01 if node.gpus else 0)(NodeCheck)
    pinned = NodeAffinitySchedulingStrategy(node.id, soft=False)
    return remote.options(scheduling_strategy=pinned).remote(machine)


def _checks_of(node: Node, actor: Any) -> Iterator[Check]:
    import ray

    try:
        found = ray.get(actor.run.remote(), timeout=ANSWER_WITHIN_S)
        yield _clock(node, actor)
    except ray.exceptions.GetTimeoutError:
        yield Check(
            f"{node.name} answers",
            False,
            f"no answer within {ANSWER_WITHIN_S:.0f} s; is the node overloaded, or are its GPUs taken?",
        )
        return
    except ray.exceptions.RayError as error:
        yield Check(f"{node.name} answers", False, _reason(error))
        return
    for check in found:
        yield replace(check, name=f"{node.name} {check.name}")


def _reason(error: Exception) -> str:
    """Says in one sentence why a node cannot run this project's code."""
    text = " ".join(str(getattr(error, "cause", None) or error).split())
    missing = "No module named" in text
    hint = "; the code does not arrive there: let it travel with the job: r2d2 submit" if missing else ""
    return f"{text[-300:]}{hint}"


def _clock(node: Node, actor: Any) -> Check:
    """Measures the node's clock against the driver's, to within half of the time that the question took."""
    import ray

    asked = time.time()
    there = ray.get(actor.now.remote(), timeout=ANSWER_WITHIN_S)
    answered = time.time()
    off, doubt = there - (asked + answered) / 2, (answered - asked) / 2
    ok = abs(off) - doubt <= CLOCK_S
    finding = f"{abs(off):.3f} s {'ahead of' if off > 0 else 'behind'} the driver's (within {doubt:.3f} s)"
    return Check(f"{node.name} clock", ok, finding if ok else f"{finding}; let the nodes keep time (chrony)")
