"""Opens the store at a place."""

from __future__ import annotations

from pathlib import Path

from r2d2.storage.folder_store import FolderStore
from r2d2.storage.s3 import SCHEME, TIMEOUT
from r2d2.storage.store import Store


def open_store(place: str | Path, timeout: float = TIMEOUT) -> Store:
    """The store at a place; asks nobody yet.

    Args:
        place: a folder, which is made when something is written, or `s3://bucket/prefix`.
        timeout: seconds that a request to S3 is tried again for.

    Raises:
        ValueError: if the place names no bucket.
    """
    if str(place).startswith(SCHEME):
        from r2d2.storage.s3_store import S3Store

        return S3Store(str(place), timeout)
    return FolderStore(Path(place))


def folder_of(store: Store) -> Path:
    """The folder of a store that is one, for what can lie nowhere else."""
    assert isinstance(store, FolderStore), f"{store.place} is no folder"
    return store.folder


def store_at(place: str | Path | Store) -> Store:
    """A store is itself, a place is opened."""
    return open_store(place) if isinstance(place, str | Path) else place
