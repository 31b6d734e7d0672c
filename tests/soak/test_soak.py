"""A sweep of small trials, disturbed at random moments and resumed, again and again: `make soak`.

SOAK_MINUTES says for how long, SOAK_SEED which faults come and when. Moments are counted in what the
trainings have kept, so that a seed does nearly the same on a slower machine.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from disturbances import KINDS, Scene
from faulty_proxy import FaultyProxy
from invariants import Outcome, Run, Writings, violations
from processes import PROC, all_processes, title_of
from ray_nodes import running_cluster
from small_disk import small_disk
from story import SPEED, Story, left_running, r2d2

from runner.compare.stored import compared
from runner.record.history import read_evaluation
from runner.tracking.experiments import Tracker
from runner.tracking.run import rounded

pytestmark = [pytest.mark.soak, pytest.mark.timeout(0)]

SWEEP = Path(__file__).with_name("trials.py")
ROLE = "validation"
# The machine may be shared: so long a command may take, and what is left of a cluster to end.
ENDS_WITHIN_S, GONE_WITHIN_S = 1200, 90
# A moment is so many events of trainings and so many seconds after the former one, at most.
EVENTS, SECONDS, LONGEST_WAIT_S = 3, 5, 120
# In the folder for temporary files: sockets of the head's dashboard, and PyTorch's cache for all processes.
THEIRS = ("pymp-", "torchinductor_")


@dataclass
class Soak:
    """What all rounds share; each one is a sweep of its own.

    Attributes:
        seed: of all that is drawn.
        options: of the sweep's command.
        folder: for what the commands print.
        deck: the kinds of faults that come next; each comes once before any comes again.
        survived: how often each kind was.
    """

    scene: Scene
    seed: int
    home: str
    postgres: object
    options: tuple[str, ...]
    folder: Path
    deck: list[str] = field(default_factory=list)
    survived: Counter = field(default_factory=Counter)

    def round(self, number: int, commands: int, undisturbed: Outcome | None = None) -> Outcome:
        """Runs a sweep, so many times with faults, then once without; fails at a violation."""
        self.scene = replace(self.scene, name=f"soak-{self.seed}-{number}")
        self.scene.s3.done = writings = Writings()
        befell: list[tuple[str, str]] = []
        for command in range(commands):
            if self._disturbed_command(f"{self.seed}/{number}/{command}", writings, befell) == 0:
                break
        status = self._end(self._command("last"))
        found = self._outcome(writings)
        wrong = [f"the last command ended with {status}"] if status else []
        wrong += violations(found, undisturbed or found)
        if wrong:
            story = "\n  ".join(said for _, said in befell)
            pytest.fail(
                f"seed {self.seed}, sweep {self.scene.name}, after\n  {story}\n"
                + "\n".join(f"VIOLATION: {sentence}" for sentence in wrong)
                + f"\noutputs of its commands are in {self.folder}",
                pytrace=False,
            )
        self.survived.update(kind for kind, _ in befell)
        return found

    def _disturbed_command(self, name: str, writings: Writings, befell: list[tuple[str, str]]) -> int:
        """The command once, with one to three faults; its status."""
        job = self._command(name.rpartition("/")[2])
        for fault in range(random.Random(name).randint(1, 3)):
            chance = random.Random(f"{name}/{fault}")
            events, seconds = chance.randint(0, EVENTS), chance.uniform(0, SECONDS)
            self._wait(job, writings, len(writings.seen) + events)
            time.sleep(seconds)
            if job.poll() is not None:
                break
            kind, what = self._disturb(job, chance)
            if what is not None:
                said = f"fault {name}/{fault}, {events} events and {seconds:.1f} s: {kind} ({what})"
                befell.append((kind, said))
                print(time.strftime("%H:%M:%S"), said, flush=True)
        status = self._end(job)
        print(time.strftime("%H:%M:%S"), f"command {name} ended with {status}", flush=True)
        return status

    def _disturb(self, job: subprocess.Popen, chance: random.Random) -> tuple[str, str | None]:
        """The next kind of fault, as soon as there is something that it can be done to."""
        if not self.deck:
            self.deck = chance.sample(list(KINDS), len(KINDS))
        kind, deadline, what = self.deck.pop(), time.monotonic() + LONGEST_WAIT_S, None
        while what is None and job.poll() is None and time.monotonic() < deadline:
            what = KINDS[kind](replace(self.scene, chance=chance))
            time.sleep(0.2)
        if what is None:
            self.deck.insert(0, kind)
        return kind, what

    def _wait(self, job: subprocess.Popen, writings: Writings, events: int) -> None:
        deadline = time.monotonic() + LONGEST_WAIT_S
        while len(writings.seen) < events and job.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)

    def _command(self, name: str) -> subprocess.Popen:
        cluster, sweep = self.scene.cluster, self.scene.name
        where = ("--address", cluster.address, "--home", self.home, "--checkpoint-steps", "3")
        with (self.folder / f"{sweep}.{name}.out").open("w") as output:
            return r2d2(cluster, "submit", str(SWEEP), "--name", sweep, *where, *self.options, stdout=output)

    def _end(self, job: subprocess.Popen) -> int:
        try:
            return job.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            job.kill()
            return job.wait()

    def _outcome(self, writings: Writings) -> Outcome:
        story = Story(self.scene.cluster, self.home, self.scene.name, None)
        running = left_running(story.cluster)
        trials = {trial.key: trial for trial in story.stored.trials()}
        histories = {key: story.stored.history(trial) for key, trial in trials.items()}
        records = {key: history.records() for key, history in histories.items()}
        return Outcome(
            endings={key: ending(histories[key], trial) for key, trial in trials.items()},
            events={
                key: [
                    (
                        *(r.epoch, r.kind, slow(r.metrics)),
                        read_evaluation(histories[key], r).pairs if r.evaluation else r.error,
                    )
                    for r in of_trial
                ]
                for key, of_trial in records.items()
            },
            table=[
                (one.name, one.seeds, one.epochs, one.further, one.warnings, one.values.get("mma_3px"))
                for one in compared(story.stored, ROLE)[0]
            ],
            figures={
                "summary": {},
                **{
                    key: Counter((n, r.epoch, rounded(v)) for r in of_trial for n, v in r.metrics.items())
                    for key, of_trial in records.items()
                },
            },
            runs=[
                (run.key, self._run(run))
                for run in Tracker(self.scene.mlflow_server.uri).list_runs(story.name)
            ],
            written=writings.seen,
            running=running,
            left=sorted(path.name for path in self.scene.disk.iterdir() if not path.name.startswith(THEIRS)),
        )

    def _run(self, run) -> Run:
        query = f"select key, step, value from metrics where run_uuid = '{run.run_id}'"
        rows = [] if run.key == "summary" else self.postgres.rows(query)
        return Run(run.status, Counter((key, int(step), float(value)) for key, step, value in rows))


def ending(history, trial) -> str:
    if history.failure is not None:
        return f"failed: {history.failure}"
    if history.stopped_after is not None:
        return "stopped"
    return "complete" if history.is_complete(trial.config.epochs, [ROLE]) else "not complete"


def slow(metrics):
    """Figures without those of how fast it was."""
    return {name: value for name, value in metrics.items() if not name.startswith(SPEED)}


def of_cluster(token: str) -> list[str]:
    """Titles of all processes that were started with a token."""
    found = []
    for pid in all_processes():
        try:
            if token.encode() in (PROC / str(pid) / "environ").read_bytes():
                found.append(title_of(pid))
        except OSError:
            continue
    return found


def test_a_sweep_survives_whatever_happens(s3, mlflow_server, postgres, monkeypatch, tmp_path):
    seed, minutes = int(os.environ["SOAK_SEED"]), float(os.environ["SOAK_MINUTES"])
    print(f"\nsoak of {minutes:.0f} minutes, seed {seed}, S3 of {s3.kind}", flush=True)
    for name, value in mlflow_server.environment.items():
        monkeypatch.setenv(name, value)
    with (
        FaultyProxy(s3.endpoint) as s3_proxy,
        FaultyProxy(mlflow_server.uri) as mlflow_proxy,
        small_disk(tmp_path / "disk", "64m") as disk,
        running_cluster(**mlflow_server.environment, TMPDIR=str(disk), RAY_TMPDIR="/tmp") as cluster,
    ):
        token = cluster.environment["RAY_AUTH_TOKEN"]
        scene = Scene(cluster, "", s3_proxy, mlflow_proxy, mlflow_server, disk, random.Random(seed))
        variables = {
            "AWS_ENDPOINT_URL": s3_proxy.endpoint,
            "MLFLOW_TRACKING_URI": mlflow_proxy.endpoint,
            "R2D2_CACHE": str(tmp_path / "cache"),
        }
        options = tuple(word for item in variables.items() for word in ("--env", "=".join(item)))
        soak = Soak(scene, seed, s3.place("home"), postgres, options, tmp_path)
        undisturbed = soak.round(0, commands=0)
        print(time.strftime("%H:%M:%S"), "the undisturbed sweep has ended", flush=True)
        until = time.monotonic() + 60 * minutes
        rounds = 0
        while time.monotonic() < until:
            rounds += 1
            soak.round(rounds, random.Random(f"{seed}/{rounds}").randint(1, 3), undisturbed)
        print(f"{rounds} sweeps ended like an undisturbed one; survived:")
        for kind in KINDS:
            print(f"{soak.survived[kind]:4d}  {kind}", flush=True)
    deadline = time.monotonic() + GONE_WITHIN_S
    while (left := of_cluster(token)) and time.monotonic() < deadline:
        time.sleep(1)
    assert left == [], f"VIOLATION: after the cluster's end still runs: {left}"
