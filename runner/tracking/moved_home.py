"""Finds what a home names by absolute paths after the home was moved.

MLflow keeps such paths in two places. The tags of its runs name checkpoints: their paths are translated when
they are read. Its SQLite database names files: those paths are corrected in the database, so that MLflow's
own pages and `mlflow.pyfunc.load_model` find the files too.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path
from urllib.parse import quote

from r2d2.storage.store import Store
from runner.record.layout import TRIALS
from runner.settings import SWEEPS

# Tables and columns of MLflow's database that hold places of files.
_PLACES = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}


class PresentPlaces:
    """Finds the present places of checkpoints that lay in this home when it was elsewhere."""

    def __init__(self, sweeps: Store) -> None:
        """Looks at nothing yet.

        Args:
            sweeps: all sweeps of the home, by name.
        """
        self._sweeps = sweeps
        self._trials = cache(lambda sweep: frozenset(sweeps.folders(f"{sweep}/{TRIALS}")))

    def of(self, checkpoint: str) -> str:
        """Returns the present place of a checkpoint of a trial of this home; else `checkpoint` itself.

        Args:
            checkpoint: `.../sweeps/NAME/trials/KEY/train/checkpoint_003`, in a folder or on S3.
        """
        below = checkpoint.rpartition(f"/{SWEEPS}/")[2]
        sweep, trials, key, *_ = [*below.split("/", 3), "", "", ""]
        if below == checkpoint or checkpoint == (here := f"{self._sweeps.place}/{below}"):
            return checkpoint
        return here if trials == TRIALS and key in self._trials(sweep) else checkpoint


def follow_home(database: Path, artifact_root: Path) -> None:
    """Puts the places of files right in a home's MLflow database, where the home was moved or copied.

    A database that lies elsewhere than its files is not changed: it may serve several homes.

    Args:
        database: of MLflow, a SQLite file.
        artifact_root: the folder of the home's files.

    Raises:
        sqlite3.Error: if the database cannot be read or written.
    """
    if not database.is_file() or database.parent != artifact_root.parent:
        return
    with closing(sqlite3.connect(database, timeout=30)) as connection, connection:
        for former in _former_roots(connection, artifact_root):
            for table, columns in _PLACES.items():
                known = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
                for column in known.intersection(columns):
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "  # noqa: S608 (our own names)
                        f"WHERE substr({column}, 1, ?) = ?",
                        (str(artifact_root), len(former) + 1, len(former) + 1, f"{former}/"),
                    )


def _former_roots(connection: sqlite3.Connection, root: Path) -> list[str]:
    """Returns the folders in which the home's files were, by the database."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'experiments'").fetchone():
        return []
    named: dict[str, str] = dict(connection.execute("SELECT artifact_location, name FROM experiments"))
    former: dict[str, list[str]] = {}
    for location, name in named.items():
        above, _, last = (location or "").rpartition("/")
        if above.startswith("/") and above != str(root) and last == quote(name, safe=""):
            # On the disk MLflow unquotes what is quoted in its addresses.
            former.setdefault(above, []).append(name)
    return [above for above, names in former.items() if _was_ours(Path(above), names, root)]


def _was_ours(former: Path, names: list[str], root: Path) -> bool:
    """Says whether files that are said to be in another folder are in this one."""
    if former.name != root.name or (former.is_dir() and root.is_dir() and former.samefile(root)):
        return False
    return not former.parent.is_dir() or any((root / name).is_dir() for name in names)
