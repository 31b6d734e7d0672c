"""Defines FittedTable: a table for the terminal that leaves out columns before it cuts a figure or a name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

# The narrowest that a column of words is made, if none of its words is shorter.
WORDS_WIDTH = 16


@dataclass(frozen=True)
class Column:
    """A Column is a column of a table.

    Attributes:
        head: its heading, in one or more lines.
        words: whether its cells are words, which may be wrapped and stand on the left.
        rank: columns of a higher rank are left out first, of equal ranks the last; 0 stays in any case.
    """

    head: str
    words: bool = False
    rank: int = 1

    @property
    def justify(self) -> Literal["left", "right"]:
        """Returns the alignment: words begin on the left, figures end on the right."""
        return "left" if self.words else "right"


class FittedTable:
    """Shows as many columns as the terminal has room for, and below the table the names of the others.

    The first column holds names; those longer than half the terminal are wrapped.
    """

    def __init__(
        self,
        columns: Sequence[str | Column],
        *,
        title: str = "",
        caption: str = "",
        elsewhere: str = "",
        continued: bool = False,
    ) -> None:
        """Makes a table without rows.

        Args:
            columns: the first of them of names; a text is the heading of one of figures.
            title: above it.
            caption: below it.
            elsewhere: what shows the columns that are left out, e.g. `--csv`.
            continued: whether they stand in a further table below instead.
        """
        first, *others = [Column(c) if isinstance(c, str) else c for c in columns]
        self.columns = (Column(first.head, words=True, rank=0), *others)
        self.title, self.caption, self.elsewhere, self.continued = title, caption, elsewhere, continued
        self.rows: list[tuple[str, ...]] = []

    def add_row(self, *cells: str) -> None:
        """Adds a row of as many cells as there are columns."""
        assert len(cells) == len(self.columns), f"{len(cells)} cells for {len(self.columns)} columns: {cells}"
        self.rows.append(cells)

    @property
    def text(self) -> str:
        """Returns everything that it may show."""
        lines = [self.title, *(column.head for column in self.columns), *(" ".join(r) for r in self.rows)]
        return "\n".join([*lines, self.caption])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Yields the tables as rich draws them, and the line about what was left out."""
        left = list(range(1, len(self.columns)))
        shown, left = self._fitting(left, options.max_width)
        yield self._table(shown, options.max_width, self.title)
        while left and self.continued:
            shown, left = self._fitting(left, options.max_width)
            yield self._table(shown, options.max_width)
        if left:
            names = ", ".join(" ".join(self.columns[index].head.split()) or "verdict" for index in left)
            way = f" or {self.elsewhere}" if self.elsewhere else ""
            yield Text(f"No room for: {names}. A wider terminal{way} shows them.", style="dim")
        if self.caption:
            yield Text(self.caption, style="dim")

    def _fitting(self, candidates: Sequence[int], width: int) -> tuple[list[int], list[int]]:
        """Finds which columns fit into so many letters beside the first one, and which do not."""
        shown = list(candidates)
        while len(shown) > 1 and self._needed(shown, width) > width:
            last = max(shown, key=lambda index: (self.columns[index].rank, index))
            if self.columns[last].rank == 0:
                break
            shown.remove(last)
        return shown, [index for index in candidates if index not in shown]

    def _needed(self, shown: Sequence[int], width: int) -> int:
        name = min(self._least(0), width // 2)
        return name + 4 + sum(self._least(index) + 3 for index in shown)

    def _least(self, index: int) -> int:
        """Returns how many letters wide a column must be."""
        column = self.columns[index]
        cells = [line for row in self.rows for line in row[index].splitlines()]
        if index == 0 or not column.words:
            return max(map(cell_len, (*column.head.splitlines(), *cells)), default=0)
        words = [word for text in (column.head, *cells) for word in text.split()]
        return min(WORDS_WIDTH, max(map(cell_len, words), default=0))

    def _table(self, shown: Sequence[int], width: int, title: str = "") -> Table:
        tight = self._needed(shown, width) > width
        made = Table(
            title=Text(title) if title else None,
            title_justify="left",
            title_style="italic",
            box=box.SIMPLE_HEAD if tight else box.HEAVY_HEAD,
            padding=(0, 0) if tight else (0, 1),
        )
        for index in (0, *shown):
            column = self.columns[index]
            wraps = column.words and (index > 0 or self._least(0) > width // 2)
            made.add_column(
                Text(column.head, overflow="fold"),
                justify=column.justify,
                no_wrap=not wraps,
                overflow="fold",
                min_width=min(self._least(index), width // 2),
            )
        for row in self.rows:
            made.add_row(*(Text(row[index], overflow="fold") for index in (0, *shown)))
        return made
