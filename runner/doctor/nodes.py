"""What can be wrong with the nodes of a cluster, asked of each of them, and between them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r2d2.storage.location import is_remote
from runner.doctor.node import (
    REDUCED_MIB,
    Check,
    NodeCheck,
    Question,
    code_digest,
    installed_versions,
    mark_in,
)
from runner.settings import Settings

ANSWER_WITHIN_S = 120.0
# Timestamps of MLflow and leases of files bear that; S3 refuses requests that are 15 minutes off.
CLOCK_S = 2.0


@dataclass(frozen=True)
class Node:
    """One node of a cluster.

    Attributes:
        id: Ray's.
        name: its address and the start of its id.
        trains: whether workers of trials can be placed there.
        gpus: that Ray counts there.
    """

    id: str
    name: str
    trains: bool
    gpus: float

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Node:
        """The node of an entry of `ray.nodes()`."""
        there = entry["Resources"]
        name = f"{entry['NodeManagerAddress']} ({entry['NodeID'][:6]})"
        gpus = there.get("GPU", 0.0)
        return cls(entry["NodeID"], name, there.get("CPU", 0.0) > 0 or gpus > 0, gpus)


def node_checks(settings: Settings) -> Iterator[Check]:
    """Looks from every node of the cluster that is joined, and at what lies between them."""
    import ray

    nodes = [Node.of(entry) for entry in ray.nodes() if entry["Alive"]]  # type: ignore[no-untyped-call]
    with mark_in(str(settings.home)) as seen:
        actors = {node: _actor(node, _question(settings, node, seen)) for node in nodes}
        for node, actor in actors.items():
            yield from _checks_of(node, actor)
        yield _reduction([(node, actor) for node, actor in actors.items() if node.trains])
        for actor in actors.values():
            ray.kill(actor)


def _question(settings: Settings, node: Node, seen: str) -> Question:
    places = {"hpatches": settings.hpatches, "released": settings.released}
    return Question(
        versions=installed_versions(),
        code=code_digest(),
        home=str(settings.home),
        seen=seen,
        places={name: place for name, place in places.items() if place is not None and is_remote(place)},
        cache=str(settings.cache),
        tracking_uri=settings.tracking_uri,
        gpus=node.gpus,
    )


def _actor(node: Node, question: Question) -> Any:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # The smallest part of a GPU makes it visible.
    remote = ray.remote(num_cpus=0, num_gpus=0.01 if node.gpus else 0)(NodeCheck)
    pinned = NodeAffinitySchedulingStrategy(node.id, soft=False)
    return remote.options(scheduling_strategy=pinned).remote(question)


def _checks_of(node: Node, actor: Any) -> Iterator[Check]:
    import ray

    try:
        found = ray.get(actor.look.remote(), timeout=ANSWER_WITHIN_S)
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
    for name, ok, finding in found:
        yield Check(f"{node.name} {name}", ok, finding)


def _reason(error: Exception) -> str:
    """Why a node cannot run this project's code, in one sentence."""
    text = " ".join(str(getattr(error, "cause", None) or error).split())
    missing = "No module named" in text
    hint = "; the code does not arrive there: let it travel with the job: r2d2 submit" if missing else ""
    return f"{text[-300:]}{hint}"


def _clock(node: Node, actor: Any) -> Check:
    """How far the node's clock is from the driver's, give or take half of the time the question took."""
    import ray

    asked = time.time()
    there = ray.get(actor.now.remote(), timeout=ANSWER_WITHIN_S)
    answered = time.time()
    off, doubt = there - (asked + answered) / 2, (answered - asked) / 2
    ok = abs(off) - doubt <= CLOCK_S
    finding = f"{abs(off):.3f} s {'ahead of' if off > 0 else 'behind'} the driver's (within {doubt:.3f} s)"
    return Check(f"{node.name} clock", ok, finding if ok else f"{finding}; let the nodes keep time (chrony)")


def _reduction(members: Sequence[tuple[Node, Any]]) -> Check:
    """An all-reduce over all nodes that train: by NCCL if all have GPUs, else by gloo."""
    import ray

    backend = "nccl" if members and all(node.gpus for node, _ in members) else "gloo"
    name = f"all-reduce ({backend})"
    if len(members) < 2:
        return Check(name, True, "only one node trains: nothing is reduced between nodes")
    try:
        address = ray.get(members[0][1].address.remote(), timeout=ANSWER_WITHIN_S)
        tasks = [
            actor.reduce.remote(address, rank, len(members), backend)
            for rank, (_, actor) in enumerate(members)
        ]
        seconds = max(ray.get(tasks, timeout=ANSWER_WITHIN_S))
    except ray.exceptions.RayError as error:
        return Check(name, False, f"{_reason(error)}; every port must be open between the nodes")
    # Each node sends and receives that much in a ring.
    moved = 2 * (len(members) - 1) / len(members) * REDUCED_MIB
    return Check(
        name,
        True,
        f"{REDUCED_MIB} MiB over {len(members)} nodes in {1000 * seconds:.0f} ms, "
        f"{moved * 8 * 2**20 / seconds / 1e9:.2f} Gbit/s each",
    )
