"""Submits sweeps as jobs of a Ray cluster, follows their logs, lists and stops them.

A job runs the same command that runs on a laptop, `python -m runner sweep ...`, on the cluster's head node.
One sweep has at most one job that waits or runs; a later job resumes the sweep, as the same command always
does.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r2d2.storage.scratch import scratch_folder
from runner.cluster.job_contents import copy_code, refuse_secrets
from runner.cluster.ray_faults import plain_faults, ray_fault

SWEEP_KEY = "r2d2_sweep"
PREFIX = "r2d2"

# So long may the cluster be silent before a log is given up; the job itself does not notice.
SILENCE_S = 600.0
LONGEST_PAUSE_S = 15.0
STOPPED_WITHIN_S = 60.0

ENDED = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})


@dataclass(frozen=True)
class SweepJob:
    """A SweepJob is one job, as the cluster describes it.

    Attributes:
        id: of the submission, `r2d2-NAME-1` for the first job of the sweep NAME.
        sweep: the sweep's name.
        status: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
        entrypoint: its command.
        message: what the cluster says of it.
        started, ended: seconds since 1970; None if it did not yet.
    """

    id: str
    sweep: str
    status: str
    entrypoint: str
    message: str
    started: float | None = None
    ended: float | None = None

    @property
    def lives(self) -> bool:
        """Says whether it waits or runs."""
        return self.status not in ENDED


class SweepJobs:
    """Submits and stops the sweeps of one cluster through its job server."""

    def __init__(self, address: str, client: Any = None) -> None:
        """Checks that the cluster's job server answers.

        Args:
            address: of the dashboard, e.g. `http://localhost:8265`.
            client: of Ray's Jobs API; one is made for the address without it.

        Raises:
            ValueError: if no job server answers there, or it refuses the token.
        """
        self.address = address
        self._client = client if client is not None else _connect(address)

    def of(self, sweep: str) -> list[SweepJob]:
        """Returns all jobs of a sweep, the oldest first."""
        return [job for job in self.all() if job.sweep == sweep]

    def all(self) -> list[SweepJob]:
        """Returns the jobs of all sweeps, the oldest first."""
        with plain_faults(self.address):
            known = self._client.list_jobs()
        jobs = [_job(details) for details in known if SWEEP_KEY in (details.metadata or {})]
        return sorted(jobs, key=lambda job: (job.sweep, _number(job)))

    def submit(
        self, sweep: str, arguments: Sequence[str], variables: Mapping[str, str]
    ) -> tuple[SweepJob, bool]:
        """Submits a sweep, unless a job of it waits or runs.

        Args:
            sweep: its name, that of its folder and experiment.
            arguments: those of `r2d2 sweep`, the name or file first.
            variables: of the environment, for the job and all its workers.

        Returns:
            The job, and whether it is new.

        Raises:
            ValueError: if a variable's name looks like a secret, or the sweep's file is missing.
        """
        refuse_secrets(variables)
        former = self.of(sweep)
        if former and former[-1].lives:
            return former[-1], False
        identity = f"{PREFIX}-{sweep}-{1 + max((_number(job) for job in former), default=0)}"
        with scratch_folder() as folder:
            name = copy_code(folder, arguments[0])
            self._submit(identity, ["sweep", name, *arguments[1:]], folder, variables, {SWEEP_KEY: sweep})
        return self.of(sweep)[-1], True

    def run(self, arguments: Sequence[str], variables: Mapping[str, str]) -> SweepJob:
        """Submits another command of this code.

        Args:
            arguments: the verb, and what follows it.
            variables: of the environment.

        Raises:
            ValueError: if a variable's name looks like a secret.
        """
        refuse_secrets(variables)
        identity = f"{PREFIX}-{arguments[0]}-{uuid.uuid4().hex[:8]}"
        with scratch_folder() as folder:
            copy_code(folder, "")
            self._submit(identity, arguments, folder, variables, {})
        return _job(self._info(identity))

    def _submit(
        self,
        identity: str,
        arguments: Sequence[str],
        folder: Path,
        variables: Mapping[str, str],
        metadata: dict[str, str],
    ) -> None:
        """Hands over a command of this program with the code in a folder."""
        with plain_faults(self.address):
            self._client.submit_job(
                entrypoint=shlex.join(["python", "-m", "runner", *arguments]),
                submission_id=identity,
                metadata=metadata,
                runtime_env={"working_dir": str(folder), "env_vars": dict(variables)},
            )

    def end(self, job: SweepJob) -> None:
        """Has the cluster end a job."""
        with plain_faults(self.address):
            self._client.stop_job(job.id)

    def _info(self, identity: str) -> Any:
        """Asks the cluster for one job."""
        with plain_faults(self.address):
            return self._client.get_job_info(identity)

    def stop(self, sweep: str, within: float = STOPPED_WITHIN_S) -> tuple[SweepJob, bool]:
        """Stops the waiting or running job of a sweep; another job resumes it.

        `r2d2 stop`, run beside the job with the job's variables, asks it to stop, so that its trials save
        their checkpoints. If the job does not end in time, the cluster ends it; stored files stay.

        Args:
            sweep: its name.
            within: seconds for which the job may take its time.

        Returns:
            The job as it was, and whether it has ended by itself.

        Raises:
            ValueError: if no job waits or runs.
        """
        living = [job for job in self.of(sweep) if job.lives]
        if not living:
            raise ValueError(f"no job of the sweep '{sweep}' runs on {self.address}")
        job = living[-1]
        if job.status == "RUNNING" and self._ask_to_stop(job, within):
            return job, True
        self.end(job)
        return job, False

    def _ask_to_stop(self, job: SweepJob, within: float) -> bool:
        """Runs `r2d2 stop` beside a job; returns whether the job has ended."""
        environment = self._info(job.id).runtime_env or {}
        asking = self.run(("stop", job.sweep, "--within", "0"), environment.get("env_vars", {}))
        until = time.monotonic() + within
        while time.monotonic() < until:
            if not _job(self._info(job.id)).lives:
                return True
            if _job(self._info(asking.id)).status == "FAILED":
                return False
            time.sleep(1.0)
        return False

    def follow(self, job: SweepJob, write: Callable[[str], None], note: Callable[[str], None]) -> SweepJob:
        """Writes a job's log until it ends; after a lost connection it goes on where it was.

        Args:
            job: which one.
            write: takes pieces of the log.
            note: takes sentences about the connection.

        Returns:
            The job as it ended.

        Raises:
            ValueError: if the cluster stays silent for ten minutes, refuses the token, or has no such job.
        """
        from aiohttp import ClientError
        from ray.exceptions import AuthenticationError

        log = _Log(write)
        pause, silent_since = 1.0, None
        while True:
            before = log.written
            try:
                asyncio.run(log.tail(self._client.tail_job_logs(job.id)))
                now = _job(self._client.get_job_info(job.id))
                if not now.lives:
                    return now
            except AuthenticationError as error:
                # A new head may have another token.
                raise ValueError(ray_fault(error, self.address)) from error
            except (OSError, RuntimeError, ClientError) as error:
                silent_since = (
                    time.monotonic() if silent_since is None or log.written > before else silent_since
                )
                if time.monotonic() - silent_since > SILENCE_S:
                    raise ValueError(
                        f"{self.address} has been silent for {SILENCE_S / 60:.0f} minutes ({error}); the job "
                        f"{job.id} may go on without you: r2d2 submit --status --address {self.address}"
                    ) from error
                if self._has_forgotten(job):
                    raise ValueError(
                        f"the cluster at {self.address} knows nothing of the job {job.id} any more: it has "
                        "been restarted, or the job deleted. Hand it over again: a sweep goes on from what "
                        "it has stored"
                    ) from error
                note(f"the connection to {self.address} is lost ({error}); trying again")
                time.sleep(pause)
                pause = 1.0 if log.written > before else min(2 * pause, LONGEST_PAUSE_S)
                continue
            silent_since = None
            time.sleep(1.0)

    def _has_forgotten(self, job: SweepJob) -> bool:
        """Says whether the cluster answers and has no such job, as a new head does."""
        from ray.exceptions import AuthenticationError

        try:
            return all(known.submission_id != job.id for known in self._client.list_jobs())
        except AuthenticationError as error:
            # A new head may have another token.
            raise ValueError(ray_fault(error, self.address)) from error
        except (OSError, RuntimeError):
            return False


class _Log:
    """Writes each part of a log once; every attempt delivers the log from its beginning."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self.written = 0

    async def tail(self, pieces: Any) -> None:
        position = 0
        async for piece in pieces:
            fresh = piece[max(0, self.written - position) :]
            position += len(piece)
            if fresh:
                self._write(fresh)
                self.written = position


def _connect(address: str) -> Any:
    from ray.job_submission import JobSubmissionClient

    if not address.startswith(("http://", "https://")):
        raise ValueError(
            f"--address is '{address}'; give the dashboard's address, https://HEAD or http://localhost:8265"
        )

    # Ray would let RAY_ADDRESS win over the address that it is given.
    os.environ["RAY_API_SERVER_ADDRESS"] = address
    # What it is doing is said by the verb.
    for name in ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with plain_faults(address):
        return JobSubmissionClient(address)


def _job(details: Any) -> SweepJob:
    return SweepJob(
        id=details.submission_id,
        sweep=(details.metadata or {}).get(SWEEP_KEY, ""),
        status=str(getattr(details.status, "value", details.status)),
        entrypoint=details.entrypoint,
        message=details.message or "",
        started=details.start_time / 1000 if details.start_time else None,
        ended=details.end_time / 1000 if details.end_time else None,
    )


def _number(job: SweepJob) -> int:
    tail = job.id.rpartition("-")[2]
    return int(tail) if tail.isdecimal() else 0
