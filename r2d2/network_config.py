"""Defines NetworkConfig: which network, and its size. It stands apart because the network imports torch."""

from __future__ import annotations

from dataclasses import dataclass

from r2d2.settings import setting


@dataclass(frozen=True)
class NetworkConfig:
    """A NetworkConfig says which network is trained."""

    name: str = setting("fast", "architecture")
    channels: int = setting(4, "width c; the layers have 8c, 16c and 32c channels", low=1)
    dim: int = setting(128, "length D of a descriptor", low=1)
