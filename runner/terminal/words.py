"""Says a few words while something takes long, so that nobody waits before a silent terminal."""

from __future__ import annotations

import sys


def say(words: str) -> None:
    """Prints a few words to the standard error, at once; the standard output stays as it was."""
    sys.stderr.write(f"{words} ...\n")
    sys.stderr.flush()


def silent(_: str) -> None:
    """Says nothing: for callers that are no commands."""
