"""OutOfMemory: the error that a training step ends with; whoever only catches it need not import torch."""

from __future__ import annotations


class OutOfMemory(ValueError):  # noqa: N818 - it says what happened
    """A step needs more memory than the device has."""
