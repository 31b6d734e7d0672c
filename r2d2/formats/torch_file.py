"""Reads files of `torch.save`, today's zip archives and those before PyTorch 1.6, as plain data.

PyTorch's own reader, told to read weights only, calls any function of a long allow list: `bytearray` is on
it, and a pickle of 34 bytes took 2 GiB. Here tensors are made of bytes that are in the file.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from r2d2.formats.plain_pickle import Call, read_pickle
from r2d2.formats.tensor_file import MAX_BYTES, read_bytes
from r2d2.formats.zip_directory import ZIP_DAMAGE, check_directory

# Of the list of a file's records, bytes: ten thousand of them.
_MAX_DIRECTORY = 2**20
_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001
_MOST_DIMENSIONS = 8
# What damaged archives, numbers that no file has and keys of several types fail with.
_DAMAGE = (*ZIP_DAMAGE, ValueError, TypeError, ArithmeticError, RuntimeError, OSError)
_TYPES = {
    "torch DoubleStorage": torch.float64,
    "torch FloatStorage": torch.float32,
    "torch HalfStorage": torch.float16,
    "torch BFloat16Storage": torch.bfloat16,
    "torch LongStorage": torch.int64,
    "torch IntStorage": torch.int32,
    "torch ShortStorage": torch.int16,
    "torch CharStorage": torch.int8,
    "torch ByteStorage": torch.uint8,
    "torch BoolStorage": torch.bool,
}


@dataclass(frozen=True)
class SavedTensor:
    """A SavedTensor is a tensor as the pickle describes it."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: torch.dtype
    count: int


@dataclass(frozen=True)
class SavedFile:
    """A SavedFile is what a file holds: plain data and the storages of its tensors.

    Attributes:
        content: dictionaries, lists, tuples, numbers, text and `SavedTensor`s.
        storages: the numbers of each storage by its key, (N,).
    """

    content: Any
    storages: Mapping[str, Tensor]

    def tensor(self, saved: SavedTensor) -> Tensor:
        """Makes a tensor, of any shape that the file says, as a view of its storage.

        Raises:
            ValueError: if its shape is damaged or leads out of the storage.
        """
        numbers = self.storages[saved.storage.key]
        shape = (*saved.size, *saved.stride, saved.offset)
        if not all(type(n) is int and n >= 0 for n in shape) or len(saved.size) != len(saved.stride):
            raise ValueError("the shape of a tensor is damaged")
        if len(saved.size) > _MOST_DIMENSIONS or math.prod(saved.size) > len(numbers):
            raise ValueError(f"a tensor has more numbers than the {len(numbers)} of its storage")
        try:
            return numbers.as_strided(saved.size, saved.stride, saved.offset)
        except RuntimeError as error:
            raise ValueError("a tensor leads out of its storage") from error


def read_saved(path: Path) -> SavedFile:
    """Reads a file of `torch.save`; nothing in it is executed.

    Raises:
        ValueError: if there is no such file, it is too large, damaged, or holds more than plain weights.
    """
    content = io.BytesIO(read_bytes(path))
    try:
        return _zipped(content) if zipfile.is_zipfile(content) else _old(content)
    except _DAMAGE as error:
        raise ValueError(
            f"{path} is refused: it is damaged or holds more than plain weights ({error})"
        ) from error


def _zipped(content: io.BytesIO) -> SavedFile:
    check_directory(content, _MAX_DIRECTORY)
    with zipfile.ZipFile(content) as archive:
        records, size = archive.infolist(), len(content.getbuffer())
        total = sum(record.file_size for record in records)
        if total > size or any(record.compress_type != zipfile.ZIP_STORED for record in records):
            raise ValueError(
                f"its {len(records)} records become {total} bytes and the file has {size}; torch.save "
                "compresses none"
            )
        names = [record.filename for record in records]
        # The archive's own name stands before each record's.
        above = next((n.removesuffix("data.pkl") for n in names if n.endswith("data.pkl")), "")
        if f"{above}byteorder" in names and archive.read(f"{above}byteorder") != b"little":
            raise ValueError("its numbers are not little-endian")
        found: dict[str, _Storage] = {}
        described = _unpickled(io.BytesIO(archive.read(f"{above}data.pkl")), found)
        storages = {key: _numbers(one, archive.read(f"{above}data/{key}")) for key, one in found.items()}
    return SavedFile(described, storages)


def _old(content: io.BytesIO) -> SavedFile:
    """Pickles of magic number, version, machine, content and keys; then length and bytes of each storage."""
    content.seek(0)
    if (_unpickled(content), _unpickled(content)) != (_MAGIC, _VERSION):
        raise ValueError("it is no file of torch.save")
    machine = _unpickled(content)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise ValueError("its numbers are not little-endian")
    found: dict[str, _Storage] = {}
    described, keys = _unpickled(content, found), _unpickled(content)
    if not isinstance(keys, list) or sorted(keys) != sorted(found):
        raise ValueError("its storages are not those of its tensors")
    storages = {}
    for key in keys:
        if int.from_bytes(content.read(8), "little") != found[key].count:
            raise ValueError("a storage has another length than its tensors")
        size = found[key].count * found[key].dtype.itemsize
        storages[key] = _numbers(found[key], content.read(min(size, MAX_BYTES)))
    return SavedFile(described, storages)


def _numbers(storage: _Storage, held: bytes) -> Tensor:
    if len(held) != storage.count * storage.dtype.itemsize:
        raise ValueError(f"a storage of {storage.count} numbers has {len(held)} bytes")
    if not held:
        return torch.empty(0, dtype=storage.dtype)
    return torch.frombuffer(bytearray(held), dtype=storage.dtype)


def _unpickled(file: io.BytesIO, found: dict[str, _Storage] | None = None) -> Any:
    """One pickle; `found` gets the storages that it speaks of, and where it is None there may be none."""

    def storage(description: Any) -> _Storage:
        word, dtype, key, _, count, *view = description
        if word != "storage" or type(key) is not str or type(count) is not int or count < 0 or any(view):
            raise ValueError("the description of a tensor is damaged")
        described = _Storage(key, dtype.call(), count)
        if found is None or found.setdefault(key, described) != described:
            raise ValueError("two tensors describe one storage in two ways")
        return described

    return read_pickle(file, _NAMES, storage)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: object) -> SavedTensor:
    if not (isinstance(storage, _Storage) and isinstance(size, tuple) and isinstance(stride, tuple)):
        raise ValueError("the description of a tensor is damaged")
    return SavedTensor(storage, offset, size, stride)


def _parameter(tensor: Any, *_: object) -> Any:
    return tensor


def _empty(*_: object) -> dict[Any, Any]:
    """An OrderedDict or a defaultdict: its items follow in the pickle."""
    return {}


_NAMES: dict[str, Call] = {
    "collections OrderedDict": _empty,
    "collections defaultdict": _empty,
    "__builtin__ list": _empty,
    "__builtin__ dict": _empty,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
    **{name: (lambda dtype=dtype: dtype) for name, dtype in _TYPES.items()},
}
