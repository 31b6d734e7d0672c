"""The terminal."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from r2d2.printable import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

PLAIN_WIDTH = 140


def make_console() -> Console:
    """The terminal; where the output is none, lines are as long as a wide table, or as COLUMNS says."""
    replace_unknown_characters()
    kind = _printable_console()
    console = kind()
    return console if console.is_terminal or "COLUMNS" in os.environ else kind(width=PLAIN_WIDTH)


def _printable_console() -> type[Console]:
    """A console that cleans whatever it shows: names of files and of models come from anywhere."""
    from rich.console import Console

    class PrintableConsole(Console):
        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterator[Segment]:
            for segment in super().render(renderable, options):
                # Control segments and styles are rich's own.
                yield segment if segment.control else segment._replace(text=printable(segment.text))

    return PrintableConsole


def replace_unknown_characters() -> None:
    """Lets the standard output show `?` for what its encoding does not have: no text ends a program.

    Python does the like with the standard error by itself.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
