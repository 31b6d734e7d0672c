"""The terminal."""

from __future__ import annotations

from rich.console import Console

PLAIN_WIDTH = 140


def make_console() -> Console:
    """The terminal; where the output is none, lines are as long as a wide table."""
    console = Console()
    return console if console.is_terminal else Console(width=PLAIN_WIDTH)
