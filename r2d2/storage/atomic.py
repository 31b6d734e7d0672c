"""Writes files so that a reader finds all of it or nothing, whenever the writer is killed."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from r2d2.storage.errors import name_full_disk


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a file that takes the name `path` when the block ends well, and is removed when it does not.

    Folders above it are made. An existing file is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _sibling(path, "tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        name_full_disk(error, path)
        raise
    _sync(path.parent)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Makes a folder that takes the name `path` when the block ends well, and is removed when it does not.

    Folders above it are made. An existing folder is replaced, which the caller must want; as no system call
    swaps two full folders portably, `path` then names nothing for the instant between two renames.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _sibling(path, "tmp")
    temporary.mkdir()
    try:
        yield temporary
        for inner in [p for p in temporary.rglob("*") if p.is_file()]:
            _sync(inner)
        for inner in [temporary, *(p for p in temporary.rglob("*") if p.is_dir())]:
            _sync(inner)
        _rename_folder(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync(path.parent)


def create_file(path: Path, content: bytes) -> bool:
    """Writes a file unless there is one of that name; of several processes that try, one gets True.

    Folders above it are made. Whoever reads the file finds the whole content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = _sibling(path, "new")
    try:
        with whole.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # Unlike renaming, linking fails where there is a file already, on NFS too.
        os.link(whole, path)
    except FileExistsError:
        return False
    except OSError as error:
        name_full_disk(error, path)
        raise
    finally:
        whole.unlink(missing_ok=True)
    _sync(path.parent)
    return True


def _rename_folder(temporary: Path, path: Path) -> None:
    if not path.is_dir() or not any(path.iterdir()):
        temporary.replace(path)
        return
    former = _sibling(path, "old")
    path.replace(former)
    try:
        temporary.replace(path)
    except BaseException:
        former.replace(path)
        raise
    shutil.rmtree(former)


def _sibling(path: Path, suffix: str) -> Path:
    return path.parent / f".{path.name}.{uuid.uuid4().hex}.{suffix}"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
