"""Trust: sweep files that this user has started or has said to trust; no other stored code is executed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import click

from r2d2.storage.atomic import atomic_file


def remember(content: bytes) -> Path:
    """Keeps a sweep file among those that this user trusts; returns the user's own copy.

    Raises:
        OSError: if it cannot be written.
    """
    copy = _copy(content)
    copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with atomic_file(copy) as file:
        file.write(content)
    return copy


def trusted_copy(content: bytes, where: str, trust: bool) -> Path:
    """The user's own copy of a sweep file that was stored with a sweep: what is checked is what is executed.

    Args:
        content: of the stored file.
        where: it is stored.
        trust: whether the user has just said that it may be executed.

    Raises:
        ValueError: if the user has neither started a sweep with this content nor said to trust it.
    """
    copy = _copy(content)
    if trust:
        return remember(content)
    if not copy.is_file() or copy.read_bytes() != content:
        raise ValueError(
            f"{where} is a program that this user did not start from this machine (SHA-256 "
            f"{copy.stem}); whoever may write there may have put it there. Read it, and give --trust to run "
            "it"
        )
    return copy


def _copy(content: bytes) -> Path:
    return Path(click.get_app_dir("r2d2"), "trusted_sweeps", f"{hashlib.sha256(content).hexdigest()}.py")
