"""What clusters do to a sweep, done for real: its table ends as that of an undisturbed one."""

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

import pytest
from processes import naming, title_of

from runner.incidents import HANGING, LOST, PREEMPTED, RESIZED, incidents
from runner.settings import Settings
from runner.stored import StoredSweep
from runner.tracking import Tracker

pytestmark = [pytest.mark.multinode, pytest.mark.timeout(1500)]

ROOT = Path(__file__).parents[2]
SWEEP = Path(__file__).with_name("faults.py")
PATIENCE_S = 900
SPEED = ("train/pairs_per_second", "worker/")
# Titles of processes.
WORKER, JUDGE, SCORING = "ray::RayTrainWorker", "ray::Judge", "ray::Judge.score"
CONTROLLER, DRIVER = "ray::TrainController", "ray::ImplicitFunc"


@dataclass(frozen=True)
class Story:
    """A sweep that runs, or ran, as a job; `job` is the command that follows it."""

    cluster: object
    home: Path
    name: str
    job: subprocess.Popen

    @property
    def stored(self) -> StoredSweep:
        return StoredSweep(self.home / "sweeps" / self.name)

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


def r2d2(cluster, *arguments):
    environment = {**cluster.environment, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "runner", *arguments]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@contextmanager
def submitted(
    cluster,
    home: Path,
    name: str,
    *options: str,
    nodes: int = 2,
    status: int = 0,
    says: str = "succeeded",
):
    """A sweep that runs on a cluster of so many worker nodes, followed to its end.

    The command that follows it must end with a status, and say something; by default those of a good end.
    """
    cluster.ensure_nodes(nodes)
    where = ("--address", cluster.address, "--home", str(home))
    with r2d2(cluster, "submit", str(SWEEP), "--name", name, *where, *options) as job:
        try:
            yield Story(cluster, home, name, job)
            output, _ = job.communicate(timeout=PATIENCE_S)
        finally:
            job.kill()
    assert job.returncode == status, output
    assert says in output


def wait_for(happened: Callable[[], object], what: str):
    """What `happened` returns once that is something."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := happened()):
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.2)
    return found


@pytest.fixture(scope="module")
def undisturbed(cluster, tmp_path_factory):
    with submitted(cluster, tmp_path_factory.mktemp("undisturbed"), "undisturbed") as story:
        pass
    return story


def assert_ended_like(story: Story, undisturbed: Story, *, exactly: bool = True) -> None:
    """The figures, MLflow's runs and steps, what was kept on disk, and that nobody is left."""
    ours, theirs = story.events(), undisturbed.events()
    assert ours.keys() == theirs.keys()
    for key, events in theirs.items():
        assert [event[:2] for event in ours[key]] == [event[:2] for event in events]
        for (_, _, mine), (_, _, expected) in zip(ours[key], events, strict=True):
            assert mine == (expected if exactly else pytest.approx(expected, abs=1e-3, rel=1e-2))
            for name, value in expected.items():
                if "/mma_" in name:
                    assert mine[name] == pytest.approx(value, abs=1e-3)
    assert_told_once(story)
    for trial in story.stored.trials():
        kept = [p.name for p in story.stored.trial_folder(trial).glob("train/checkpoint_*")]
        assert len(kept) <= 4, kept
    assert_nobody_is_left(story.cluster)


def assert_told_once(story: Story) -> None:
    settings = Settings.from_environment({"R2D2_HOME": str(story.home)})
    tracker = Tracker.of(settings)
    runs = tracker.list_runs(story.name)
    assert sorted(r.role for r in runs) == ["summary", "trial", "trial"]
    assert {r.status for r in runs} == {"FINISHED"}
    for run in [r for r in runs if r.role == "trial"]:
        for metric in ("train/loss_total", "validation/mma_3px"):
            steps = sorted(m.step for m in tracker.client.get_metric_history(run.run_id, metric))
            assert steps == [1, 2], (run.name, metric)


def assert_nobody_is_left(cluster) -> None:
    """No actor of the sweep lives, and no process of one; Ray needs a moment to end them."""

    def nobody() -> bool:
        return not any(cluster.find(title) for title in (WORKER, JUDGE, CONTROLLER, DRIVER))

    wait_for(nobody, "the end of the sweep's processes")
    listed = cluster.ray(
        "list", "actors", "--address", cluster.address, "--filter", "state=ALIVE", "--format", "json"
    )
    names = {actor["class_name"] for actor in json.loads(listed.stdout or "[]")}
    # What Ray Data keeps for the cluster's life.
    assert names <= {"AutoscalingCoordinator", "_AutoscalingCoordinatorActor"}, listed.stdout


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


def kill_job_driver(name: str) -> None:
    """Kills the driver of the sweep's job, and not the command that follows it."""
    drivers = [pid for pid in naming(f"--name {name} ") if "runner sweep " in title_of(pid)]
    assert drivers
    kill(*drivers)


def former_processes(cluster) -> list[int]:
    """What must end with the head: the worker nodes' raylets and our processes on them."""
    titles = ("raylet/raylet", WORKER, CONTROLLER, DRIVER)
    of_nodes = [item for number in cluster.nodes for item in cluster.processes(number).items()]
    return [pid for pid, title in of_nodes if any(wanted in title for wanted in titles)]


def test_killed_and_hanging_processes_change_no_figure(cluster, undisturbed, tmp_path):
    options = ("--checkpoint-steps", "3", "--silence", "25")
    with submitted(cluster, tmp_path, "killed", *options) as story:
        story.mid_epoch(1)
        story.kill(WORKER)
        story.kill(SCORING)
        story.mid_epoch(2)
        kill(next(iter(cluster.find(WORKER))))
        story.goes_on(2, story.partial(2))
        former = cluster.find(WORKER).keys()
        # The driver's workers end with it, and others take their place.
        story.kill(DRIVER)
        story.wait_for(lambda: cluster.find(WORKER).keys() - former, "other workers")
        # One rank hangs, so both must start again.
        story.mid_epoch(2, epoch=2)
        os.kill(next(iter(cluster.find(WORKER))), signal.SIGSTOP)
    assert LOST in story.incidents(1)
    # The other rank notices the hanging one, and so does Ray: both may say so, or Ray alone that it is lost.
    first, *later = story.incidents(2)
    assert first == LOST
    assert later
    assert set(later) <= {LOST, HANGING}
    assert_ended_like(story, undisturbed)


def test_lost_nodes_change_no_figure_and_notice_leaves_a_checkpoint(cluster, undisturbed, tmp_path):
    # The judge asks for a CPU, so it has a node of its own: the head has none.
    options = ("--checkpoint-steps", "3", "--judge-cpus", "1")
    with submitted(cluster, tmp_path, "lost", *options, nodes=3) as story:
        story.mid_epoch(1)
        with held(cluster, WORKER) as workers:
            number = next(iter(workers.values()))
            drained = cluster.ray(
                *("drain-node", "--address", cluster.gcs, "--node-id", cluster.node_id(number)),
                *("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"),
                *("--deadline-remaining-seconds", "90"),
            )
            assert drained.returncode == 0, drained.stdout + drained.stderr
        story.wait_for(lambda: PREEMPTED in story.incidents(1), "a checkpoint because of the notice")
        cluster.kill_node(number)
        # It goes on with the third node; the judge's is lost while it scores, and a new one takes over.
        cluster.kill_node(next(iter(story.wait_for(lambda: cluster.find(SCORING), "a score").values())))
        cluster.ensure_nodes(3)
        story.mid_epoch(2)
        # Only one CPU is left for its two workers: it waits until there is another one.
        cluster.kill_node(next(iter(cluster.find(WORKER).values())))
        cluster.ensure_nodes(3)
    assert_ended_like(story, undisturbed)


def test_with_fewer_workers_the_loss_stays_the_same(cluster, undisturbed, tmp_path):
    options = ("--checkpoint-steps", "3", "--min-workers", "1")
    with submitted(cluster, tmp_path, "elastic", *options) as story:
        story.mid_epoch(2)
        cluster.kill_node(max(cluster.find(WORKER).values()))
    assert RESIZED in story.incidents(2)
    assert_ended_like(story, undisturbed, exactly=False)


def test_a_job_whose_driver_or_head_was_killed_is_resumed_by_the_next(cluster, undisturbed, tmp_path):
    sweep = (cluster, tmp_path, "again", "--checkpoint-steps", "3")
    with submitted(*sweep, status=1, says="r2d2-again-1: failed") as story:
        story.mid_epoch(1)
        kill_job_driver("again")
    with submitted(*sweep, status=2, says="knows nothing of the job r2d2-again-2 any more") as story:
        story.mid_epoch(2)
        former = former_processes(cluster)
        assert len(former) > 2
        cluster.kill_head()
        # The nodes notice, and what trains on them ends.
        wait_for(lambda: not any(map(title_of, former)), "the end of the former nodes")
        cluster.start_head()
    with submitted(*sweep) as story:
        pass
    assert_ended_like(story, undisturbed)
