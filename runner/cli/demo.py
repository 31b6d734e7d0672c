"""Defines the verb demo, which shows the whole program on sample photographs."""

from __future__ import annotations

import hashlib
import re
import time
from pathlib import Path

import click

from r2d2.data.photos import SAMPLES
from r2d2.storage.location import absolute_place
from runner.cli.running import run_and_show
from runner.cli.sweep import data_options, settings_of
from runner.terminal.console import make_console
from runner.terminal.words import say


@click.command()
@data_options
@click.option("--name", "own_name", default="", help="Name of the sweep's folder and MLflow experiment.")
def demo(photos: str | None, hpatches: str | None, own_name: str) -> None:
    """Train four loss variants on sample photographs, compare them, promote the best (4 to 8 minutes)."""
    from runner.cli.models import decided_promotion
    from runner.record.command import RunOptions
    from runner.registry.promote import best_run
    from runner.sweep.plan import SweepOptions, plan_sweep
    from runner.tracking.experiments import Tracker

    console, started = make_console(), time.monotonic()
    settings = settings_of(hpatches, None)
    overrides = (f"data.photos={photos}",) if photos else ()
    name = own_name or demo_name(photos, settings.hpatches)
    plan = plan_sweep("demo", settings, SweepOptions(name, RunOptions(overrides)), say)
    result = run_and_show(plan, settings, console)
    if result.failed:
        raise click.exceptions.Exit(1)
    tracker = Tracker.of(settings)
    best = best_run(tracker, name, plan.sweep.metric, plan.sweep.mode)
    decided_promotion(console, settings, tracker, best, plan.sweep.metric)
    console.print(f"Done in {time.monotonic() - started:.0f} s.")


def demo_name(photos: str | None, hpatches: str | Path | None) -> str:
    """Returns a sweep name of its own for each set of photographs and benchmarks: figures share no table."""
    parts = ["demo"]
    if photos is not None and photos != SAMPLES:
        place = absolute_place(photos)
        parts += [re.sub(r"[^A-Za-z0-9_-]+", "-", Path(place).name).strip("-"), _short_digest(place)]
    if hpatches is not None:
        parts += ["hpatches", _short_digest(absolute_place(str(hpatches)))]
    return "-".join(part for part in parts if part)


def _short_digest(place: str) -> str:
    """Distinguishes folders of the same name."""
    return hashlib.sha256(place.encode()).hexdigest()[:6]
