"""Files that a verb writes: whether they can be is asked before the work, not after it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click


def check_writable(path: Path) -> None:
    """Checks that a file can be written, or replaced; missing folders above it are made later.

    Raises:
        ValueError: if it cannot be.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a file")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise ValueError(f"{path} cannot be written: {above} is no folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise ValueError(f"{path} cannot be written: {above} is read-only")


class OutputFile(click.Path):
    """The type of an option that names a file to write; one that cannot be written is refused at once."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        try:
            check_writable(path)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return path
