"""A full disk: the worker that met it says on which node, and its trial goes on on another one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import ray

from r2d2.storage.full_disk import DiskFull, says_full
from runner.cluster.resources import workers_on
from runner.trial.preemption import this_node

Nodes = frozenset[str]
"""Ray's ids of nodes."""


@contextmanager
def naming_node() -> Iterator[None]:
    """Tells apart what the disk of this node refuses.

    Raises:
        DiskFull: in place of the operating system's error.
    """
    try:
        yield
    except OSError as error:
        if not says_full(error):
            raise
        where = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        raise DiskFull.on(where, this_node(), error) from error


def room_beside(full: Nodes, worker: Mapping[str, float]) -> int:
    """How many workers the nodes that live and are not full could hold if nothing else ran on them.

    Args:
        full: nodes that do not count.
        worker: what one asks for, more than 0 of each, by Ray's names.
    """
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    others = [node for node in nodes if node["Alive"] and node["NodeID"] not in full]
    return sum(workers_on(node["Resources"], worker) for node in others)


def avoiding(full: Nodes) -> dict[str, str] | None:
    """The selector of Ray's labels for nodes that are none of these."""
    return {"ray.io/node-id": f"!in({','.join(sorted(full))})"} if full else None
