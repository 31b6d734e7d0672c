"""Opens `web` (W): random photographs of the web, as revisitop1m has them in folders `000` to `fff`."""

from __future__ import annotations

from dataclasses import dataclass

from r2d2.data.sources.photos import PhotoSource

# Pairs of an epoch of the classic mix: so many random ones of the million.
CLASSIC_COUNT = 3125


@dataclass(frozen=True)
class WebSource(PhotoSource):
    """A WebSource offers photographs in folders, each an item."""
