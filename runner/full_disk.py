"""A full disk: the worker that met it says on which node, and its trial goes on on another one."""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import ray

from runner.preemption import this_node


class DiskFull(Exception):  # noqa: N818 - it says what happened
    """A worker could not write because a disk is full, or a quota used up."""

    def __init__(self, text: str, node: str) -> None:
        """What happened, and Ray's id of the node; both travel between processes."""
        super().__init__(text, node)
        self.node = node

    def __str__(self) -> str:
        return str(self.args[0])


@contextmanager
def naming_node() -> Iterator[None]:
    """Tells apart what the disk of this node refuses.

    Raises:
        DiskFull: in place of the operating system's error.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        raise DiskFull(f"a disk of the node {where} is full: {error}", this_node()) from error


def has_other_node(full: Collection[str], num_gpus: float = 0) -> bool:
    """Whether a node that lives, none of those that are full, could ever run a worker.

    Args:
        full: Ray's ids of nodes.
        num_gpus: that a worker asks for.
    """
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    others = [node for node in nodes if node["Alive"] and node["NodeID"] not in full]
    return any(_offers(node, "CPU") >= 1 and _offers(node, "GPU") >= num_gpus for node in others)


def avoiding(full: Collection[str]) -> dict[str, str] | None:
    """The selector of Ray's labels for nodes that are none of these."""
    return {"ray.io/node-id": f"!in({','.join(sorted(full))})"} if full else None


def _offers(node: dict[str, dict[str, float]], resource: str) -> float:
    return node["Resources"].get(resource, 0)
