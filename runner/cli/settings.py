"""Defines the verb settings: every entry of TrainConfig, as `--set` takes it."""

from __future__ import annotations

import json

import click

from r2d2.config import Entry, find_entries


@click.command()
@click.argument("part", default="")
def settings(part: str) -> None:
    """List what --set KEY=VALUE can set: meaning, default, allowed values; PART of a name selects some."""
    for entry in find_entries(part):
        click.echo(_described(entry))


def _described(entry: Entry) -> str:
    """Returns two lines: the key with its default, then its meaning and its allowed values."""
    default = entry.default if isinstance(entry.default, str) else json.dumps(entry.default)
    return f"{entry.key}={default}\n    {entry.doc} ({entry.allowed})"
