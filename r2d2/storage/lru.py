"""LruFolder: files that can be made again, so many bytes of them; the least recently used are removed first.

Several processes may share a folder: one at a time removes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

# Removal goes on until this share of the limit is left, so that it is rare.
KEPT = 0.9
# Other processes write too: after as large a share of the limit, the folder is looked through again.
LOOK_AGAIN = 0.02
# A file that its writer left unfinished, by being killed, is removed after as many seconds.
ABANDONED = 3600.0


class LruFolder:
    """Files `<first two digits>/<digest><suffix>` in a folder.

    Whoever writes one writes a hidden file beside it first, so that it appears whole or not at all.
    """

    def __init__(self, folder: Path, max_bytes: int, suffix: str) -> None:
        """The folder is made when something is written.

        Args:
            folder: its subfolders of two letters hold nothing else.
            max_bytes: of all files together, at least 0.
            suffix: of the files.
        """
        if max_bytes < 0:
            raise ValueError(f"max_bytes is {max_bytes}; it must be at least 0")
        self.folder, self.max_bytes, self.suffix = folder, max_bytes, suffix
        self._written_since_look = float("inf")

    def path(self, digest: str) -> Path:
        """Where the file of a digest lies, or would."""
        return self.folder / digest[:2] / (digest + self.suffix)

    def fits(self, size: int) -> bool:
        """Whether a file of so many bytes would be kept."""
        return size <= self.max_bytes * KEPT

    def use(self, path: Path) -> None:
        """Makes a file the most recently used.

        Raises:
            OSError: if it is gone.
        """
        os.utime(path)

    def wrote(self, size: int) -> None:
        """Counts a file that was written, and makes room if many were.

        Raises:
            OSError: if the folder cannot be looked through.
        """
        self._written_since_look += size
        if self._written_since_look > LOOK_AGAIN * self.max_bytes:
            self.make_room()
            self._written_since_look = 0

    def make_room(self) -> None:
        """Removes the least recently used files beyond the limit, and files that nobody will finish."""
        try:
            with FileLock(self.folder / "lock", timeout=0):
                entries = sorted(self._entries())
                surplus = sum(size for _, size, _ in entries) - self.max_bytes
                if surplus <= 0:
                    return
                surplus += int((1 - KEPT) * self.max_bytes)
                for _, size, path in entries:
                    path.unlink(missing_ok=True)
                    surplus -= size
                    if surplus <= 0:
                        return
        except Timeout:
            # Another process is removing already.
            return

    def _entries(self) -> Iterator[tuple[int, int, Path]]:
        """(time of last use, bytes, path) of all files."""
        # These patterns match hidden names too, which files have while they are written.
        for path in self.folder.glob("??/*"):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            if path.suffix == self.suffix:
                yield status.st_mtime_ns, status.st_size, path
            elif time.time() - status.st_mtime > ABANDONED:
                path.unlink(missing_ok=True)
