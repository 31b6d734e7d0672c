"""Defines the verb settings: every entry of TrainConfig, as `--set` takes it."""

from __future__ import annotations

import json

import click

from r2d2.config import Entry, find_entries
from runner.terminal.answer import json_option, print_answer


@click.command()
@click.argument("part", default="")
@json_option
def settings(part: str, as_json: bool) -> None:
    """List what --set KEY=VALUE can set: meaning, default, allowed values; PART of a name selects some."""
    found = find_entries(part)
    if as_json:
        keys = ("key", "default", "doc", "allowed")
        print_answer("settings", settings=[{key: getattr(entry, key) for key in keys} for entry in found])
        return
    for entry in found:
        click.echo(_described(entry))


def _described(entry: Entry) -> str:
    """Returns two lines: the key with its default, then its meaning and its allowed values."""
    default = entry.default if isinstance(entry.default, str) else json.dumps(entry.default)
    return f"{entry.key}={default}\n    {entry.doc} ({entry.allowed})"
