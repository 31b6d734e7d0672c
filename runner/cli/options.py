"""Defines options of several verbs: a cluster's resources, a sweep's question, files that a verb writes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from runner.record.command import RunOptions
    from runner.sweep.question import Asked

_CONCURRENT = "Number of trials that run at a time; 0: as many as fit [default of a new sweep: 0]."
_WORKERS_CPUS = (
    "CPUs of each worker, for its computing threads and its loader processes [default of a new sweep: 1, "
    "and 1 for each of data.loader_processes]."
)

_LABELS = (
    "Label of the nodes for evaluation actors and trials' drivers: KEY=VALUE, KEY!=VALUE, KEY=in(A,B) or "
    "KEY!=in(A,B), e.g. ray.io/market-type!=spot; `any`: any node [default of a new sweep: any]."
)


def _labels(
    context: click.Context,  # noqa: ARG001  (click's signature)
    parameter: click.Parameter,  # noqa: ARG001
    texts: tuple[str, ...],
) -> dict[str, str] | None:
    from runner.cluster.labels import parse_labels

    try:
        return parse_labels(texts) if texts else None
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


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
        click.option("--evaluator-label", "labels", multiple=True, callback=_labels, help=_LABELS),
    )
    for option in reversed(options):
        command = option(command)
    return command


def with_asked(options: RunOptions, asked: Mapping[str, Any]) -> RunOptions:
    """Returns the options of a sweep with those that the user gave.

    Args:
        options: of a new sweep, or of one that was run before.
        asked: fields of `RunOptions`, and of its `evaluators`; None: as it is.
    """
    from evaluation.actor import EvaluatorResources

    said = {field: value for field, value in asked.items() if value is not None}
    names = [field.name for field in fields(EvaluatorResources) if field.name in said]
    resources = replace(options.evaluators, **{name: said.pop(name) for name in names})
    return replace(options, evaluators=resources, **said)


_HOURS = {"h": 1.0, "m": 1 / 60, "min": 1 / 60}


def question_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --decide and what limits it; the command gives them to `pop_question`."""
    decide = click.option(
        "--decide",
        "gain",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        metavar="GAIN",
        help="Smallest gain that matters, e.g. 0.01: add seeds in rounds, and stop when every variant is "
        "better or worse than its baseline, equivalent, or not worth more seeds.",
    )
    return decide(limit_options(command))


def limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds what limits a question: --margin, --max-seeds, --budget."""
    margin = click.option(
        "--margin",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        help="Differences smaller than this count as equivalent, and seeds are added to show it "
        "[default: GAIN, without adding seeds for it].",
    )
    most = click.option(
        "--max-seeds",
        type=click.IntRange(2),
        help="Largest number of seeds of a variant [enough to find GAIN in 80 of 100 studies].",
    )
    budget = click.option(
        "--budget",
        type=_hours,
        metavar="HOURS",
        help="GPU hours (without GPUs: CPU hours) of all trainings, e.g. 40h or 90min; sets --max-seeds of a "
        "new sweep.",
    )
    return margin(most(budget(command)))


def _hours(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(h|min|m)", text.strip())
    if found is None or float(found[1]) == 0:
        raise click.BadParameter(f"'{text}' is no time; write hours or minutes, e.g. 40h or 90min")
    return float(found[1]) * _HOURS[found[2]]


def pop_question(asked: dict[str, Any]) -> Asked | None:
    """Takes the options of `question_options` out of a command's options; returns None without --decide.

    Args:
        asked: options of the command by name; those of the question leave it.

    Raises:
        ValueError: if one of the others is given without --decide, or both limits are.
    """
    from runner.sweep.question import Asked

    gain, margin, max_seeds, budget = (asked.pop(key) for key in ("gain", "margin", "max_seeds", "budget"))
    if gain is None:
        if margin or max_seeds or budget:
            raise ValueError("--margin, --max-seeds and --budget belong to --decide GAIN")
        return None
    if max_seeds and budget:
        raise ValueError("--max-seeds and --budget both limit the seeds; give one of them")
    return Asked(gain, margin, max_seeds, budget)


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
