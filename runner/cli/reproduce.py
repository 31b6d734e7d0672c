"""Defines the verb reproduce."""

from __future__ import annotations

from pathlib import Path

import click

from r2d2.storage.location import absolute_place
from runner.settings import Settings
from runner.terminal.answer import json_option, people_console, print_answer


@click.command()
@click.argument("what", metavar="RUN")
@click.option("--seed", type=int, help="Seed of a VARIANT [default: the smallest].")
@click.option("--this-code", is_flag=True, help="Train with the code that is here, not with the run's own.")
@click.option(
    "--trust",
    is_flag=True,
    help="Trust the recorded changes of the run's code: execute them though this user did not make them.",
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
    repository here: its commit, and what was not committed then. Installed packages stay as they are.

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
    answer = run_again(target, settings, _say, this_code, trust, kept)
    for line in answer.lines():
        people_console(as_json).print(line, soft_wrap=True, highlight=False, markup=False)
    if as_json:
        print_answer("reproduction", **answer.to_json())
    if answer.verdict == DIFFERS:
        raise click.exceptions.Exit(1)


def _say(sentence: str) -> None:
    click.echo(sentence, err=True)
