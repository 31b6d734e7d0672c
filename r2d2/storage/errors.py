"""What can be wrong with a place, or with one file of it. Both are `OSError`s that say it in one sentence."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Python's, where it finds no folder for temporary files that it can write a few bytes into.
_NO_TEMPORARY_FOLDER = "No usable temporary directory"


class StorageError(OSError):
    """`StorageError(errno, reason, where)`: the reason in words, and the place or file it is about."""

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


class PlaceError(StorageError):
    """A place cannot be used: no credentials, no such bucket, a server that does not answer.

    No other file of the place can be had either, so a training should stop.
    """


class FileError(StorageError):
    """One file cannot be had: it is gone, it was changed, or it is corrupt. Others may well be there."""


def gone(where: str) -> FileError:
    """A file that was there, or should be."""
    return FileError(errno.ENOENT, "it is not there (any more)", where)


def changed(where: str, known: str, now: str = "another") -> FileError:
    """A file that was replaced since its place was opened."""
    reason = (
        f"it was changed while in use (when its place was opened: {known}, now: {now}); "
        "figures of both would mix: open the place anew, or put the file back"
    )
    return FileError(errno.ESTALE, reason, where)


def require_size(where: str, size: int, most: int) -> None:
    """Refuses what is larger than this program reads into memory.

    Args:
        where: it is.
        size: that it has, or that a server says, bytes.
        most: bytes.

    Raises:
        FileError: if it is larger.
    """
    if size > most:
        raise FileError(errno.EFBIG, f"it has {size} bytes; it may have at most {most}", where)


def corrupt(where: str, what: str) -> FileError:
    """A file whose content is not what it should be, twice."""
    return FileError(errno.EIO, f"it is corrupt: {what}, and so it was when fetched again", where)


class DiskFull(Exception):  # noqa: N818 - it says what happened
    """A node could not write something because a disk is full, or a quota used up."""


def says_full(error: OSError) -> bool:
    """Whether an error of the operating system, or of Python's temporary files, says that a disk is full."""
    if error.errno == errno.ENOENT:
        return _NO_TEMPORARY_FOLDER in f"{error.strerror}"
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def name_full_disk(error: BaseException, path: Path) -> None:
    """Adds the path that was being written to an error that says that a disk is full, if it lacks one."""
    if isinstance(error, OSError) and says_full(error) and error.filename is None:
        error.filename = str(path)


@contextmanager
def full_disk_of(node: str) -> Iterator[None]:
    """Says which node could not write, and to which folder, if the work inside finds a disk full.

    Args:
        node: address of this one.

    Raises:
        DiskFull: in place of the operating system's error.
    """
    try:
        yield
    except OSError as error:
        if not says_full(error):
            raise
        what = error.strerror
        if error.errno != errno.ENOENT:
            # `atomic` names what it writes; what else is written at length are temporary files.
            what = f"{error.filename or tempfile.gettempdir()}: {what}"
        raise DiskFull(f"a disk of the node {node} is full ({what}); make room, then retry") from error
