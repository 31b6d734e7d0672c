"""Checks names that others have chosen: keys of S3, entries of manifests, members of archives.

Each becomes a path below a folder here, or is refused; nobody joins a foreign name to a folder by himself.
"""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

# What no common file system holds as one name, bytes.
LONGEST = 255
# Letters that turn the direction of what is shown, so that a name looks like another one.
_TURNING = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_DRIVE = re.compile("[A-Za-z]:")
# Control characters, and ends of lines and paragraphs.
_CONTROL = {"Cc", "Zl", "Zp"}


def is_name(name: str) -> bool:
    """Says whether a name, with slashes, is that of a file below whatever folder it is put into.

    It is not, if it is empty or absolute, has a part that is empty, `.`, `..` or longer than 255 bytes,
    begins with a drive, or holds a backslash, a control character or one that turns the writing's direction.
    """
    parts = name.split("/")
    return not (
        _DRIVE.match(name)
        or "\\" in name
        or any(part in ("", ".", "..") or len(part.encode(errors="replace")) > LONGEST for part in parts)
        or any(letter in _TURNING or unicodedata.category(letter) in _CONTROL for letter in name)
    )


def is_visible(name: str) -> bool:
    """Says whether a name is that of a file in a folder and neither it nor a folder above it is hidden."""
    return is_name(name) and not any(part.startswith(".") for part in name.split("/"))


def check_name(name: str, where: str) -> None:
    """Refuses a name that is none of a file below a folder.

    Args:
        name: with slashes.
        where: it was found, for the sentence.

    Raises:
        ValueError: if it is refused.
    """
    if not is_name(name):
        raise ValueError(f"{where} holds the path {name[:200]!r}, which leads out of it or names no file")


def path_below(folder: Path, name: str, where: str) -> Path:
    """Joins a foreign name to a folder. Arguments and errors as of `check_name`."""
    check_name(name, where)
    return folder / name


def make_parents(folder: Path, path: Path) -> None:
    """Makes the folders between a folder and a path below it.

    Raises:
        ValueError: if one of them is a link, which could lead anywhere.
    """
    for above in path.relative_to(folder).parents:
        if (folder / above).is_symlink() and folder / above != folder:
            raise ValueError(f"{folder / above} is a link; nothing is written through it")
    path.parent.mkdir(parents=True, exist_ok=True)


def require_text(name: str) -> None:
    """Refuses a name whose bytes are not UTF-8: it can stand in no table, digest, manifest or database.

    Raises:
        ValueError: names it, with the bytes as escapes.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        seen = os.fsencode(name).decode("utf-8", "backslashreplace")
        raise ValueError(
            f"the name of '{seen}' is not UTF-8; rename it (convmv renames whole folders)"
        ) from None
