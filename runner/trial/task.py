"""Defines WorkerTask: the configuration and the places that a data-parallel worker gets."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from r2d2.storage.location import open_store
from r2d2.storage.s3 import TIMEOUT
from r2d2.storage.store import Store
from runner.record.attempt import Attempt


@dataclass(frozen=True)
class WorkerTask:
    """A WorkerTask holds all that a worker needs: a plain value, sent as a dictionary.

    Attributes:
        config: TrainConfig as a dictionary.
        init: where the starting weights are; "scratch" or a model's path.
        trial_folder: the trial's folder, or `s3://bucket/prefix`.
        threads: how many the worker computes with.
        gpus: that the worker asked for; a fraction bounds what it takes of the memory of one.
        started: when the trial was started, seconds since 1970.
        objects: CacheSettings as a dictionary: where a node keeps what is on S3; None: nowhere.
        attempt: Attempt as a dictionary: the one for which it writes; None: nobody else can write.
        checkpoint_steps: a checkpoint after every so many steps too; 0: after epochs only.
        silence: seconds without a sign of life after which a worker ends itself; 0: never.
        driver_node: Ray's id of the node of the trial's driver.
    """

    config: dict[str, Any]
    init: str
    trial_folder: str
    threads: int
    started: float
    objects: dict[str, Any] | None = None
    checkpoint_steps: int = 0
    silence: float = 0.0
    driver_node: str = ""
    attempt: dict[str, Any] | None = None
    gpus: float = 0.0

    @property
    def own_attempt(self) -> Attempt | None:
        """Returns the attempt as a value."""
        return None if self.attempt is None else Attempt(**self.attempt)

    @property
    def timeout(self) -> float:
        """Returns the seconds for which a request to S3 is tried again."""
        return TIMEOUT if self.objects is None else float(self.objects["timeout"])

    @property
    def trial(self) -> Store:
        """Opens the store of the trial."""
        return open_store(self.trial_folder, self.timeout)

    def to_dict(self) -> dict[str, Any]:
        """Returns the dictionary that Ray Train hands to every worker."""
        return asdict(self)
