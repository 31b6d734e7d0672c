"""Where Ray Train keeps a trial's checkpoints and its own snapshot: beside the history.

In a folder Ray Train writes by itself. On S3 it works through a file system of pyarrow's that asks our
client, and checkpoints are uploaded by us: so every request is tried again within the time that is ours to
set, and what was uploaded is compared with what the server has before the checkpoint counts. Ray Train
removes an older checkpoint only after the snapshot that lists the new one is written.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray.train
from pyarrow import PythonFile
from pyarrow.fs import FileInfo, FileSelector, FileSystemHandler, FileType, PyFileSystem

from r2d2.storage.depot import Depot, Kept
from r2d2.storage.s3 import SCHEME
from runner.checkpoint_place import delete_checkpoint, upload_checkpoint

TRAIN_RUN = "train"


def storage_arguments(trial: Depot) -> dict[str, Any]:
    """What `ray.train.RunConfig` is told of a trial's place."""
    if not trial.is_remote:
        return {"storage_path": trial.place}
    path = trial.place.removeprefix(SCHEME)
    return {"storage_path": path, "storage_filesystem": PyFileSystem(DepotFiles(trial))}


def uploader(trial: Depot) -> Callable[[ray.train.Checkpoint, str], ray.train.Checkpoint] | None:
    """What `ray.train.report` uploads a checkpoint with; None where Ray Train copies it by itself."""
    if not trial.is_remote:
        return None

    def upload(checkpoint: ray.train.Checkpoint, name: str) -> ray.train.Checkpoint:
        kept = trial.below(f"{TRAIN_RUN}/{name}")
        upload_checkpoint(Path(checkpoint.path), kept)
        path = kept.place.removeprefix(SCHEME)
        return ray.train.Checkpoint(path, PyFileSystem(DepotFiles(trial)))

    return upload


class DepotFiles(FileSystemHandler):  # type: ignore[misc]  # pyarrow has no types
    """As much of a file system as Ray Train asks for, over a trial's depot on S3; paths are `bucket/key`."""

    def __init__(self, depot: Depot) -> None:
        self._depot = depot
        self._root = depot.place.removeprefix(SCHEME)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DepotFiles) and other._root == self._root

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._root)

    def get_type_name(self) -> str:
        """Of the file system."""
        return "r2d2-depot"

    def normalize_path(self, path: str) -> str:
        """A path in its usual form."""
        return path.rstrip("/")

    def get_file_info(self, paths: list[str]) -> list[FileInfo]:
        """What lies at each path; on S3 a folder is what has something below it."""
        found = []
        for path in paths:
            (kept,) = self._depot.find_all([self._name(path)])
            if kept is not None:
                found.append(self._info(kept))
            else:
                is_folder = next(iter(self._depot.walk(self._name(path))), None) is not None
                found.append(FileInfo(path, FileType.Directory if is_folder else FileType.NotFound))
        return found

    def get_file_info_selector(self, selector: FileSelector) -> list[FileInfo]:
        """What lies below a folder."""
        name = self._name(selector.base_dir)
        if selector.recursive:
            return [self._info(kept) for kept in self._depot.walk(name)]
        folders = [f"{selector.base_dir}/{inner}" for inner in self._depot.folders(name)]
        return [
            *(FileInfo(path, FileType.Directory) for path in folders),
            *(self._info(kept) for kept in self._depot.files(name)),
        ]

    def create_dir(self, path: str, recursive: bool) -> None:
        """Nothing: S3 knows no empty folders."""

    def delete_dir(self, path: str) -> None:
        """Removes a checkpoint, or another folder."""
        delete_checkpoint(self._depot.below(self._name(path)))

    def delete_file(self, path: str) -> None:
        """Removes a file."""
        self._depot.delete(self._name(path))

    def open_input_stream(self, path: str) -> PythonFile:
        """A file's content."""
        content = self._depot.read(self._name(path))
        if content is None:
            raise FileNotFoundError(path)
        return PythonFile(io.BytesIO(content), mode="r")

    def open_input_file(self, path: str) -> PythonFile:
        """A file's content."""
        return self.open_input_stream(path)

    def open_output_stream(self, path: str, metadata: object) -> PythonFile:  # noqa: ARG002  (pyarrow's)
        """A file to write, which is kept when it is closed."""
        return PythonFile(_Written(self._depot, self._name(path)), mode="w")

    def _name(self, path: str) -> str:
        assert path.startswith(self._root), f"{path} is not below {self._root}"
        return path[len(self._root) :].strip("/")

    def _info(self, kept: Kept) -> FileInfo:
        path = f"{self._root}/{kept.name}"
        return FileInfo(path, FileType.File, size=kept.size, mtime=kept.modified)

    def _refuse(self, *_: object) -> Any:
        raise NotImplementedError("Ray Train asks for no such thing")

    copy_file = delete_dir_contents = delete_root_dir_contents = move = open_append_stream = _refuse


class _Written(io.BytesIO):
    """Collects a content in memory and keeps it when it is closed."""

    def __init__(self, depot: Depot, name: str) -> None:
        super().__init__()
        self._depot, self._name = depot, name

    def close(self) -> None:
        if not self.closed:
            content = self.getvalue()
            super().close()
            self._depot.write(self._name, content)
