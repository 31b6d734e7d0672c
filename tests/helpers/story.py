"""Sweeps that run as jobs of a cluster, and what befalls their processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from processes import naming, title_of
from ray_nodes import ROOT

from runner.record.incidents import incidents
from runner.record.sweep import StoredSweep

TIMEOUT_S = 900
# Within so many seconds a sweep that has ended has no processes any more.
LEFT_AFTER_S = 120
SPEED = ("train/pairs_per_second", "worker/")
# Titles of processes.
WORKER, EVALUATOR, SCORING = "ray::RayTrainWorker", "ray::Evaluator", "ray::Evaluator.score"
CONTROLLER, DRIVER = "ray::TrainController", "ray::ImplicitFunc"


@dataclass(frozen=True)
class Story:
    """A sweep that runs, or ran, as a job; `job` is the command that follows it."""

    cluster: object
    home: Path | str
    name: str
    job: subprocess.Popen

    @property
    def stored(self) -> StoredSweep:
        return StoredSweep(f"{self.home}/sweeps/{self.name}")

    def trial(self, num_workers: int):
        """The trial with so many workers, once it has begun."""
        trials = self.stored.trials()
        return next(t for t in trials if t.config.epochs and t.config.num_workers == num_workers)

    def events(self) -> dict[str, list]:
        """Every event of every trial, but for how fast it was and where its files are."""
        return {
            trial.key: [
                (r.epoch, r.kind, {k: v for k, v in r.metrics.items() if not k.startswith(SPEED)})
                for r in self.stored.history(trial).records()
            ]
            for trial in self.stored.trials()
        }

    def incidents(self, num_workers: int) -> list[str]:
        """The kinds of what befell the trial with so many workers, in order."""
        return [incident.kind for incident in incidents(self.stored.history(self.trial(num_workers)))]

    def partial(self, num_workers: int) -> set[str]:
        """Names of the checkpoints in mid-epoch that the trial with so many workers has now."""
        if not (self.stored.folder / "sweep.json").exists():
            return set()
        begun = [t for t in self.stored.trials() if t.config.epochs and t.config.num_workers == num_workers]
        folders = [self.stored.trial_folder(trial) / "train" for trial in begun]
        return {
            path.parent.name for f in folders for path in f.glob("checkpoint_*_step_*/partial_epoch.json")
        }

    def wait_for(self, happened: Callable[[], object], what: str):
        """What `happened` returns once that is something, which must be before the job ends."""

        def happened_in_time():
            found = happened()
            assert found or self.job.poll() is None, (
                f"the job has ended without {what}: {self.job.stdout.read()}"
            )
            return found

        return wait_for(happened_in_time, what)

    def mid_epoch(self, num_workers: int, epoch: int = 1) -> set[str]:
        """Waits until the trial has a checkpoint in the middle of an epoch; those it has."""
        start = f"checkpoint_{epoch:03d}_step_"

        def there() -> set[str]:
            found = self.partial(num_workers)
            return found if any(name.startswith(start) for name in found) else set()

        return self.wait_for(there, f"a checkpoint in epoch {epoch} of the trial with {num_workers} workers")

    def goes_on(self, num_workers: int, former: set[str]) -> None:
        """Waits until the trial has another checkpoint in mid-epoch than the former ones."""
        self.wait_for(lambda: self.partial(num_workers) - former, "another checkpoint in mid-epoch")

    def kill(self, title: str) -> None:
        """Kills the processes of a title, once there are any."""
        kill(*self.wait_for(lambda: self.cluster.find(title), title))


def r2d2(cluster, *arguments, stdout=subprocess.PIPE):
    environment = {**cluster.environment, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "runner", *arguments]
    return subprocess.Popen(command, env=environment, stdout=stdout, stderr=subprocess.STDOUT, text=True)


@contextmanager
def submitted(
    cluster,
    home: Path,
    name: str,
    *options: str,
    file: Path,
    nodes: int = 2,
    status: int = 0,
    says: str = "succeeded",
):
    """A sweep that runs on a cluster of so many worker nodes, followed to its end.

    The command that follows it must end with a status, and say something; by default those of a good end.
    """
    cluster.ensure_nodes(nodes)
    where = ("--address", cluster.address, "--home", str(home))
    with r2d2(cluster, "submit", str(file), "--name", name, *where, *options) as job:
        try:
            yield Story(cluster, home, name, job)
            output, _ = job.communicate(timeout=TIMEOUT_S)
        finally:
            job.kill()
    assert job.returncode == status, output
    assert says in output


def wait_for(happened: Callable[[], object], what: str):
    """What `happened` returns once that is something."""
    deadline = time.monotonic() + TIMEOUT_S
    while not (found := happened()):
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.2)
    return found


def kill(*pids: int) -> None:
    """Kills processes at once; one that has just ended by itself is as good."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextmanager
def held(cluster, title: str):
    """Stops the processes of a title, so that what is done meanwhile finds them in their middle."""
    found = cluster.find(title)
    assert found, title
    try:
        for pid in found:
            os.kill(pid, signal.SIGSTOP)
        yield found
    finally:
        for pid in found:
            os.kill(pid, signal.SIGCONT)


def job_drivers(name: str) -> list[int]:
    """The drivers of a sweep's job, and not the command that follows it."""
    return [pid for pid in naming(f"--name {name} ") if "runner sweep " in title_of(pid)]


def former_processes(cluster) -> list[int]:
    """What must end with the head: the worker nodes' raylets and our processes on them."""
    titles = ("raylet/raylet", WORKER, CONTROLLER, DRIVER)
    of_nodes = [item for number in cluster.nodes for item in cluster.processes(number).items()]
    return [pid for pid, title in of_nodes if any(wanted in title for wanted in titles)]


def left_running(cluster) -> list[str]:
    """Titles of a sweep's processes and names of its actors that live on after a while, which Ray needs."""
    deadline = time.monotonic() + LEFT_AFTER_S
    while True:
        titles = [title for title in (WORKER, EVALUATOR, CONTROLLER, DRIVER) if cluster.find(title)]
        listed = cluster.ray(
            "list", "actors", "--address", cluster.address, "--filter", "state=ALIVE", "--format", "json"
        )
        # What Ray Data keeps for the cluster's life.
        actors = {actor["class_name"] for actor in json.loads(listed.stdout or "[]")} - {
            *("AutoscalingCoordinator", "_AutoscalingCoordinatorActor")
        }
        if not (titles or actors) or time.monotonic() > deadline:
            return [*titles, *actors]
        time.sleep(1)


def assert_nobody_is_left(cluster) -> None:
    assert left_running(cluster) == []
