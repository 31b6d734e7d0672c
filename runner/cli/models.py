"""Verbs about finished work: promote."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from runner.console import make_console
from runner.definition import SweepDefinition
from runner.ordering import mode_of
from runner.settings import Settings

if TYPE_CHECKING:
    from runner.registry import Promotion


@click.command()
@click.argument("sweep", required=False)
@click.option("--run", "run_id", help="Id of the MLflow run to promote instead of a sweep's best.")
@click.option("--metric", help="What decides [default: the sweep's own, or validation/mma_3px].")
@click.option("--name", default="r2d2", show_default=True, help="Name of the registered model.")
@click.option("--alias", default="champion", show_default=True, help="Alias that the best version carries.")
@click.option("--force", is_flag=True, help="Promote even if it does not beat the champion; recorded.")
def promote(
    sweep: str | None, run_id: str | None, metric: str | None, name: str, alias: str, force: bool
) -> None:
    """Register the best checkpoint of SWEEP (or of a run) and make it champion if it beats the present one.

    Scores are compared on the same benchmark only. Load it with
    mlflow.pyfunc.load_model("models:/r2d2@champion"). Status 1: it was not promoted.
    """
    from runner.registry import best_run
    from runner.registry import promote as register
    from runner.tracking import Tracker

    if (sweep is None) == (run_id is None):
        raise ValueError("name a sweep or a run: r2d2 promote SWEEP, or r2d2 promote --run RUN_ID")
    settings = Settings.from_environment()
    tracker = Tracker(settings.tracking_uri, settings.artifact_root)
    run = tracker.get_run(run_id) if run_id else None
    if run is not None and "sweep" not in run.tags:
        raise ValueError(f"run '{run.name}' ({run.run_id}) is of no sweep: it has no checkpoint to promote")
    decides, mode = _decides(settings, run.tags["sweep"] if run else str(sweep), metric)
    chosen = run or best_run(tracker, str(sweep), decides, mode)
    promotion = register(tracker, chosen, decides, mode=mode, name=name, alias=alias, force=force)
    make_console().print(announcement(promotion), soft_wrap=True)
    if not promotion.promoted:
        raise click.exceptions.Exit(1)


def announcement(promotion: Promotion) -> str:
    """What came of a promotion, in one line."""
    verb = "promoted" if promotion.promoted else "not promoted"
    version = f" (version {promotion.version})" if promotion.version else ""
    return f"{promotion.run.name}, {promotion.score:.3f}: {verb}{version}: {promotion.reason}"


def _decides(settings: Settings, sweep: str, metric: str | None) -> tuple[str, str]:
    """The metric that decides, that of the sweep if its folder is here, and its mode."""
    definition = SweepDefinition.load(settings.sweep(sweep))
    decides = metric or (definition.metric if definition else "validation/mma_3px")
    return decides, mode_of(decides, definition)
