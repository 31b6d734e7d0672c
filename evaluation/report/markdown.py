"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from r2d2.printable import printable


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column holds words, the others figures; what Markdown reads is escaped."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(markdown_text(cell) for cell in line)} |" for line in lines)


def markdown_text(text: str) -> str:
    """A text of unknown origin that Markdown shows as it is: on one line, without links, pictures or HTML."""
    shown = printable(" ".join(text.split())).replace("\\", "\\\\")
    return shown.replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[")
