"""What can be wrong with a place, or with one file of it. Both are `OSError`s that say it in one sentence."""

from __future__ import annotations

import errno


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
