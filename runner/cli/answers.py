"""Defines the verbs that train to answer a question: ask, reproduce."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

from r2d2.data.photos import SAMPLES
from r2d2.storage.location import absolute_place
from runner.cli.options import cluster_options, limit_options, pop_question, with_asked
from runner.cli.running import run_and_show
from runner.cli.sweep import data_options, settings_of, training_options
from runner.settings import Settings
from runner.terminal.answer import json_option, people_console, print_answer
from runner.terminal.words import say


@click.command()
@click.argument("text", metavar="CLAIM")
@data_options
@training_options
@limit_options
@cluster_options
@json_option
def ask(
    text: str,
    photos: str | None,
    hpatches: str | None,
    preset: str | None,
    overrides: tuple[str, ...],
    own_name: str,
    released: str | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """Train until a claim is decided, e.g. "dice beats cosine by 0.01".

    CLAIM reads `A beats B by GAIN`. A and B are losses (dice, hardnet, hardnet+dice) or settings (KEY=VALUE),
    or several of them separated by commas. The metric is validation/mma_3px. GAIN, --margin and the number of
    seeds that --budget holds are written down before the first score and stay; the same command continues.

    The answer is `better` (exit status 0), `worse`, `equivalent` or `undecided` (1). The claim becomes a
    sweep with --decide, which the other verbs know by its name.
    """
    from runner.record.command import RunOptions
    from runner.sweep.claim import Claim, claim_answer, claim_words
    from runner.sweep.plan import SweepOptions
    from runner.sweep.question import plan_question
    from search_spaces.presets import preset_overrides

    claim, console = Claim.parse(text), people_console(as_json)
    asked["gain"] = claim.gain
    question = pop_question(asked)
    sized = preset_overrides(preset, claim.trials()) if preset else ()
    of_both = (*sized, *((f"data.photos={photos}",) if photos else ()), *overrides)
    settings = settings_of(hpatches, released)
    options = SweepOptions(own_name, with_asked(RunOptions(), asked))
    assert question is not None
    with tempfile.TemporaryDirectory(prefix="r2d2-ask-") as folder:
        file = claim.write(Path(folder), of_both, samples=photos == SAMPLES)
        plan = plan_question(str(file), settings, options, question, say)
        result = run_and_show(plan, settings, console)
    found = claim_answer(plan.stored)
    if as_json:
        print_answer("claim", claim=text, **found)
    else:
        console.print(claim_words(text, found), soft_wrap=True, highlight=False, markup=False)
    if result.failed:
        click.echo(f"r2d2 retry {plan.definition.name} --failed runs the failed trainings again.", err=True)
    if found["answer"] != "better":
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("what", metavar="RUN")
@click.option("--seed", type=int, help="Seed of a VARIANT [default: the smallest].")
@click.option("--this-code", is_flag=True, help="Train with the code that is here, not with the run's own.")
@click.option(
    "--trust",
    is_flag=True,
    help="Trust the run's code: execute it though the history of HEAD lacks it, or it was changed.",
)
@click.option("--photos", metavar="PLACE", help="Place of the run's photographs, if they were moved.")
@click.option(
    "--keep",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Folder, new or empty, for the reproduction [default: a temporary one, deleted at the end].",
)
@json_option
def reproduce(
    what: str,
    seed: int | None,
    this_code: bool,
    trust: bool,
    photos: str | None,
    keep: Path | None,
    as_json: bool,
) -> None:
    """Train and score a run again on this machine, and say whether its numbers come out the same.

    RUN is runs:/ID, models:/NAME@ALIAS or SWEEP:VARIANT. The run's own code trains, taken from the git
    repository here: its commit, and what was not committed then. Installed packages stay as they are. A
    commit that is not in the history of HEAD, and changes, run only if this user ran them from this machine,
    or with --trust.

    The answer is `identical`, `within the seeds' noise` (exit status 0) or `differs` (1), with every package,
    line of code, photograph, processor and protocol that differs from what was recorded. Status 2: data,
    weights or a commit are not to be had, which is said before anything runs.
    """
    from runner.reproduce.answer import DIFFERS
    from runner.reproduce.reproduction import reproduce as run_again
    from runner.reproduce.target import find_target

    settings = Settings.from_environment()
    target = find_target(what, settings, seed, absolute_place(photos) if photos else None)
    kept = None if keep is None else keep.absolute()
    answer = run_again(target, settings, say, this_code, trust, kept)
    for line in answer.lines():
        people_console(as_json).print(line, soft_wrap=True, highlight=False, markup=False)
    if as_json:
        print_answer("reproduction", **answer.to_json())
    if answer.verdict == DIFFERS:
        raise click.exceptions.Exit(1)
