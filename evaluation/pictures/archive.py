"""Archives of arrays, as numpy writes them, in memory: what lies beside a score."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

Arrays = Mapping[str, npt.NDArray[Any]]


def pack(arrays: Arrays) -> bytes:
    """Arrays as a compressed archive."""
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    return content.getvalue()


@contextmanager
def unpacked(content: bytes, complaint: str) -> Iterator[Arrays]:
    """The arrays of an archive, for as long as the block lasts; nothing is executed.

    Args:
        content: of `pack`.
        complaint: the beginning of the sentence, if the block does not find there what it should.

    Raises:
        ValueError: if it does not.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            yield arrays
    except (KeyError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{complaint}: {error}") from error
