"""Opens sources of training pairs, one kind in each file, found by their names.

To add one: write a file here with a class that is a `PairSource` and has a classmethod `open(place, places)`,
and list it below. Its name is then good in `data.sources`, on the command line and in the tests.
"""

from __future__ import annotations

from r2d2.data.sources.aachen import AachenSource
from r2d2.data.sources.flow import FlowSource
from r2d2.data.sources.homographies import HomographySource
from r2d2.data.sources.photos import PhotoSource
from r2d2.data.sources.source import SourceType
from r2d2.data.sources.style import StyleSource
from r2d2.data.sources.web import WebSource

SOURCES: dict[str, SourceType] = {
    "aachen": AachenSource,
    "flow": FlowSource,
    "homographies": HomographySource,
    "photos": PhotoSource,
    "style": StyleSource,
    "web": WebSource,
}
