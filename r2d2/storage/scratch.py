"""Makes folders for temporary files, and removes those that killed processes left behind."""

from __future__ import annotations

import atexit
import fcntl
import functools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

PREFIX = "r2d2-scratch-"


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Makes a folder for temporary files, and removes it when the block ends.

    Its owner holds a lock on it, which the system releases when the process dies. So folders without an owner
    are known, and are removed first.

    Args:
        parent: where it is made; None: where the system has its temporary files.

    Raises:
        OSError: if it cannot be made.
    """
    remove_abandoned(parent)
    folder, lock = _locked_folder(parent)
    try:
        yield folder
    finally:
        # Tune may still write to its own, and what is left there is removed by the next.
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def lasting_scratch_folder(parent: Path | None = None) -> Path:
    """Returns this process's scratch folder, which is made when first asked for and removed at its end.

    Args:
        parent: where it is made, and made itself; None: where the system has its temporary files.

    Raises:
        OSError: if it cannot be made.
    """
    return _lasting_folder(os.getpid(), parent)


@functools.cache
def _lasting_folder(process: int, parent: Path | None) -> Path:  # noqa: ARG001 (a forked process has its own)
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True)
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(scratch_folder(parent))


def remove_abandoned(parent: Path | None = None) -> None:
    """Removes this user's scratch folders whose processes are dead."""
    for folder in (parent or Path(tempfile.gettempdir())).glob(f"{PREFIX}*"):
        # Another user's, or removed by another process at this moment.
        with suppress(OSError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(lock)


def _locked_folder(parent: Path | None) -> tuple[Path, int]:
    """A new folder, and the open file that holds its lock."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            # Before it was locked another process took it for abandoned.
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.is_dir():
            return folder, lock
        os.close(lock)
