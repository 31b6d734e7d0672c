"""What a place's `manifest.json` says of its files, as far as reading them needs it."""

from __future__ import annotations

import json
import re
from typing import Any

from r2d2.storage.names import is_name

MANIFEST = "manifest.json"
FORMAT = 1

# Of one file, bytes; S3 holds no larger object.
LARGEST = 2**46

_SHA256 = re.compile("[0-9a-f]{64}")


def manifest_entries(content: bytes, where: str) -> list[tuple[str, int, str]]:
    """(path, size in bytes, SHA-256) of every file.

    Args:
        content: of the manifest.
        where: it lies, for the sentence.

    Raises:
        ValueError: if it is no manifest of this format.
    """
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is damaged: it is no JSON ({error})") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"{where} is no manifest of format {FORMAT}")
    files = manifest.get("files")
    if not isinstance(files, list) or not files:
        raise ValueError(f"{where} is damaged: 'files' is no list of files")
    return [_entry(file, where) for file in files]


def _entry(file: Any, where: str) -> tuple[str, int, str]:
    path, size, sha256 = (
        file.get(key) if isinstance(file, dict) else None for key in ("path", "size", "sha256")
    )
    if (
        not isinstance(path, str)
        or not is_name(path)
        or type(size) is not int
        or not 0 <= size <= LARGEST
        or not isinstance(sha256, str)
        or not _SHA256.fullmatch(sha256)
    ):
        raise ValueError(f"{where} is damaged: {str(file)[:200]} is no path, size and sha256")
    return path, size, sha256
