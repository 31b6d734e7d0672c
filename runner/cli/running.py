"""Shows what a planned sweep will cost, or runs it; for every verb that trains."""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from runner.settings import Settings
from runner.terminal.console import show_line
from runner.terminal.words import say

# 128 + SIGINT.
INTERRUPTED = 130


def show_estimate(
    plan: Any,
    settings: Settings,
    console: Console,
    address: str | None = None,
    seconds_per_epoch: float | None = None,
    price: float | None = None,
) -> None:
    """Prints every trial and the time; with the address of a cluster, what it would take there.

    Args:
        plan: the sweep's.
        settings: where things are.
        console: the terminal.
        address: of the cluster; None: that of the settings.
        seconds_per_epoch: of every trial; None: a step of each kind is timed.
        price: of an hour of a GPU.
    """
    from runner.sweep.estimate import estimate, what_is_left

    left, ended = what_is_left(plan)
    if ended:
        show_line(console, f"{ended} trials have ended and are not run again.")
    if not left.trials:
        return
    address = address or settings.ray_address
    if address is not None:
        say(f"joining Ray at {address}")
    if seconds_per_epoch is None:
        say("timing a step of each kind of trial")
    settings = dataclasses.replace(settings, ray_address=address)
    estimate(left, settings, seconds_per_epoch, price).show(console)
    show_design(plan, settings, console)


def show_design(plan: Any, settings: Settings, console: Console) -> None:
    """Prints how large a sweep is, and what it can show or what its question will take."""
    from runner.sweep.design import design_of
    from runner.sweep.question import question_lines

    design_of(plan).show(console)
    for line in question_lines(plan, settings) if plan.options.asked is not None else ():
        show_line(console, line)


def run_and_show(
    plan: Any, settings: Settings, console: Console, again: str | None = None, notify: str | None = None
) -> Any:
    """Runs the sweep and prints its table, what failed, and where to look.

    Args:
        plan: the sweep's.
        settings: where things are.
        console: the terminal.
        again: a sentence that says how it is continued; None: by the same command.
        notify: address of a webhook; None: that of R2D2_NOTIFY, if it is set.

    Raises:
        Exit: if it was interrupted, with the status that shells give such commands.
    """
    from runner.cli.compare import show_report
    from runner.sweep.notify import Notifier
    from runner.sweep.run import run_sweep

    show_design(plan, settings, console)
    if settings.is_remote and settings.tracking_uri.startswith("sqlite:"):
        show_line(
            console,
            f"The sweep lies in {settings.home}; MLflow's runs go to {settings.local} on this machine, which "
            "others do not see. MLFLOW_TRACKING_URI names a server.",
        )
    notifier = Notifier(os.environ.get("R2D2_NOTIFY", "") if notify is None else notify)
    result = run_sweep(plan, settings, console, notifier=notifier)
    if result.report is not None:
        show_report(console, result.report)
    for key, reason in result.failed.items():
        console.print(f"[red]failed[/] {key}: {escape(reason)}", soft_wrap=True)
    if result.behind:
        reasons = "; ".join(dict.fromkeys(result.behind.values()))
        lacking = f"MLflow lacks something of {len(result.behind)} trials ({reasons})"
        show_line(console, f"{lacking}; log it with r2d2 sync {plan.definition.name}")
    if result.page is not None:
        show_line(console, f"The comparison as a page: {result.page}")
    show_line(console, f"Runs, curves and pictures: r2d2 ui   (experiment '{plan.definition.name}')")
    if result.interrupted:
        same = again or f"The same command continues: {shlex.join(['r2d2', *sys.argv[1:]])}"
        show_line(console, f"Interrupted. {same}")
        raise click.exceptions.Exit(INTERRUPTED)
    return result
