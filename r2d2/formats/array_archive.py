"""Reads numpy archives (npz) from elsewhere: sizes are compared with a limit first."""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from r2d2.formats.zip_directory import ZIP_DAMAGE, check_directory

# Of the arrays that are read from one file: 131,072 descriptors of 512 numbers.
MAX_NUMBERS = 2**26
# Of the archive, and of what its members become: as many numbers of eight bytes.
MAX_BYTES = 8 * MAX_NUMBERS
# Of the list of its members: ten thousand of them.
MAX_DIRECTORY = 2**20
# What a damaged archive, or the header of an array, fails with; a member with a password is a RuntimeError.
_DAMAGE = (
    *ZIP_DAMAGE,
    OSError,
    RuntimeError,
    MemoryError,
    TypeError,
    SyntaxError,
    OverflowError,
    # Numpy looks at a header that it cannot parse once more, word by word.
    tokenize.TokenError,
)


def read_arrays(path: Path, names: Iterable[str]) -> dict[str, npt.NDArray[Any]]:
    """Reads the arrays, of any shape, of these names that an archive holds; nothing is unpickled.

    Raises:
        ValueError: says what is wrong, without the file's name: no archive, damaged, larger than the limits,
            objects instead of numbers.
        OSError: if there is no such file.
    """
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"it has {path.stat().st_size} bytes, more than {MAX_BYTES}")
    with path.open("rb") as file:
        return _read(file, frozenset(names))


def parse_arrays(content: bytes) -> dict[str, npt.NDArray[Any]]:
    """Reads all arrays, of any shape, of an archive in memory; otherwise as `read_arrays`."""
    return _read(io.BytesIO(content), None)


def _read(file: BinaryIO, names: frozenset[str] | None) -> dict[str, npt.NDArray[Any]]:
    try:
        check_directory(file, MAX_DIRECTORY)
        with zipfile.ZipFile(file) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            wanted = {name: info for name, info in members.items() if names is None or name in names}
            total = sum(member.file_size for member in wanted.values())
            if total > MAX_BYTES:
                raise ValueError(f"its arrays have {total} bytes, more than {MAX_BYTES}")
            return {name: _array(name, archive.read(member)) for name, member in wanted.items()}
    except _DAMAGE as error:
        raise ValueError(str(error) or "it is cut off") from error


def _array(name: str, content: bytes) -> npt.NDArray[Any]:
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"'{name}' has version {version} of numpy's format, which holds no plain numbers")
    first = version[0] == 1
    read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    count = math.prod(shape)
    if count > MAX_NUMBERS or min(shape, default=0) < 0:
        raise ValueError(f"'{name}' has shape {shape}: more than {MAX_NUMBERS} numbers")
    if dtype.hasobject or count * dtype.itemsize != len(content) - file.tell():
        raise ValueError(f"'{name}' is damaged: {dtype} of shape {shape} are not {len(content)} bytes")
    file.seek(0)
    array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return array
