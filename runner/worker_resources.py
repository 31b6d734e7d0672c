"""WorkerResources: what each worker of a trial asks of the cluster, and with how many threads it computes."""

from __future__ import annotations

from dataclasses import dataclass

from r2d2.config import TrainConfig


@dataclass(frozen=True)
class WorkerResources:
    """What each worker of a sweep's trials asks for; whole workers lie on one node.

    Attributes:
        gpus: 0 or more; a fraction shares one.
        cpus: 1 or more; None: one that computes, and one for each of the trial's loader processes.
    """

    gpus: float = 0.0
    cpus: int | None = None

    def cpus_of(self, config: TrainConfig) -> int:
        """CPUs of each worker of a trial."""
        return 1 + config.data.loader_processes if self.cpus is None else self.cpus

    def threads_of(self, config: TrainConfig) -> int:
        """Threads that a worker computes with: the CPUs that its loader processes leave, at least one."""
        return max(1, self.cpus_of(config) - config.data.loader_processes)

    def of(self, config: TrainConfig) -> dict[str, float]:
        """By Ray's names of resources."""
        found = {"CPU": float(self.cpus_of(config)), "GPU": self.gpus}
        return {name: amount for name, amount in found.items() if amount}

    def describe(self, config: TrainConfig) -> str:
        """In words, e.g. `2 CPUs and 0.5 GPU`."""
        cpus = self.cpus_of(config)
        return f"{cpus} CPU{'s' if cpus > 1 else ''}" + (f" and {self.gpus:g} GPU" if self.gpus else "")
