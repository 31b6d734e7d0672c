"""LoggedTable: named columns and rows in the form that MLflow shows as a table."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LoggedTable:
    """Rows of equal length under named columns; cells are texts, numbers, true or false, or None."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            assert len(row) == len(self.columns), f"{len(row)} cells for {len(self.columns)} columns: {row}"

    @classmethod
    def from_csv(cls, text: str) -> LoggedTable:
        """The table of a CSV text with a header line: texts, numbers, and None for `nan` and nothing."""
        lines = list(csv.reader(io.StringIO(text)))
        return cls(tuple(lines[0]), tuple(tuple(_value(cell) for cell in line) for line in lines[1:]))

    def json(self) -> str:
        """The JSON that MLflow shows as a table; numbers that are not finite become null."""
        rows = [[_finite_or_none(value) for value in row] for row in self.rows]
        return json.dumps({"columns": list(self.columns), "data": rows})


def _value(cell: str) -> str | float | None:
    for number in (int, float):
        try:
            value: float = number(cell)
            return value if math.isfinite(value) else None
        except ValueError:
            continue
    return cell or None


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
