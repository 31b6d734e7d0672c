"""Reads text files that people write: UTF-8, with or without a byte order mark."""

from __future__ import annotations

import codecs
from pathlib import Path

_OTHER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def read_text(path: Path, at_most: int) -> str:
    """Reads the text of a file.

    Args:
        path: the file.
        at_most: bytes; a larger file is not read.

    Raises:
        ValueError: if it is larger, or not UTF-8; names the file and the line.
        OSError: if it cannot be read.
    """
    size = path.stat().st_size
    if size > at_most:
        raise ValueError(f"{path} has {size} bytes; it may have at most {at_most}")
    content = path.read_bytes()
    for mark, encoding in _OTHER_MARKS.items():
        if content.startswith(mark):
            raise ValueError(f"{path}, line 1: the file is {encoding}; save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + content.count(b"\n", 0, error.start)
        byte = content[error.start]
        raise ValueError(
            f"{path}, line {line}: the byte {byte:#04x} is not UTF-8; save it as UTF-8"
        ) from None
    if "\0" in text:
        line = 1 + text.count("\n", 0, text.index("\0"))
        raise ValueError(f"{path}, line {line}: a zero byte, which no text has; save it as UTF-8")
    return text
