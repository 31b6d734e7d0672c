"""Where an actor lies that must last as long as the process that starts it."""

from __future__ import annotations

from typing import Any


def on_this_node() -> Any:
    """Ray's scheduling strategy for the node of this process and no other, since others may go before it."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
