"""Defines the verb submit, which hands sweeps to a cluster."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from r2d2.config import DataConfig
from r2d2.data.photos import SAMPLES
from r2d2.storage.location import is_remote
from runner.cli.running import INTERRUPTED
from runner.cli.sweep import all_overrides, sweep
from runner.settings import inherited_variables
from runner.terminal.answer import json_option, print_answer
from runner.terminal.console import make_console
from runner.terminal.fitted_table import Column, FittedTable


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": True})
@click.argument("name", required=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--address",
    envvar="RAY_API_SERVER_ADDRESS",
    required=True,
    help="Address of the cluster's dashboard, e.g. http://localhost:8265 [RAY_API_SERVER_ADDRESS].",
)
@click.option(
    "--home",
    envvar="R2D2_HOME",
    help="Home of trials and checkpoints: s3://BUCKET/PREFIX, or a folder that every node sees [R2D2_HOME].",
)
@click.option(
    "--env", "variables", multiple=True, metavar="NAME=VALUE", help="Variable of the job's environment."
)
@click.option("--detach", is_flag=True, help="Leave the log at once; the job goes on.")
@click.option("--status", is_flag=True, help="List the jobs of NAME, or of all sweeps, and submit nothing.")
@click.option("--stop", is_flag=True, help="Stop the job of NAME; submitting it again resumes it.")
@json_option
def submit(
    name: str | None,
    arguments: tuple[str, ...],
    address: str,
    home: str | None,
    variables: tuple[str, ...],
    detach: bool,
    status: bool,
    stop: bool,
    as_json: bool,
) -> None:
    """Run the sweep NAME on a Ray cluster; all further options are those of `r2d2 sweep`.

    The job runs a copy of the code that this command runs from. The command follows the job's log; Ctrl-C
    leaves the log and does not stop the job. If the sweep runs already, its log is followed. If it has ended,
    it is resumed.
    """
    from runner.cluster.job_contents import refuse_secrets
    from runner.cluster.jobs import SweepJobs

    if as_json and not status:
        raise ValueError("--json belongs to --status; the log of a job is no JSON")
    if status:
        _show(SweepJobs(address), name, as_json)
        return
    if name is None:
        raise ValueError("no sweep is named: give its name (see r2d2 sweeps) or the path of its file")
    if stop:
        own_name = _own_name(name, arguments)
        job, by_itself = SweepJobs(address).stop(own_name)
        how = "has stopped" if by_itself else "is asked to stop"
        click.echo(f"{job.id} {how}; r2d2 submit {name} resumes it.")
        return
    own_name = _checked(name, arguments)
    settings = _variables(home, variables)
    refuse_secrets(settings)
    click.echo(f"Trials and checkpoints go to {settings['R2D2_HOME']}, as the cluster's nodes see it.")
    jobs = SweepJobs(address)
    job, new = jobs.submit(own_name, (name, *arguments), settings)
    click.echo(f"{job.id}: {'submitted' if new else f'is {job.status.lower()} already'}: {job.entrypoint}")
    if not detach:
        _follow(jobs, job, name)


def run_as_job(
    address: str, arguments: tuple[str, ...], home: str | None, variables: tuple[str, ...]
) -> None:
    """Runs a command of this program as a job of a cluster, and shows its log.

    Args:
        address: of the dashboard.
        arguments: the verb, and what follows it.
        home: as the cluster's nodes see it; None: R2D2_HOME.
        variables: `NAME=VALUE` assignments for the job.

    Raises:
        Exit: if the job failed or was left.
    """
    from runner.cluster.jobs import SweepJobs

    settings = _variables(home or os.environ.get("R2D2_HOME"), variables)
    jobs = SweepJobs(address)
    job = jobs.run(arguments, settings)
    try:
        ended = jobs.follow(job, _write, lambda sentence: click.echo(sentence, err=True))
    except KeyboardInterrupt:
        jobs.end(job)
        raise
    if ended.status != "SUCCEEDED":
        raise click.exceptions.Exit(1)


def _own_name(name: str, arguments: tuple[str, ...]) -> str:
    context = sweep.make_context("submit", [name, *arguments])
    return str(context.params["own_name"] or Path(name).stem)


def _checked(name: str, arguments: tuple[str, ...]) -> str:
    """Refuses here what the job would refuse there, as far as it is known here; returns the sweep's name.

    Raises:
        ValueError: for an unknown sweep, key or value, or places that only this machine has.
    """
    from runner.sweep.checks import refuse_samples
    from search_spaces.sweep import load_sweep

    if any(argument.partition("=")[0] == "--notify" for argument in arguments):
        raise ValueError(
            "the address of --notify may hold a secret, and anybody who sees the cluster's dashboard can "
            "read a job's command; set R2D2_NOTIFY on the cluster's nodes instead"
        )
    context = sweep.make_context("submit", [name, *arguments])
    given = (context.params[option] for option in ("preset", "photos", "overrides"))
    overrides = all_overrides(name, *given)
    asked = load_sweep(name)[0]
    places = {place for trial in asked.trials(overrides) for place in _places(trial.config.data)}
    for place in sorted(places):
        if "://" not in place and not Path(place).is_absolute():
            raise ValueError(
                f"the training data lie in '{place}'; a job needs the full path, as the cluster's nodes "
                "see it"
            )
    for option in ("hpatches", "released"):
        place = context.params[option]
        if place is not None and "://" not in str(place) and not Path(place).is_absolute():
            raise ValueError(
                f"--{option} is '{place}'; a job needs the full path, as the cluster's nodes see it"
            )
    refuse_samples(asked, Path(name).stem, overrides)
    return _own_name(name, arguments)


def _places(data: DataConfig) -> set[str]:
    """Returns the places of a trial's training data; none for the sample photographs."""
    from r2d2.data.source_text import parse_sources

    named = {part.place for part in parse_sources(data.sources)} if data.sources else {data.photos}
    return named - {SAMPLES}


def _variables(home: str | None, assignments: tuple[str, ...]) -> dict[str, str]:
    """Returns the job's variables: those of here that name places, then those of the command line.

    Raises:
        ValueError: if the home is missing or relative, or an assignment is not NAME=VALUE.
    """
    if home is None or not (is_remote(home) or Path(home).is_absolute()):
        given = f"the home is '{home}'" if home else "there is no home (--home or R2D2_HOME)"
        raise ValueError(
            f"{given}; give s3://BUCKET/PREFIX, or the full path of a folder that every node of the cluster "
            "sees: trials and checkpoints lie there"
        )
    found = inherited_variables()
    for assignment in assignments:
        name, separator, value = assignment.partition("=")
        if not separator or not name:
            raise ValueError(f"--env '{assignment}' is no assignment; write NAME=VALUE")
        found[name] = value
    if is_remote(home) and not found.get("MLFLOW_TRACKING_URI"):
        raise ValueError(
            f"the home is {home}, where no SQLite file of MLflow's can lie, and a job's disk goes with it; "
            "set MLFLOW_TRACKING_URI to the MLflow server"
        )
    return {**found, "R2D2_HOME": home}


def _show(jobs: Any, name: str | None, as_json: bool) -> None:
    found = jobs.of(name) if name else jobs.all()
    if as_json:
        print_answer("jobs", jobs=[asdict(job) for job in found])
        return
    table = FittedTable(["job", "status", "minutes", Column("command", words=True, rank=0)])
    for job in found:
        end = job.ended or time.time()
        minutes = f"{(end - job.started) / 60:.1f}" if job.started else "-"
        table.add_row(job.id, job.status.lower(), minutes, job.entrypoint)
    make_console().print(table)


def _write(piece: str) -> None:
    sys.stdout.write(piece)
    sys.stdout.flush()


def _follow(jobs: Any, job: Any, name: str) -> None:
    """Follows the log to the job's end.

    Raises:
        Exit: with status 1 if the job failed, 130 if it was stopped or is left.
    """
    try:
        ended = jobs.follow(job, _write, lambda sentence: click.echo(sentence, err=True))
    except KeyboardInterrupt:
        click.echo(
            f"\n{job.id} goes on. Follow it again: r2d2 submit {name}; stop it: r2d2 submit {name} --stop "
            f"(both with --address {jobs.address})"
        )
        raise click.exceptions.Exit(INTERRUPTED) from None
    # What follows in a failed job's message is the end of the log, which was just seen.
    message = ended.message.partition(", last available logs")[0]
    click.echo(f"{ended.id}: {ended.status.lower()}. {message}")
    if ended.status != "SUCCEEDED":
        raise click.exceptions.Exit(INTERRUPTED if ended.status == "STOPPED" else 1)
