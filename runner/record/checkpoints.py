"""Uploads and deletes the checkpoints of trials, in a folder or on S3.

A worker saves a checkpoint in a scratch folder and reports it to Ray Train. Ray Train calls `uploader`
(runner/trial/storage.py), which copies it to `trials/KEY/train/checkpoint_NNN`. A checkpoint counts once its
header, `config.json`, is there: the header is uploaded last and deleted first.

Who deletes one: Ray Train, beyond the best `keep` and the last (`runner/trial/driver.py`, through
`storage.py` beside it); `remove_forgotten` at the end of a trial; `r2d2 prune`; `r2d2 retry --from-start`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from r2d2.storage.location import is_remote, open_store
from r2d2.storage.s3 import SCHEME, TIMEOUT
from r2d2.storage.store import Store
from runner.record.history import Record
from runner.record.layout import HEADER

if TYPE_CHECKING:
    import ray.train


def checkpoint_place(checkpoint: ray.train.Checkpoint) -> str:
    """Returns the place of a checkpoint of Ray Train: a folder, or `s3://bucket/prefix`."""
    return checkpoint.path if checkpoint.path.startswith("/") else f"{SCHEME}{checkpoint.path}"


def upload_checkpoint(folder: Path, store: Store) -> None:
    """Copies a checkpoint into the store, its header last; each file is compared with the server's copy.

    Raises:
        StorageError: if a file cannot be stored.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    # What a checkpoint of the same name had must not be taken for this one while it is replaced.
    store.delete(HEADER)
    for path in sorted(files, key=lambda path: path.name == HEADER):
        store.put_file(path.relative_to(folder).as_posix(), path)


def delete_checkpoint(store: Store) -> None:
    """Removes a checkpoint, its header first."""
    store.delete(HEADER)
    store.delete_below("")


def existing(records: Sequence[Record], timeout: float = TIMEOUT) -> set[str]:
    """Returns the places of those of the events' checkpoints that still exist."""
    places = {record.checkpoint for record in records}
    found = {place for place in places if not is_remote(place) and Path(place, HEADER).is_file()}
    remote = {place for place in places if is_remote(place)}
    for above in {place.rpartition("/")[0] for place in remote}:
        complete = {
            f"{above}/{file.name.removesuffix(f'/{HEADER}')}"
            for file in open_store(above, timeout).walk()
            if file.name.endswith(f"/{HEADER}")
        }
        found |= remote & complete
    return found
