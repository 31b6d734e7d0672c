"""The lock that keeps a second driver from a sweep."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from r2d2.storage.depot import Depot, folder_of

LOCK = "driver.lock"


@contextmanager
def driver_lock(sweep: Depot) -> Iterator[None]:
    """Keeps a second driver from running the same sweep; a folder in which nothing was started vanishes.

    Raises:
        ValueError: if one does already.
    """
    if sweep.is_remote:
        yield
        return
    folder = folder_of(sweep)
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
