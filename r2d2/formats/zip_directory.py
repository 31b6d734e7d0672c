"""Compares the size of a zip archive's directory with a limit before the archive is parsed.

`zipfile` makes an object of several hundred bytes of every entry as soon as it opens an archive, and an entry
takes 46 bytes in a file.
"""

from __future__ import annotations

import lzma
import os
import re
import struct
import zipfile
import zlib
from typing import BinaryIO

# What `zipfile` fails with at an archive that is none, or damaged: a name of no letters is an IndexError.
ZIP_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, LookupError)

# The records at an archive's end, and where each says how many bytes the directory has (APPNOTE 4.3.14,
# 4.3.16). A comment of at most 65,535 bytes follows them.
_RECORD = re.compile(rb"PK\x05\x06|PK\x06\x06")
_SIZE = {b"PK\x05\x06": ("<L", 12), b"PK\x06\x06": ("<Q", 40)}
_TAIL = 2**16 + 22 + 20 + 56
# Stands where the larger record says it.
_ELSEWHERE = 2**32 - 1


def check_directory(file: BinaryIO, most: int) -> None:
    """Refuses a zip archive whose directory is larger than a limit; the file is at its beginning afterwards.

    Args:
        file: the archive; other files are accepted unchecked.
        most: bytes of the directory.

    Raises:
        ValueError: if it is larger.
    """
    file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
    tail = file.read()
    file.seek(0)
    for record in _RECORD.finditer(tail):
        kind, at = _SIZE[record[0]]
        if record.start() + at + struct.calcsize(kind) > len(tail):
            continue
        (size,) = struct.unpack_from(kind, tail, record.start() + at)
        if size > most and size != _ELSEWHERE:
            raise ValueError(f"the directory of the zip archive has {size} bytes, more than {most}")
