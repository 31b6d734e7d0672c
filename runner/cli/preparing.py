"""Prepares data from the command line: finds a work folder, examines HPatches, shows progress."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bars

from evaluation.benchmarks.hpatches import LEFT_OUT, open_benchmark
from r2d2.prepare.catalogue import find_source
from r2d2.prepare.job import Job, Progress
from r2d2.storage.location import absolute_place, is_remote
from r2d2.storage.manifest import Manifest
from runner.settings import Settings

HPATCHES = "hpatches"
# The protocols leave larger sequences out: longer and shorter side, pixels.
LARGEST = (1600, 1200)
_WORK = ".prepare"


def make_job(
    source: str,
    origins: Sequence[str],
    place: str,
    settings: Settings,
    sha256: Sequence[str] = (),
) -> Job:
    """Builds the preparation that a command line asks for.

    Args:
        source: its name.
        origins: addresses, archives, folders; none: the source's own addresses.
        place: where to: a folder or `s3://bucket/prefix`.
        settings: where things are.
        sha256: what the downloads may have, hexadecimal.

    Raises:
        ValueError: if the source is unknown, or a SHA-256 is not 64 hexadecimal digits.
    """
    found = find_source(source)
    for text in sha256:
        if not re.fullmatch("[0-9a-fA-F]{64}", text):
            raise ValueError(f"--sha256 is '{text}'; a SHA-256 has 64 hexadecimal digits")
    place = absolute_place(place).rstrip("/")
    return Job(
        found,
        place,
        _work(place, source, settings),
        tuple(origins),
        sha256=frozenset(text.lower() for text in sha256),
        timeout=settings.s3_timeout,
        inspect=inspect_hpatches if found.name == HPATCHES else None,
    )


def _work(place: str, source: str, settings: Settings) -> Path:
    if not is_remote(place):
        # On the same disk, so that what was unpacked is moved and not copied.
        return Path(place) / _WORK
    key = hashlib.sha256(f"{place} {source}".encode()).hexdigest()[:16]
    return settings.cache / "prepare" / key


def inspect_hpatches(folder: Path, manifest: Manifest) -> list[str]:
    """Describes HPatches: how many sequences count, which are left out, the benchmark's digest.

    Raises:
        ValueError: if a homography cannot be used or an image is left out.
    """
    if manifest.left_out:
        raise ValueError(f"{manifest.left_out[0]} cannot be used, and its sequence needs it")
    benchmark = open_benchmark(folder)
    sequences = {file.path.partition("/")[0] for file in manifest.files}
    left_out = sorted(sequences & LEFT_OUT)
    large = {
        file.path.partition("/")[0]
        for file in manifest.files
        if max(file.width, file.height) > LARGEST[0] or min(file.width, file.height) > LARGEST[1]
    }
    notes = [f"{len(benchmark.sequences)} sequences count; benchmark digest {benchmark.digest[:16]}"]
    if left_out:
        notes.append(f"left out by the protocols: {', '.join(left_out)}")
    unexpected = sorted(large - LEFT_OUT)
    if unexpected:
        size = "x".join(map(str, LARGEST))
        notes.append(f"larger than {size} and not left out: {', '.join(unexpected)}")
    return notes


@contextmanager
def terminal_progress(console: Console) -> Iterator[Progress]:
    """Shows a bar for each step in the terminal, as long as the block lasts; nothing elsewhere."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def show(step: str, amount: int, total: int | None) -> None:
            if step not in tasks:
                for former in tasks.values():
                    bars.stop_task(former)
                tasks[step] = bars.add_task(step, total=total)
            elif total is not None:
                bars.update(tasks[step], total=total)
            bars.advance(tasks[step], amount)

        yield show
