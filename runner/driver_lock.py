"""The lock that keeps a second driver from a sweep."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = "driver.lock"


@contextmanager
def driver_lock(folder: Path) -> Iterator[None]:
    """Keeps a second driver from running the same sweep; a folder in which nothing was started vanishes.

    Raises:
        ValueError: if one does already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"the sweep in {folder} is being run by another process; wait for it or stop it"
        ) from None
    with lock:
        try:
            yield
        finally:
            if [path.name for path in folder.iterdir()] == [LOCK]:
                shutil.rmtree(folder)
            lock.release()
