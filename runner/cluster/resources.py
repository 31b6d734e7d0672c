"""Defines WorkerResources: the CPUs and GPUs that each worker of a trial asks for, and its threads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from r2d2.config import TrainConfig

# Of a CPU or a GPU. In binary fractions 1 - 2 * 0.2 is less than 3 * 0.2.
PARTS = 10_000


@dataclass(frozen=True)
class WorkerResources:
    """A WorkerResources says what each worker of a trial asks for; a worker lies on one node as a whole.

    Attributes:
        gpus: 0 or more; a fraction shares one.
        cpus: 1 or more; None: one, plus one per loader process of the trial.
    """

    gpus: float = 0.0
    cpus: int | None = None

    def cpus_of(self, config: TrainConfig) -> int:
        """Returns the CPUs of each worker of a trial."""
        return 1 + config.data.loader_processes if self.cpus is None else self.cpus

    def threads_of(self, config: TrainConfig) -> int:
        """Returns a worker's threads: the CPUs that its loader processes leave, at least one."""
        return max(1, self.cpus_of(config) - config.data.loader_processes)

    def of(self, config: TrainConfig) -> dict[str, float]:
        """Returns what each worker of a trial asks for, by Ray's names of resources; all are above 0."""
        found = {"CPU": float(self.cpus_of(config)), "GPU": self.gpus}
        return {name: amount for name, amount in found.items() if counted(amount)}

    def describe(self, config: TrainConfig) -> str:
        """Describes the resources in words, e.g. `2 CPUs and 0.5 GPU`."""
        found = ((self.cpus_of(config), "CPU"), (self.gpus, "GPU"))
        return " and ".join(f"{many:g} {unit}{'s' * (many > 1)}" for many, unit in found if many)


def counted(amount: float) -> int:
    """Returns an amount of a resource in ten-thousandths, as Ray counts it, so that sums are exact."""
    return round(amount * PARTS)


def left(there: float, number: int, each: float) -> float:
    """Returns what is left of a resource when `number` processes have taken `each`; may be negative."""
    return (counted(there) - number * counted(each)) / PARTS


def workers_on(node: Mapping[str, float], worker: Mapping[str, float]) -> int:
    """Returns how many workers a node holds if nothing else runs there.

    Args:
        node: what it has, by Ray's names of resources.
        worker: what one asks for, more than 0 of each.
    """
    return min(counted(node.get(name, 0)) // counted(amount) for name, amount in worker.items())
