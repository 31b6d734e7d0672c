"""Stores a trial's checkpoints and Ray Train's own snapshot beside the history.

Ray Train uses our store through a file system of pyarrow's, and we upload checkpoints ourselves. So each file
is there whole or not at all, whatever process is killed or disk is full; Ray alone truncates its snapshot and
then writes it. On S3 every request is tried again for a time that we set, and each uploaded file is compared
with the server's copy before the checkpoint counts. Ray Train removes an older checkpoint only after the
snapshot that lists the new one is written.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray.train
from pyarrow import PythonFile
from pyarrow.fs import FileInfo, FileSelector, FileSystemHandler, FileType, PyFileSystem

from r2d2.storage.s3 import SCHEME
from r2d2.storage.store import ObjectInfo, Store
from runner.record.checkpoints import delete_checkpoint, upload_checkpoint
from runner.record.layout import HEADER, SNAPSHOT, TRAIN_RUN, checkpoint_position


def storage_arguments(trial: Store) -> dict[str, Any]:
    """Returns the arguments of `ray.train.RunConfig` that name a trial's place."""
    return {"storage_path": _path(trial), "storage_filesystem": PyFileSystem(StoreFiles(trial))}


def uploader(trial: Store) -> Callable[[ray.train.Checkpoint, str], ray.train.Checkpoint]:
    """Returns the function by which `ray.train.report` uploads a checkpoint."""

    def upload(checkpoint: ray.train.Checkpoint, name: str) -> ray.train.Checkpoint:
        kept = trial.below(f"{TRAIN_RUN}/{name}")
        upload_checkpoint(Path(checkpoint.path), kept)
        return ray.train.Checkpoint(_path(kept), PyFileSystem(StoreFiles(trial)))

    return upload


def last_checkpoint(trial: Store) -> str | None:
    """Finds a trial's last complete checkpoint, also one that Ray Train does not know; None without any."""
    found = []
    for name in trial.folders(TRAIN_RUN):
        position = checkpoint_position(name)
        if position is not None and trial.find_all([f"{TRAIN_RUN}/{name}/{HEADER}"]) != [None]:
            # One in mid-epoch comes before that of the epoch.
            found.append((position, name))
    return trial.below(f"{TRAIN_RUN}/{max(found)[1]}").place if found else None


def drop_damaged_snapshot(trial: Store) -> bool:
    """Removes Ray Train's snapshot if it is damaged or lists missing checkpoints: Ray would not start.

    Returns:
        Whether it did; a training then goes on from `last_checkpoint`.
    """
    try:
        listed = _listed(trial)
    except (ValueError, KeyError, TypeError):
        listed = [""]
    if None not in trial.find_all(f"{TRAIN_RUN}/{name}/{HEADER}" for name in listed):
        return False
    trial.delete(f"{TRAIN_RUN}/{SNAPSHOT}")
    return True


def remove_forgotten(trial: Store) -> None:
    """Removes, of a trial that has ended, the checkpoints in mid-epoch that Ray Train does not know.

    A driver that is killed between an upload and the snapshot leaves such a checkpoint. Checkpoints of whole
    epochs stay, because they can be scored.
    """
    listed = _listed(trial)
    for name in trial.folders(TRAIN_RUN):
        position = checkpoint_position(name)
        if position is not None and math.isfinite(position[1]) and name not in listed:
            delete_checkpoint(trial.below(f"{TRAIN_RUN}/{name}"))


def _listed(trial: Store) -> list[str]:
    """Returns the checkpoints that Ray Train's snapshot lists; none if there is no snapshot."""
    content = trial.read(f"{TRAIN_RUN}/{SNAPSHOT}")
    if content is None:
        return []
    return [result["checkpoint_dir_name"] for result in json.loads(content)["checkpoint_results"]]


def _path(store: Store) -> str:
    """Returns a place as pyarrow's file systems name it: without the scheme."""
    return store.place.removeprefix(SCHEME)


class StoreFiles(FileSystemHandler):  # type: ignore[misc]  # pyarrow has no types
    """Offers a store as a file system, as far as Ray Train needs it; paths are `/folder` or `bucket/key`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._root = _path(store)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StoreFiles) and other._root == self._root

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._root)

    def get_type_name(self) -> str:
        """Returns the name of the file system."""
        return "r2d2-store"

    def normalize_path(self, path: str) -> str:
        """Returns a path in its usual form."""
        return path.rstrip("/")

    def get_file_info(self, paths: list[str]) -> list[FileInfo]:
        """Describes what lies at each path; a folder is a path with something below it."""
        found = []
        for path in paths:
            (kept,) = self._store.find_all([self._name(path)])
            if kept is not None:
                found.append(self._info(kept))
            else:
                is_folder = next(iter(self._store.walk(self._name(path))), None) is not None
                found.append(FileInfo(path, FileType.Directory if is_folder else FileType.NotFound))
        return found

    def get_file_info_selector(self, selector: FileSelector) -> list[FileInfo]:
        """Describes what lies below a folder."""
        name = self._name(selector.base_dir)
        if selector.recursive:
            return [self._info(kept) for kept in self._store.walk(name)]
        folders = [f"{selector.base_dir}/{inner}" for inner in self._store.folders(name)]
        return [
            *(FileInfo(path, FileType.Directory) for path in folders),
            *(self._info(kept) for kept in self._store.files(name)),
        ]

    def create_dir(self, path: str, recursive: bool) -> None:
        """Does nothing: a store knows no empty folders."""

    def delete_dir(self, path: str) -> None:
        """Removes a checkpoint, or another folder."""
        delete_checkpoint(self._store.below(self._name(path)))

    def delete_file(self, path: str) -> None:
        """Removes a file."""
        self._store.delete(self._name(path))

    def open_input_stream(self, path: str) -> PythonFile:
        """Opens a file to read."""
        content = self._store.read(self._name(path))
        if content is None:
            raise FileNotFoundError(path)
        return PythonFile(io.BytesIO(content), mode="r")

    def open_input_file(self, path: str) -> PythonFile:
        """Opens a file to read at any position."""
        return self.open_input_stream(path)

    def open_output_stream(self, path: str, metadata: object) -> PythonFile:  # noqa: ARG002  (pyarrow's)
        """Opens a file to write; it is stored when it is closed."""
        return PythonFile(_Written(self._store, self._name(path)), mode="w")

    def _name(self, path: str) -> str:
        assert path.startswith(self._root), f"{path} is not below {self._root}"
        return path[len(self._root) :].strip("/")

    def _info(self, kept: ObjectInfo) -> FileInfo:
        path = f"{self._root}/{kept.name}"
        return FileInfo(path, FileType.File, size=kept.size, mtime=kept.modified)

    def _refuse(self, *_: object) -> Any:
        raise NotImplementedError("Ray Train asks for no such thing")

    copy_file = delete_dir_contents = delete_root_dir_contents = move = open_append_stream = _refuse


class _Written(io.BytesIO):
    """Collects a content in memory and keeps it when it is closed."""

    def __init__(self, store: Store, name: str) -> None:
        super().__init__()
        self._store, self._name = store, name

    def close(self) -> None:
        if not self.closed:
            content = self.getvalue()
            super().close()
            self._store.write(self._name, content)
