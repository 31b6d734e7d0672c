"""Describes what is to be prepared, and what has been prepared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from r2d2.prepare.archive import UnpackLimits
from r2d2.prepare.catalogue import Source
from r2d2.prepare.http_file import Limits
from r2d2.storage.location import is_remote
from r2d2.storage.manifest import Manifest
from r2d2.storage.s3 import TIMEOUT

# More unusable images than this share are no accident.
MAX_REFUSED = 0.05

# Listens to the steps of a preparation: what the step does, how many bytes more are done (negative where
# something has to be done again), and how many it will be about, once that is known. 0 bytes: it begins.
Progress = Callable[[str, int, int | None], None]

# Looks at a folder that is about to become a place; returns what there is to say. A ValueError refuses it.
Inspection = Callable[[Path, Manifest], list[str]]


@dataclass(frozen=True)
class Job:
    """A Job describes one preparation: which source, where from and where to, and within which limits.

    Attributes:
        source: what.
        place: a folder, or `s3://bucket/prefix`.
        work: folder for downloads and what is on its way; removed at the end.
        origins: addresses, archives, folders and places on S3; none: the source's own addresses.
        max_refused: share of the images that may be left out because they cannot be opened, in [0, 1].
        limits: of the waits for servers.
        unpack_limits: of what an archive may hold.
        sha256: what downloads of unknown content may have, hexadecimal; any other is refused, and its own is
            said. None: whatever comes is taken.
        timeout: seconds that a request to S3 is tried again for.
        progress: called as the work goes on.
        inspect: called before the manifest is written, for sources that need more than a layout.
    """

    source: Source
    place: str
    work: Path
    origins: tuple[str, ...] = ()
    max_refused: float = MAX_REFUSED
    limits: Limits = field(default_factory=Limits)
    unpack_limits: UnpackLimits = field(default_factory=UnpackLimits)
    sha256: frozenset[str] | None = None
    timeout: float = TIMEOUT
    progress: Progress = lambda step, amount, total: None  # noqa: ARG005
    inspect: Inspection | None = None

    def begin(self, step: str, total: int | None = None) -> Callable[[int], None]:
        """Begins a step that works through about so many bytes; returns the function that advances it."""
        self.progress(step, 0, total)
        return lambda amount: self.progress(step, amount, None)

    @property
    def direct(self) -> bool:
        """Says whether files are unpacked where they stay, since the place is a folder."""
        return not is_remote(self.place)

    @property
    def staging(self) -> Path:
        """Returns the folder where files are collected and examined."""
        return Path(self.place).expanduser() if self.direct else self.work / "files"


@dataclass(frozen=True)
class Prepared:
    """Prepared says what lies at a place after a preparation.

    Attributes:
        manifest: of the files.
        refused: files of this preparation that were left out, with the reason.
        notes: what there is to say, in sentences.
        was_there: the place had been prepared before, and nothing was done.
    """

    manifest: Manifest
    refused: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    was_there: bool = False
