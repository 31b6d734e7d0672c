"""Defines the verbs about sweeps that were started: resume, extend, retry, stop, sync, prune."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from runner.cli.options import cluster_options, with_asked
from runner.settings import Settings
from runner.terminal.answer import json_option, people_console, print_answer
from runner.terminal.console import make_console, show_line
from runner.terminal.fitted_table import Column, FittedTable
from runner.terminal.words import say

if TYPE_CHECKING:
    from runner.sweep.plan import SweepPlan
    from runner.sweep.prune import Item
    from runner.tracking.experiments import Tracker

STOPPED_WITHIN_S = 60.0


def _run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --dry-run, --verbose, --trust and the options of the cluster."""
    dry_run = click.option(
        "--dry-run", is_flag=True, help="Print every trial and the estimated time, and run nothing."
    )
    verbose = click.option("--verbose", is_flag=True, help="Show also what Ray's processes print.")
    trust = click.option(
        "--trust",
        is_flag=True,
        help="Trust the sweep's stored file: execute it though this user did not start it from this machine.",
    )
    return dry_run(cluster_options(trust(verbose(command))))


@click.command()
@click.argument("sweep")
@_run_options
def resume(sweep: str, dry_run: bool, verbose: bool, **asked: Any) -> None:
    """Continue the sweep SWEEP with the options of its last run, except those given here.

    Every trial that has not ended, or has failed, goes on from its last checkpoint.
    """
    _continue(_plan(sweep, asked, verbose=verbose), dry_run)


@click.command()
@click.argument("sweep")
@click.option(
    "--set",
    "extension",
    multiple=True,
    metavar="KEY=VALUE",
    help="Setting that the added trials change, see `r2d2 settings`. Several values of one key, as in "
    "--set seed=3 --set seed=4, are tried one by one; several keys are tried in all combinations.",
)
@click.option(
    "--num-samples",
    type=click.IntRange(1),
    help="Number of trials of a searcher, or of draws from a space, in all.",
)
@_run_options
def extend(
    sweep: str,
    extension: tuple[str, ...],
    num_samples: int | None,
    dry_run: bool,
    verbose: bool,
    **asked: Any,
) -> None:
    """Add trials to the sweep SWEEP, and run them; its other trials stay as they are.

    A trial that the sweep has already is not made twice. A change to such a trial is refused.
    """
    if bool(extension) == (num_samples is not None):
        raise ValueError("nothing is to be added: give --set KEY=VALUE, or --num-samples of a searcher")
    added = {"extension": extension, "num_samples": num_samples}
    _continue(_plan(sweep, asked, verbose=verbose, **added), dry_run)


@click.command()
@click.argument("sweep")
@click.argument("trials", nargs=-1)
@click.option("--failed", is_flag=True, help="Run all trials that failed.")
@click.option(
    "--from-start",
    is_flag=True,
    help="Delete the checkpoints and scores of these trials first, and train them anew.",
)
@_run_options
def retry(
    sweep: str,
    trials: tuple[str, ...],
    failed: bool,
    from_start: bool,
    dry_run: bool,
    verbose: bool,
    **asked: Any,
) -> None:
    """Run failed trials of the sweep SWEEP again: all of them, or those named.

    They go on from their last checkpoints. `r2d2 resume` does that too, and also runs trials that were
    interrupted or never started. If its checkpoint makes a trial fail again, --from-start trains it anew.
    """
    from runner.record.sweep import StoredSweep, choose_failed

    if failed == bool(trials):
        raise ValueError("no trial is named: give --failed, or the names of failed trials")
    stored = StoredSweep(Settings.from_environment().sweep(sweep))
    chosen = choose_failed(stored, trials)
    plan = _plan(sweep, asked, verbose=verbose, only=frozenset(chosen), from_start=from_start)
    if dry_run:
        for key, reason in chosen.items():
            click.echo(f"{key}: {reason}")
        return
    _continue(plan, dry_run)


@click.command()
@click.argument("sweep")
@click.option(
    "--within",
    default=STOPPED_WITHIN_S,
    show_default=True,
    type=click.FloatRange(0),
    help="Seconds to wait for the end of the sweep.",
)
@json_option
def stop(sweep: str, within: float, as_json: bool) -> None:
    """Stop the running sweep SWEEP, also from another terminal or machine.

    The trials keep their last checkpoints, and `r2d2 resume SWEEP` continues them. The exit status is 1 if
    the sweep has not stopped in time.
    """
    from runner.record.lease import stop_sweep
    from runner.record.sweep import StoredSweep

    settings = Settings.from_environment()
    stored = StoredSweep(settings.sweep(sweep))
    # Refuses an unknown name with the known ones.
    _ = stored.definition
    stopped, text = stop_sweep(stored.store, within)
    click.echo(text, err=as_json)
    if as_json:
        print_answer("stop", sweep=sweep, stopped=stopped, text=text)
    if not stopped:
        raise click.exceptions.Exit(1)


def _plan(sweep: str, asked: Mapping[str, Any] | None = None, **changes: Any) -> SweepPlan:
    """Plans a stored sweep again.

    Args:
        sweep: its name.
        asked: see `with_asked`; and `trust`, see `StartedSweep.source_from`.
        changes: fields of `SweepOptions` that are not as they were.

    Raises:
        ValueError: if there is no such sweep, it was not written down how it was started, or its file is not
            trusted.
    """
    from runner.record.command import StartedSweep
    from runner.record.sweep import StoredSweep
    from runner.sweep.plan import SweepOptions, plan_sweep

    settings = Settings.from_environment()
    store = settings.sweep(sweep)
    definition = StoredSweep(store).definition
    started = StartedSweep.load(store)
    if started is None:
        raise ValueError(
            f"the sweep '{sweep}' was started by an earlier version, which did not write down how; run it "
            "with the command that started it"
        )
    asked = dict(asked or {})
    source = started.source_from(store, trust=asked.pop("trust", False))
    options = SweepOptions(sweep, with_asked(started.run, asked), asked=definition.asks, **changes)
    return plan_sweep(source, started.settings(settings), options, say)


def _continue(plan: SweepPlan, dry_run: bool) -> None:
    """Runs the sweep, or prints what it will cost.

    Raises:
        Exit: with status 1 if a trial failed, 130 if it was interrupted.
    """
    from runner.cli.running import run_and_show, show_estimate

    console = make_console()
    settings = plan.started.settings(Settings.from_environment())
    if dry_run:
        show_estimate(plan, settings, console)
        return
    again = f"r2d2 resume {plan.definition.name} continues it."
    if run_and_show(plan, settings, console, again).failed:
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("name")
@json_option
def sync(name: str, as_json: bool) -> None:
    """Log to MLflow what it missed of the sweep NAME while its server was away.

    Nothing is logged twice. The command needs the sweep's folder in R2D2_HOME, but no Ray and no photographs.
    """
    from runner.sweep.sync import sync_sweep
    from runner.tracking.experiments import Tracker

    console, settings = people_console(as_json), Settings.from_environment()
    tracker = Tracker.of(settings)
    result = sync_sweep(settings.sweep(name), tracker, partial(show_line, console))
    for key, reason in result.behind.items():
        show_line(console, f"{key}: {reason}")
    console.print(
        f"MLflow has everything of {result.trials - len(result.behind)} of {result.trials} trials"
        f"{' and the summary' if result.summary_run else ''}."
    )
    if as_json:
        print_answer("sync", sweep=name, **dataclasses.asdict(result))
    if result.behind:
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("sweep", required=False)
@click.option(
    "--keep",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Number of the best and of the last checkpoints that each trial keeps.",
)
@click.option("--failed", is_flag=True, help="List failed trials too; a sweep that goes on starts them anew.")
@click.option("--yes", is_flag=True, help="Delete what is listed.")
@json_option
def prune(sweep: str | None, keep: int, failed: bool, yes: bool, as_json: bool) -> None:
    """List what is no longer needed of SWEEP, or of all sweeps, with sizes; with --yes, delete it.

    The list holds checkpoints of ended trials that are neither among the best nor among the last, trials that
    are no longer part of their sweep, and Tune's own files. Without SWEEP it also holds stored predictions,
    and MLflow's runs, with their files, of sweeps that are gone. It never holds a checkpoint that a
    registered model was made from, nor anything of a running sweep.
    """
    from runner.sweep.prune import delete, find_items

    settings, console = Settings.from_environment(), people_console(as_json)
    items = list(find_items(settings, partial(_open_tracker, settings), sweep, keep, failed))
    size = sum(item.size for item in items)
    total = f"{len(items)} things, {size_text(size)}"
    if items:
        console.print(_table(items))
    if yes:
        delete(items, settings)
    if not items:
        console.print("There is nothing to delete.")
    else:
        console.print(f"{total}: deleted." if yes else f"{total}; nothing was deleted: --yes does it.")
    if as_json:
        shown = [{"what": item.what, "bytes": item.size, "why": item.why} for item in items]
        print_answer("prune", deleted=yes, bytes=size, items=shown)


def _table(items: Sequence[Item]) -> FittedTable:
    table = FittedTable(["what", Column("size", rank=0), Column("why", words=True, rank=0)])
    for item in items:
        table.add_row(item.what, size_text(item.size), item.why)
    return table


def _open_tracker(settings: Settings) -> Tracker:
    from runner.tracking.experiments import Tracker

    return Tracker.of(settings)


def size_text(size: float) -> str:
    """Formats bytes in the unit that fits them."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
