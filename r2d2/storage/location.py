"""Location: a place as people write it, a folder or `s3://bucket/prefix`, and the files that lie there."""

from __future__ import annotations

from pathlib import Path

from r2d2.storage.cache import CacheSettings
from r2d2.storage.files import FileSet, FolderFiles

S3 = "s3://"


def is_remote(place: str) -> bool:
    """Whether a place is on S3."""
    return place.startswith(S3)


def open_files(place: str, cache: CacheSettings | None = None) -> FileSet:
    """The files at a place.

    Args:
        place: a folder, or `s3://bucket/prefix`.
        cache: where objects of S3 are kept on this node; None: nowhere.

    Raises:
        ValueError: if there is nothing.
    """
    if is_remote(place):
        raise NotImplementedError("S3 follows in one of the next commits")
    return FolderFiles.of(Path(place).expanduser())
