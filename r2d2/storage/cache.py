"""ObjectCache: objects of S3 on the disk of a node, each fetched once, whoever asks for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CacheSettings:
    """Where a node keeps what it fetched, and how much of it. Can be pickled.

    Attributes:
        folder: on a disk of the node; made when something is written; holds nothing else.
        max_bytes: of all objects together, at least 0; 0 keeps nothing.
    """

    folder: str
    max_bytes: int

    def __post_init__(self) -> None:
        if self.max_bytes < 0:
            raise ValueError(f"max_bytes is {self.max_bytes}; it must be at least 0")
