"""Reads and writes named tensors (safetensors): bytes and shapes, nothing that could be executed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

# Of a file of weights or of an optimiser's state: the released networks have 2 to 3 MB.
MAX_BYTES = 2**29

# Kinds of numbers that PyTorch lacks, and shapes that it cannot make, fail in ways of their own.
_DAMAGE = (
    safetensors.SafetensorError,
    KeyError,
    TypeError,
    ValueError,
    RuntimeError,
    OverflowError,
    AssertionError,
)

# A zip archive is what torch.save writes today, protocol 2 what it wrote before; plain pickles go up to 5.
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Writes named tensors of any shape and device; returns the SHA-256 (hexadecimal) of the file."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = safetensors.torch.save(plain)
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def read_tensors(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """Reads named tensors, of any shape, onto the CPU.

    Args:
        path: the file.
        sha256: what it must have, as `write_tensors` returned it; None: not compared.

    Raises:
        ValueError: names the file and says what is wrong: missing, a pickle, damaged.
    """
    content = read_bytes(path)
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(content)
    except _DAMAGE as error:
        refuse_pickle(path, content)
        raise ValueError(f"{path} is damaged: it is no safetensors file ({error})") from error
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"{path} is damaged: its content is not what was written")
    return tensors


def read_bytes(path: Path) -> bytes:
    """Reads the content of a file of at most `MAX_BYTES`.

    Raises:
        ValueError: if there is no such file, or it is larger.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size} bytes; it may have at most {MAX_BYTES}")
    return path.read_bytes()


def refuse_pickle(path: Path, content: bytes) -> None:
    """Says so if a content that could not be read is a pickle.

    To be asked afterwards only: a sound safetensors file may begin with the same two bytes.

    Raises:
        ValueError: if the content begins as pickles and torch.save files do.
    """
    if content.startswith(_PICKLES):
        raise ValueError(f"{path} is refused: it is a pickle, and reading one can execute code")
