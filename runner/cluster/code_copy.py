"""Copies the code that a job needs: the packages and the sweep's file, and no data."""

from __future__ import annotations

import shutil
from pathlib import Path

from r2d2.version import VERSION_FILE, code_version

PACKAGES = ("runner", "r2d2", "evaluation", "search_spaces")

# Of files that are code, with those of the comparison's page.
SUFFIXES = frozenset({".py", ".html", ".css"})

# Where a sweep's file that is no part of search_spaces/ lies in the copy.
OWN_SWEEPS = "own_sweeps"


def copy_code(folder: Path, sweep: str) -> str:
    """Copies the running code, as it is now, committed or not, into an empty folder.

    Args:
        folder: exists, and is empty.
        sweep: a sweep's name, or the path of its file, which is copied too; empty: none.

    Returns:
        What the sweep is called in the copy: its name, or the path of its file from `folder`.

    Raises:
        ValueError: if the sweep's file is missing.
    """
    root = Path(__file__).resolve().parents[2]
    for package in PACKAGES:
        shutil.copytree(root / package, folder / package, ignore=_not_code)
    (folder / VERSION_FILE).write_text(code_version() + "\n", encoding="utf-8")
    if not sweep.endswith(".py"):
        return sweep
    if not Path(sweep).is_file():
        raise ValueError(f"there is no file '{sweep}'; give the path of a .py file that defines a sweep")
    own = folder / OWN_SWEEPS / Path(sweep).name
    own.parent.mkdir()
    shutil.copyfile(sweep, own)
    return own.relative_to(folder).as_posix()


def _not_code(folder: str, names: list[str]) -> list[str]:
    """Returns the files and folders of a package that stay here: all but code, such as `.env` or keys."""
    kept = {name for name in names if Path(name).suffix in SUFFIXES and not name.startswith(".")}
    folders = {name for name in names if Path(folder, name).is_dir() and not name.startswith((".", "__"))}
    return [name for name in names if name not in kept | folders]
