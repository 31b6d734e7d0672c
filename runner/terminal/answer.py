"""Prints what a verb answers as one JSON object; docs/json.md describes the fields."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

# Of every object: it grows when a field changes its meaning or goes; a new field changes nothing.
VERSION = 1


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --json; the command takes it as `as_json`."""
    option = click.option(
        "--json",
        "as_json",
        is_flag=True,
        help="Print the answer as one JSON object (docs/json.md), and all else to the standard error.",
    )
    return option(command)


def people_console(as_json: bool) -> Console:
    """Makes the console for people: the standard output, or with --json the standard error."""
    from runner.terminal.console import make_console

    return make_console(stderr=as_json)


def print_answer(schema: str, **fields: Any) -> None:
    """Prints one object with the name of its schema and its version.

    Args:
        schema: e.g. `doctor`; the object says `r2d2.doctor`.
        fields: what `json.dumps` takes, without NaN.
    """
    click.echo(json.dumps(labelled(schema, fields), indent=1, allow_nan=False))


def labelled(schema: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields with the name and version of their schema before them."""
    assert not {"schema", "version"} & fields.keys()
    return {"schema": f"r2d2.{schema}", "version": VERSION, **fields}
