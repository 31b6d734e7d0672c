"""Defines the options that ask a question of a sweep."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from runner.sweep.question import Asked

_HOURS = {"h": 1.0, "m": 1 / 60, "min": 1 / 60}


def question_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --decide and its companions; the command takes them as `gain, margin, max_seeds, budget`."""
    decide = click.option(
        "--decide",
        "gain",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        metavar="GAIN",
        help="Smallest gain that matters, e.g. 0.01: add seeds in rounds, and stop when every variant is "
        "better or worse than its control, equivalent, or not worth more seeds.",
    )
    margin = click.option(
        "--margin",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        help="Largest difference that counts as equivalent; seeds are spent to show it [GAIN, and none are].",
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
        help="GPU hours (without GPUs: CPU hours) of all trainings, e.g. 40h or 90min; sets --max-seeds.",
    )
    return decide(margin(most(budget(command))))


def _hours(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(h|min|m)", text.strip())
    if found is None or float(found[1]) == 0:
        raise click.BadParameter(f"'{text}' is no time; write hours or minutes, e.g. 40h or 90min")
    return float(found[1]) * _HOURS[found[2]]


def asked_of(
    gain: float | None, margin: float | None, max_seeds: int | None, budget: float | None
) -> Asked | None:
    """Returns the question of the options; None without --decide.

    Raises:
        ValueError: if one of the others is given without it, or both limits are.
    """
    from runner.sweep.question import Asked

    if gain is None:
        if margin or max_seeds or budget:
            raise ValueError("--margin, --max-seeds and --budget belong to --decide GAIN")
        return None
    if max_seeds and budget:
        raise ValueError("--max-seeds and --budget both limit the seeds; give one of them")
    return Asked(gain, margin, max_seeds, budget)
