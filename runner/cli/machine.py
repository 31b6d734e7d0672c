"""Defines the verbs about this machine: ui, doctor."""

from __future__ import annotations

import dataclasses

import click

from runner.settings import Settings
from runner.terminal.answer import json_option, people_console, print_answer
from runner.terminal.console import make_console, show_line


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=5000, show_default=True, type=click.IntRange(1, 65535), help="Port to listen on."
)
def ui(host: str, port: int) -> None:
    """Start MLflow's web interface for the local store: runs, curves, tables, pictures, registered models.

    If a server keeps the runs, nothing is started: the addresses of its pages are printed.
    """
    from runner.tracking.experiments import Tracker
    from runner.tracking.tables import view_link
    from runner.tracking.ui import page_address, serve_ui

    settings, console = Settings.from_environment(), make_console()

    def show_links(server: str) -> None:
        tracker = Tracker.of(settings)
        for name, experiment in tracker.experiments().items():
            show_line(console, f"{name}: {view_link(server, experiment)}")

    if settings.artifact_root is None:
        show_links(settings.tracking_uri)
        console.print(
            f"Runs are kept by {settings.tracking_uri}: open that address in a browser.", soft_wrap=True
        )
        return
    address = page_address(host, port)

    def show_where() -> None:
        console.print(f"MLflow's pages answer at {address}; Ctrl-C ends them. The table of each sweep:")
        show_links(address)

    console.print("starting MLflow's pages ...")
    serve_ui(settings.tracking_uri, settings.artifact_root, host, port, show_where)


@click.command()
@click.option(
    "--address",
    envvar="RAY_ADDRESS",
    help="Address of a cluster to check too: HOST:PORT, ray://HOST:PORT, or its dashboard, e.g. "
    "http://localhost:8265 [RAY_ADDRESS].",
)
@click.option(
    "--home", help="Home of the sweeps as the nodes see it; only with a dashboard's address [R2D2_HOME]."
)
@click.option(
    "--env",
    "variables",
    multiple=True,
    metavar="NAME=VALUE",
    help="Variable of the job; only with a dashboard's address.",
)
@json_option
def doctor(address: str | None, home: str | None, variables: tuple[str, ...], as_json: bool) -> None:
    """Check this machine: packages, folders, disk, photographs, Ray, MLflow. One line each.

    With the address of a cluster, every node is checked too: versions, code, folders, S3, MLflow, GPUs,
    clock and disk. Through a dashboard this runs on the cluster, as a job.
    """
    if address is not None and address.startswith(("http://", "https://")):
        from runner.cli.submit import run_as_job

        if as_json:
            raise ValueError(
                "through a dashboard the doctor runs as a job, whose log is no JSON; leave out --json"
            )
        run_as_job(address, ("doctor", "--address", "auto"), home, variables)
        return
    from runner.doctor.nodes import all_checks

    console = people_console(as_json)
    checks = []
    settings = dataclasses.replace(Settings.from_environment(), ray_address=address)
    for check in all_checks(settings):
        console.print(
            f"[green]ok[/]   {check.name}: " if check.ok else f"[red]no[/]   {check.name}: ", end=""
        )
        show_line(console, check.finding)
        checks.append(check)
    well = all(check.ok for check in checks)
    if as_json:
        print_answer("doctor", ok=well, checks=[dataclasses.asdict(check) for check in checks])
    if not well:
        raise click.exceptions.Exit(1)
