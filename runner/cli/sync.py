"""The verb that tells MLflow what it missed: sync."""

from __future__ import annotations

import click
from rich.text import Text

from runner.console import make_console
from runner.settings import Settings


@click.command()
@click.argument("name")
def sync(name: str) -> None:
    """Tell MLflow what it missed of the sweep NAME while it was away.

    What it has is not told twice. Needs the sweep's folder in R2D2_HOME, no Ray and no photographs.
    """
    from runner.syncing import sync_sweep
    from runner.tracking import Tracker

    console, settings = make_console(), Settings.from_environment()
    tracker = Tracker.of(settings)
    result = sync_sweep(settings.sweep(name), tracker, lambda text: console.print(Text(text), soft_wrap=True))
    for key, reason in result.behind.items():
        console.print(Text(f"{key}: {reason}"), soft_wrap=True)
    console.print(
        f"MLflow has everything of {result.trials - len(result.behind)} of {result.trials} trials"
        f"{' and the summary' if result.summary_run else ''}."
    )
    if result.behind:
        raise click.exceptions.Exit(1)
