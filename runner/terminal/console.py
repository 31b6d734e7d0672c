"""Cleans all text that a command prints of what a terminal would obey."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TextIO

from r2d2.formats.printable import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

PLAIN_WIDTH = 140


def make_console(stderr: bool = False) -> Console:
    """Makes the console; if the output is no terminal, lines have a wide table's width, or COLUMNS.

    Args:
        stderr: whether it prints to the standard error.
    """
    clean_output()
    kind = _printable_console()
    console = kind(file=_unclean(sys.stderr if stderr else sys.stdout))
    if console.is_terminal or "COLUMNS" in os.environ:
        return console
    return kind(file=console.file, width=PLAIN_WIDTH)


def show_line(console: Console, text: str) -> None:
    """Prints a text as it is, without colours, in a line that the terminal alone may wrap."""
    console.print(text, soft_wrap=True, highlight=False, markup=False)


def _printable_console() -> type[Console]:
    """Makes a console that cleans whatever it shows: names of files and of models come from anywhere."""
    from rich.console import Console

    class PrintableConsole(Console):
        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterator[Segment]:
            for segment in super().render(renderable, options):
                # Control segments and styles are rich's own.
                yield segment if segment.control else segment._replace(text=printable(segment.text))

    return PrintableConsole


class _PrintableStream:
    """Cleans what is written to a text stream; all else is passed on to that stream."""

    def __init__(self, below: TextIO) -> None:
        self.below = below

    def write(self, text: str) -> int:
        """Writes a text of unknown origin. The stream below refuses bytes."""
        return self.below.write(printable(text) if isinstance(text, str) else text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes texts one after the other."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        # Whoever takes the bytes' stream would write past this one.
        if name == "buffer":
            raise AttributeError(name)
        return getattr(self.below, name)


def clean_output() -> None:
    """Cleans all text for the standard output and error: a verb's, a warning's, a log's, a traceback's.

    Characters that the output's encoding lacks become `?`, so that no text ends a program. Python itself does
    nearly the same with the standard error.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and _unclean(stream) is stream:
            setattr(sys, name, _PrintableStream(stream))


def _unclean(stream: TextIO) -> TextIO:
    """Returns the stream below a cleaned one: for rich, which cleans the text and adds colours of its own."""
    return stream.below if isinstance(stream, _PrintableStream) else stream
