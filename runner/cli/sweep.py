"""Defines the verbs that train: sweeps, sweep."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import click

from r2d2.storage.location import absolute_place
from runner.cli.options import cluster_options, pop_question, question_options, with_asked
from runner.cli.running import run_and_show, show_estimate
from runner.cluster.resilience import SILENCE_S, Resilience
from runner.settings import Settings
from runner.terminal.answer import json_option, print_answer
from runner.terminal.console import make_console
from runner.terminal.fitted_table import Column, FittedTable
from runner.terminal.words import say
from search_spaces.presets import PRESETS, preset_overrides
from search_spaces.sweep import describe_sweep, load_sweep, sweep_names


def data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --photos and --hpatches, which verbs that train share."""
    hpatches = click.option(
        "--hpatches",
        metavar="PLACE",
        help="HPatches, a folder or s3://BUCKET/PREFIX; each checkpoint is scored on it too [R2D2_HPATCHES].",
    )
    photos = click.option(
        "--photos",
        metavar="PLACE",
        help="Photographs to train on, a folder or s3://BUCKET/PREFIX; short for --set data.photos=.",
    )
    return hpatches(photos(command))


def training_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --preset, --set, --name and --released, which `sweep` and `ask` share."""
    options = (
        click.option(
            "--preset",
            type=click.Choice(sorted(PRESETS)),
            help="Size of each training: `small` takes seconds and is a quick check, `laptop` takes a minute "
            "or two.",
        ),
        click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="KEY=VALUE",
            help="Setting of every trial; `r2d2 settings` lists them.",
        ),
        click.option(
            "--name", "own_name", default="", help="Name of the sweep's folder and MLflow experiment."
        ),
        click.option(
            "--released",
            metavar="PLACE",
            help="Released network that sweeps fine-tune, a .pt file [R2D2_RELEASED].",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@json_option
def sweeps(as_json: bool) -> None:
    """List the sweeps of search_spaces/ with their questions."""
    if as_json:
        found = ((name, *describe_sweep(name)) for name in sweep_names())
        print_answer(
            "sweeps", sweeps=[dict(zip(("name", "question", "trials"), one, strict=True)) for one in found]
        )
        return
    table = FittedTable(["sweep", Column("question", words=True, rank=0), Column("trials", rank=0)])
    for name in sweep_names():
        table.add_row(name, *describe_sweep(name))
    make_console().print(table)


@click.command()
@click.argument("name")
@data_options
@training_options
@click.option("--dry-run", is_flag=True, help="Print every trial and the estimated time, and run nothing.")
@click.option("--address", help="Address HOST:PORT of the cluster that --dry-run asks for its size.")
@click.option(
    "--seconds-per-epoch",
    type=click.FloatRange(0),
    help="Seconds of an epoch that --dry-run assumes instead of timing a step.",
)
@click.option(
    "--price", type=click.FloatRange(0), help="Price of an hour of a GPU, in any currency, for --dry-run."
)
@question_options
@cluster_options
@click.option(
    "--checkpoint-steps",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Number of steps after which a checkpoint is written within an epoch too; 0: after epochs only.",
)
@click.option(
    "--min-workers",
    type=click.IntRange(0),
    default=0,
    help="Smallest number of workers with which a trial continues; the loss stays the same. "
    "0: it waits for all of them.",
)
@click.option(
    "--silence",
    type=click.FloatRange(0),
    default=SILENCE_S,
    show_default=True,
    help="Seconds without a step after which workers start again from the last checkpoint; 0: never.",
)
@click.option(
    "--max-restarts",
    type=click.IntRange(0),
    default=Resilience.max_restarts,
    show_default=True,
    help="How often a trial may lose workers before it fails; a finished epoch resets the count.",
)
# `runner/reproduce/reproduction.py` looks for this name in this file.
@click.option(
    "--choose-on-test",
    is_flag=True,
    help="Let HPatches decide the sweep, if its file says so; every later table of this home mentions it.",
)
@click.option(
    "--notify",
    metavar="URL",
    default="",
    envvar="R2D2_NOTIFY",
    help="Address of a webhook, which gets JSON when variants are decided and when the sweep ends "
    "[R2D2_NOTIFY].",
)
@click.option("--verbose", is_flag=True, help="Show also what Ray's processes print.")
def sweep(
    name: str,
    photos: str | None,
    hpatches: str | None,
    preset: str | None,
    overrides: tuple[str, ...],
    own_name: str,
    released: str | None,
    dry_run: bool,
    address: str | None,
    seconds_per_epoch: float | None,
    price: float | None,
    checkpoint_steps: int,
    min_workers: int,
    silence: float,
    max_restarts: int,
    choose_on_test: bool,
    notify: str,
    verbose: bool,
    **asked: Any,
) -> None:
    """Run the sweep NAME (see `r2d2 sweeps`), or the one in the file NAME.py, or resume it.

    Every checkpoint is scored on a validation benchmark made of held-out photographs, and on HPatches if a
    folder is given. Finished trials are not run again; the others continue from their last checkpoint.
    """
    from runner.record.command import RunOptions
    from runner.sweep.notify import Notifier
    from runner.sweep.plan import SweepOptions, plan_sweep
    from runner.sweep.question import plan_question

    console = make_console()
    # Refuses a wrong address before anything is trained.
    Notifier(notify)
    settings = settings_of(hpatches, released)
    _refuse_misplaced(name, dry_run, address, seconds_per_epoch, price)
    question = pop_question(asked)
    resilience = Resilience(checkpoint_steps, min_workers, silence, max_restarts)
    run = RunOptions(all_overrides(name, preset, photos, overrides), resilience=resilience)
    options = SweepOptions(own_name, with_asked(run, asked), verbose, choose_on_test=choose_on_test)
    if question is None:
        plan = plan_sweep(name, settings, options, say)
    else:
        plan = plan_question(name, settings, options, question, say)
    if dry_run:
        show_estimate(plan, settings, console, address, seconds_per_epoch, price)
        return
    result = run_and_show(plan, settings, console, notify=notify)
    if result.failed:
        raise click.exceptions.Exit(1)


def _refuse_misplaced(
    name: str, dry_run: bool, address: str | None, seconds_per_epoch: float | None, price: float | None
) -> None:
    """Refuses options of a dry run without one, and the address of a dashboard."""
    if not dry_run and (address or seconds_per_epoch or price):
        raise ValueError(
            "--address, --seconds-per-epoch and --price belong to --dry-run; RAY_ADDRESS names the cluster "
            "to run on, and r2d2 submit takes an address"
        )
    if address is not None and address.startswith(("http://", "https://")):
        raise ValueError(
            f"--address is {address}, a dashboard's; name the cluster's HOST:PORT, or ask by the dashboard: "
            f"r2d2 submit {name} --address {address} --dry-run"
        )


def all_overrides(
    sweep: str, preset: str | None, photos: str | None, overrides: Sequence[str]
) -> tuple[str, ...]:
    """Returns what the options of the command line set in every trial; a later assignment wins.

    Args:
        sweep: the name or file.
        preset: a key of `search_spaces.presets.PRESETS`; None: none.
        photos: of --photos.
        overrides: of --set.
    """
    sized = preset_overrides(preset, load_sweep(sweep)[0].trials()) if preset else ()
    return (*sized, *((f"data.photos={photos}",) if photos else ()), *overrides)


def settings_of(hpatches: str | None, released: str | None) -> Settings:
    """Returns the settings of the environment, with the places that options name."""
    settings = Settings.from_environment()
    return dataclasses.replace(
        settings,
        hpatches=absolute_place(hpatches) if hpatches else settings.hpatches,
        released=absolute_place(released) if released else settings.released,
    )
