"""The terminal."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_WIDTH = 140


def make_console() -> Console:
    """The terminal; where the output is none, lines are as long as a wide table, or as COLUMNS says."""
    from rich.console import Console

    replace_unknown_characters()
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=PLAIN_WIDTH)


def replace_unknown_characters() -> None:
    """Lets the standard output show `?` for what its encoding does not have: no text ends a program.

    Python does the like with the standard error by itself.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
