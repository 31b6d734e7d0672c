"""The verb that frees space: prune."""

from __future__ import annotations

import click

from runner.console import make_console
from runner.fitted_table import Column, FittedTable
from runner.settings import Settings


@click.command()
@click.argument("sweep", required=False)
@click.option(
    "--keep",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="So many of the best and of the last checkpoints of each trial stay.",
)
@click.option(
    "--failed", is_flag=True, help="Failed trials too; the sweep, when it goes on, starts them anew."
)
@click.option("--yes", is_flag=True, help="Delete what is listed.")
def prune(sweep: str | None, keep: int, failed: bool, yes: bool) -> None:
    """List what is no longer needed of SWEEP, or of everything here, with sizes; with --yes, delete it.

    Checkpoints of ended trials that are neither among the best nor the last, trials that a sweep does not
    have, Tune's own files; without SWEEP also stored predictions, and MLflow's runs of sweeps that are gone,
    with their files. Nothing that a registered model was made from, and nothing of a sweep that runs.
    """
    from runner.pruning import Pruning, delete, find_items
    from runner.tracking import Tracker

    settings, console = Settings.from_environment(), make_console()
    tracker = Tracker.of(settings)
    items = list(find_items(settings, tracker, Pruning(keep, failed), sweep))
    if not items:
        console.print("There is nothing to delete.")
        return
    table = FittedTable(["what", Column("size", rank=0), Column("why", words=True, rank=0)])
    for item in items:
        table.add_row(item.what, size_text(item.size), item.why)
    console.print(table)
    total = f"{len(items)} things, {size_text(sum(item.size for item in items))}"
    if not yes:
        console.print(f"{total}; nothing was deleted: --yes does it.")
        return
    delete(items, settings)
    console.print(f"{total}: deleted.")


def size_text(size: float) -> str:
    """Bytes in the unit that fits them."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
