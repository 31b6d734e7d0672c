"""A full disk: which errors say so, and the error that says on which node."""

from __future__ import annotations

import errno

# Python's, where it finds no folder for temporary files that it can write a few bytes into.
_NO_TEMPORARY_FOLDER = "No usable temporary directory"


class DiskFull(Exception):  # noqa: N818 - it says what happened
    """Something could not be written because a disk is full, or a quota used up.

    Attributes:
        node: Ray's id of the node.
    """

    def __init__(self, text: str, node: str) -> None:
        """What happened, and the node; both travel between processes."""
        super().__init__(text, node)
        self.node = node

    @classmethod
    def on(cls, address: str, node: str, error: OSError) -> DiskFull:
        """What an error says, of the node with this address and id."""
        return cls(f"a disk that the node {address} writes to is full: {error}", node)

    def __str__(self) -> str:
        return str(self.args[0])


def says_full(error: OSError) -> bool:
    """Whether an error of the operating system, or of Python's temporary files, says that a disk is full."""
    if error.errno == errno.ENOENT:
        return _NO_TEMPORARY_FOLDER in f"{error.strerror}"
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
