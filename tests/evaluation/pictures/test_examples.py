import io
import zipfile
from dataclasses import fields, replace

import numpy as np
import pytest

from evaluation.pictures.examples import MatchExample, pack_examples, unpack_examples
from r2d2.formats import array_archive


def example(sequence: str, matches: int = 4) -> MatchExample:
    rng = np.random.default_rng(matches)
    return MatchExample(
        sequence,
        4,
        rng.integers(0, 256, (48, 64, 3), dtype=np.uint8),
        rng.integers(0, 256, (64, 48, 3), dtype=np.uint8),
        rng.uniform(0, 48, (6, 2)).astype(np.float32),
        rng.uniform(0, 48, (5, 2)).astype(np.float32),
        rng.integers(0, 5, (matches, 2)),
        np.arange(matches, dtype=np.float64),
    )


@pytest.mark.parametrize("count", [0, 1, 3])
def test_packed_and_unpacked(count):
    examples = tuple(example(f"v_{index}", matches=index) for index in range(count))
    loaded = unpack_examples(pack_examples(examples), "examples.npz")
    assert len(loaded) == count
    for before, after in zip(examples, loaded, strict=True):
        for field in fields(MatchExample):
            np.testing.assert_array_equal(getattr(before, field.name), getattr(after, field.name))


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 truncated"])
def test_other_files_are_refused(content):
    with pytest.raises(ValueError, match=r"examples\.npz holds no matched pairs"):
        unpack_examples(content, "examples.npz")


@pytest.mark.parametrize("shape", ["(99999999999, 99999999999)", "(-1,)", "(2,)"])
def test_hostile_shapes_are_refused(shape):
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in ("sequences", "images"):
            npy = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64)
            archive.writestr(f"{name}.npy", npy)
    with pytest.raises(ValueError, match="holds no matched pairs"):
        unpack_examples(content.getvalue(), "examples.npz")


def test_a_bomb_is_refused_before_it_is_unpacked(monkeypatch):
    content = pack_examples([replace(example("v_1"), image1=np.zeros((1000, 1000, 3), np.uint8))])
    monkeypatch.setattr(array_archive, "MAX_BYTES", 2**20)
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(ValueError, match=r"holds no matched pairs: its arrays have \d+ bytes, more than"):
        unpack_examples(content, "examples.npz")


def test_pickles_are_refused(tmp_path):
    np.savez(tmp_path / "examples.npz", sequences=np.array([{}], dtype=object), images=np.array([1]))
    with pytest.raises(ValueError, match="holds no matched pairs"):
        unpack_examples((tmp_path / "examples.npz").read_bytes(), "examples.npz")
