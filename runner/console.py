"""The terminal."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from r2d2.printable import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderHook

PLAIN_WIDTH = 140


def make_console() -> Console:
    """The terminal; where the output is none, lines are as long as a wide table, or as COLUMNS says."""
    from rich.console import Console

    replace_unknown_characters()
    console = Console()
    if not (console.is_terminal or "COLUMNS" in os.environ):
        console = Console(width=PLAIN_WIDTH)
    console.push_render_hook(_printable_hook())
    return console


def _printable_hook() -> RenderHook:
    """Cleans whatever a console shows: names of files and of models come from anywhere."""
    from rich.console import RenderHook
    from rich.segment import Segment

    class Clean:
        def __init__(self, renderable: Any) -> None:
            self.renderable = renderable

        def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
            for segment in console.render(self.renderable, options):
                # Control segments and styles are rich's own.
                yield segment if segment.control else segment._replace(text=printable(segment.text))

    class Hook(RenderHook):
        def process_renderables(self, renderables: list[Any]) -> list[Any]:
            return [Clean(renderable) for renderable in renderables]

    return Hook()


def replace_unknown_characters() -> None:
    """Lets the standard output show `?` for what its encoding does not have: no text ends a program.

    Python does the like with the standard error by itself.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
