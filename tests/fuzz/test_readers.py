"""Readers of foreign bytes give a result or a sentence, in bounded memory, and write nothing elsewhere.

`make test-fuzz` gives each reader many more examples than `make test`, by the variable FUZZ_EXAMPLES.
"""

from __future__ import annotations

import contextlib
import os
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign_files import READERS, Reader
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory import peak_memory

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "12"))

NUMBERS = st.sampled_from([0, 1, -1, 2**16, 2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1, -(2**63)])
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.floats(0, 1), st.binary(min_size=1, max_size=8)),
        st.tuples(st.just("insert"), st.floats(0, 1), st.binary(min_size=1, max_size=8)),
        st.tuples(st.just("cut"), st.floats(0, 1), st.just(b"")),
        st.tuples(st.just("delete"), st.floats(0, 1), st.binary(min_size=1, max_size=8)),
        st.tuples(
            st.just("set"),
            st.floats(0, 1),
            st.one_of(
                NUMBERS.map(lambda n: struct.pack("<q", n)),
                NUMBERS.map(lambda n: struct.pack(">q", n)),
                NUMBERS.map(lambda n: str(n).encode()),
                st.sampled_from([b"../../x", b"/etc/x", b"\x00", b"NaN", b"1e999", b"[[[[", b"null", b"-0"]),
            ),
        ),
    ),
    max_size=4,
)


def changed(content: bytes, changes: list[tuple[str, float, bytes]]) -> bytes:
    for how, where, part in changes:
        at = int(where * len(content))
        if how == "set":
            content = content[:at] + part + content[at + len(part) :]
        elif how == "insert":
            content = content[:at] + part + content[at:]
        elif how == "delete":
            content = content[:at] + content[at + len(part) :]
        else:
            content = content[:at]
    return content


def tree(folder: Path, without: Path) -> set[str]:
    return {str(p) for p in folder.rglob("*") if without not in p.parents and p != without}


def write(reader: Reader, path: Path, members: dict[str, bytes], raw: list[tuple[str, float, bytes]]) -> None:
    """Writes what is to be read; `raw` changes the whole file, after it was packed."""
    path.parent.mkdir(exist_ok=True)
    if reader.is_folder:
        path.mkdir(exist_ok=True)
        for name, content in members.items():
            (path / name).write_bytes(content)
    elif reader.pack:
        path.write_bytes(changed(reader.pack(members), raw))
    else:
        path.write_bytes(members[""])


def check(
    reader: Reader, path: Path, members: dict[str, bytes], raw: list[tuple[str, float, bytes]]
) -> float:
    """Has a file read, and asserts what every reader must do; returns the memory that it took, MiB."""
    write(reader, path, members, raw)
    before, sentences = tree(path.parents[1], path.parent), []

    def read() -> None:
        try:
            reader.read(path)
        except (ValueError, OSError) as error:
            sentences.append(str(error).strip())

    most = peak_memory(read)
    assert all(sentences), "an error without a sentence"
    assert most <= reader.most, f"{most:.0f} MiB of memory; it may take {reader.most}"
    assert tree(path.parents[1], path.parent) == before, "it wrote outside its folder"
    return most


@pytest.fixture(autouse=True)
def small_images(monkeypatch):
    """The limit of a reader is stated for images of at most a million pixels."""
    monkeypatch.setattr("r2d2.data.images.MAX_PIXELS", 10**6)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", READERS)
def test_a_result_or_one_sentence(kind, tmp_path):
    reader = READERS[kind]
    valid, path = reader.valid(tmp_path), tmp_path / "work" / reader.name

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize="FUZZ_EXAMPLES" not in os.environ,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(member=st.sampled_from(sorted(valid)), changes=CHANGES, raw=CHANGES)
    def try_one(member, changes, raw):
        check(reader, path, {**valid, member: changed(valid[member], changes)}, raw[:1])

    # What is imported and made once counts for no file.
    write(reader, path, valid, [])
    with contextlib.suppress(ValueError):
        reader.read(path)
    try_one()


@pytest.mark.parametrize("kind", READERS)
def test_the_unchanged_file_is_read(kind, tmp_path):
    reader = READERS[kind]
    path = tmp_path / "work" / reader.name
    write(reader, path, reader.valid(tmp_path), [])
    if kind == "flow of KITTI":
        pytest.skip("Pillow writes no PNG of three 16-bit channels: this reader starts from an 8-bit one")
    reader.read(path)


def says_nothing(_: Path) -> None:
    raise ValueError("")


BOMB = 40 * 2**20
BAD = {
    "bytes": (lambda _: bytearray(b"x" * BOMB), "MiB of memory"),
    "an array": (lambda _: np.ones(BOMB, np.uint8), "MiB of memory"),
    "a tensor": (lambda _: torch.ones(BOMB, dtype=torch.uint8), "MiB of memory"),
    "a file elsewhere": (lambda path: (path.parents[1] / "x").write_text(""), "outside its folder"),
    "another error": (lambda _: ""[0], "index out of range"),
    "an empty sentence": (says_nothing, "without a sentence"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_reader_is_found(kind, tmp_path):
    read, complaint = BAD[kind]
    reader = replace(READERS["homography"], read=read)
    with pytest.raises((AssertionError, IndexError), match=complaint):
        check(reader, tmp_path / "work" / "f", reader.valid(tmp_path), [])
