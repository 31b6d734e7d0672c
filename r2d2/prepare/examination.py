"""Examination: every file is read, every image opened, before a place says that it holds them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from r2d2.data.images import MIN_SIDE, ImageRefused, is_image, open_header, refusing
from r2d2.storage.manifest import ManifestFile, sha256_of

_THREADS = 4


def examine(
    folder: Path, names: Sequence[str], advance: Callable[[int], None] = lambda _: None
) -> tuple[list[ManifestFile], dict[str, str]]:
    """Looks at files.

    An image must be of a known format with a sound header, each side at least 32 pixels; of a PNG the
    checksums must hold, too. Pixels are not decoded: that takes long, and training notices it in passing.

    Args:
        folder: where they are.
        names: below it.
        advance: called after each file with its size.

    Returns:
        Entries of the files that can be used, and the others with the reason.

    Raises:
        OSError: if a file cannot be read.
    """
    entries: list[ManifestFile] = []
    refused: dict[str, str] = {}
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="r2d2-examine") as pool:
        for name, found in zip(names, pool.map(lambda name: _look_at(folder, name), names), strict=True):
            if isinstance(found, str):
                refused[name] = found
                advance((folder / name).stat().st_size)
            else:
                entries.append(found)
                advance(found.size)
    return entries, refused


def _look_at(folder: Path, name: str) -> ManifestFile | str:
    path = folder / name
    sides = (0, 0)
    if is_image(name):
        found = _sides(path)
        if isinstance(found, str):
            return found
        sides = found
    with path.open("rb") as file:
        return ManifestFile(name, path.stat().st_size, sha256_of(file), *sides)


def _sides(path: Path) -> tuple[int, int] | str:
    """Width and height as stored, pixels; or why the image cannot be used."""
    try:
        with open_header(path, path) as image:
            width, height = image.size
            with refusing(path):
                image.verify()
    except ImageRefused as refusal:
        return refusal.reason
    if min(width, height) < MIN_SIDE:
        return f"{width}x{height} pixels; both sides must be at least {MIN_SIDE}"
    return width, height
