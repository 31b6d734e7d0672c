"""Defines options of several verbs: what a sweep asks of the cluster, and files that a verb writes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from runner.sweep.plan import SweepOptions

_CONCURRENT = "Number of trials that run at a time; 0: as many as fit [default of a new sweep: 0]."
_WORKERS_CPUS = (
    "CPUs of each worker, for its computing threads and its loader processes [default of a new sweep: 1, "
    "and 1 for each of data.loader_processes]."
)


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options of the cluster; the command takes them as `**asked`, for `with_asked`."""
    options = (
        click.option("--concurrent", type=click.IntRange(0), help=_CONCURRENT),
        click.option(
            "--gpus-per-worker",
            type=click.FloatRange(0),
            help="GPUs of each worker [default of a new sweep: 1 if the cluster has any, else 0].",
        ),
        click.option("--cpus-per-worker", type=click.IntRange(1), help=_WORKERS_CPUS),
        click.option(
            "--evaluators",
            "number",
            type=click.IntRange(1),
            help="Number of evaluation actors, which score checkpoints [default of a new sweep: 1].",
        ),
        click.option(
            "--evaluator-cpus",
            "num_cpus",
            type=click.FloatRange(0),
            help="CPUs of each evaluation actor [default of a new sweep: 0].",
        ),
        click.option(
            "--evaluator-gpus",
            "num_gpus",
            type=click.FloatRange(0),
            help="GPUs of each evaluation actor [default of a new sweep: 0].",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def with_asked(options: SweepOptions, asked: Mapping[str, Any]) -> SweepOptions:
    """Returns the options of a sweep with those that the user gave.

    Args:
        options: of a new sweep, or of one that was run before.
        asked: fields of `SweepOptions`, and of its `evaluators`; None: as it is.
    """
    from evaluation.actor import EvaluatorResources

    said = {field: value for field, value in asked.items() if value is not None}
    names = [field.name for field in fields(EvaluatorResources) if field.name in said]
    resources = replace(options.evaluators, **{name: said.pop(name) for name in names})
    return replace(options, evaluators=resources, **said)


def check_writable(path: Path) -> None:
    """Checks that a file can be written, or replaced; missing folders above it are made later.

    Raises:
        ValueError: if it cannot be.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a file")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise ValueError(f"{path} cannot be written: {above} is no folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise ValueError(f"{path} cannot be written: {above} is read-only")


class OutputFile(click.Path):
    """Checks an option that names a file to write; one that cannot be written is refused at once."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the path."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        try:
            check_writable(path)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return path
