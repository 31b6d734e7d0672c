"""WorkerTask: what a data-parallel worker is told, and the door through which Ray Train enters it.

Free of torch: the driver of a trial and Ray Train's controller hold the door without going through it, and
importing torch would take them seconds.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from r2d2.storage.depot import Depot, open_depot
from r2d2.storage.s3 import PATIENCE
from runner.attempt import Attempt


@dataclass(frozen=True)
class WorkerTask:
    """What a worker is told: a plain value, sent as a dictionary.

    Attributes:
        config: TrainConfig as a dictionary.
        init: where the starting weights are; "scratch" or a model's path.
        trial_folder: the trial's folder, or `s3://bucket/prefix`.
        threads: how many the worker computes with.
        started: when the trial was started, seconds since 1970.
        objects: CacheSettings as a dictionary: where a node keeps what is on S3; None: nowhere.
        attempt: Attempt as a dictionary: the turn for which it writes; None: nobody else can write.
        checkpoint_steps: a checkpoint after every so many steps too; 0: after epochs only.
        silence: seconds without a sign of life after which a worker ends itself; 0: never.
        pieces: how many pieces a part of a step is computed in, see `Share`.
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
    pieces: int = 1
    driver_node: str = ""
    attempt: dict[str, Any] | None = None

    @property
    def turn(self) -> Attempt | None:
        """The attempt as a value."""
        return None if self.attempt is None else Attempt(**self.attempt)

    @property
    def patience(self) -> float:
        """Seconds that a request to S3 is tried again for."""
        return PATIENCE if self.objects is None else float(self.objects["patience"])

    @property
    def trial(self) -> Depot:
        """What is kept of the trial."""
        return open_depot(self.trial_folder, self.patience)

    def to_dict(self) -> dict[str, Any]:
        """The dictionary that Ray Train hands to every worker."""
        return asdict(self)


def train_worker(arguments: dict[str, Any]) -> None:
    """The function that Ray Train runs in every worker; see `runner.worker.work`."""
    from runner.worker import work

    work(WorkerTask(**arguments))
