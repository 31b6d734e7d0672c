"""Verbs about this machine: ui, doctor."""

from __future__ import annotations

import click

from runner.console import make_console
from runner.settings import Settings


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=5000, show_default=True, type=click.IntRange(1, 65535), help="Port to listen on."
)
def ui(host: str, port: int) -> None:
    """Start the MLflow server on the local store: runs, curves, tables, pictures, registered models."""
    from runner.ui import serve_ui

    settings = Settings.from_environment()
    if settings.artifact_root is None:
        raise ValueError(
            f"runs are kept by the server {settings.tracking_uri}; open that address in a browser"
        )
    serve_ui(settings.tracking_uri, settings.artifact_root, host, port)


@click.command()
def doctor() -> None:
    """Check this machine: packages, folders, disk, photographs, Ray, MLflow. One line each."""
    from runner.doctor import checks

    console = make_console()
    failed = False
    for check in checks(Settings.from_environment()):
        console.print(
            f"[green]ok[/]   {check.name}: " if check.ok else f"[red]no[/]   {check.name}: ", end=""
        )
        console.print(check.finding, markup=False, soft_wrap=True)
        failed |= not check.ok
    if failed:
        raise click.exceptions.Exit(1)
