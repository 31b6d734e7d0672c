"""Numpy archives from elsewhere: numbers, or one sentence; never a traceback, never more than the limit."""

import io
import zipfile

import numpy as np
import pytest

from r2d2.formats import array_archive
from r2d2.formats.array_archive import read_arrays

NAMES = ("keypoints", "scores")


@pytest.fixture
def path(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", keypoints=np.arange(8.0).reshape(4, 2), other=np.zeros(3))
    return tmp_path / "a.npz"


def write(path, header, content=b"", name="keypoints"):
    npy = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}.npy", npy)


def test_the_arrays_that_are_there_are_read(path):
    arrays = read_arrays(path, NAMES)
    assert list(arrays) == ["keypoints"]
    np.testing.assert_array_equal(arrays["keypoints"], np.arange(8.0).reshape(4, 2))


@pytest.mark.parametrize(
    "shape", ["(2**9,)", "(1099511627776,)", "(99999999999999999999999,)", "(-1,)", "(3, 0.5)"]
)
def test_hostile_shapes_are_one_sentence(tmp_path, shape):
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    write(tmp_path / "a.npz", header, bytes(64))
    with pytest.raises(ValueError, match=r"."):
        read_arrays(tmp_path / "a.npz", NAMES)


def test_objects_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", keypoints=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="'keypoints' is damaged"):
        read_arrays(tmp_path / "a.npz", NAMES)


def test_members_are_compared_with_the_limit_before_they_are_unpacked(tmp_path, monkeypatch):
    write(
        tmp_path / "a.npz",
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (9000000,)}\n",
        bytes(9_000_000),
    )
    assert (tmp_path / "a.npz").stat().st_size < 20_000
    monkeypatch.setattr(array_archive, "MAX_BYTES", 2**20)
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(ValueError, match="its arrays have 9000072 bytes, more than 1048576"):
        read_arrays(tmp_path / "a.npz", NAMES)


def test_random_damage_gives_arrays_or_a_sentence_and_nothing_else(path):
    sound = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(500):
        bad = sound.copy()
        bad[rng.integers(0, len(bad), 3)] = rng.integers(0, 256, 3)
        path.write_bytes(
            bad[: rng.integers(1, len(bad) + 1)].tobytes() if rng.random() < 0.2 else bad.tobytes()
        )
        try:
            read_arrays(path, NAMES)
        except ValueError:
            refused += 1
    assert refused > 100


def test_a_single_array_is_no_archive(tmp_path):
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    (tmp_path / "a.npz").write_bytes(file.getvalue())
    with pytest.raises(ValueError, match="not a zip file"):
        read_arrays(tmp_path / "a.npz", NAMES)


def test_a_header_that_is_cut_off_by_a_zero_is_one_sentence(tmp_path):
    write(tmp_path / "a.npz", b"{'descr': '<f8', \x00'fortran_order': False, 'shape': (1,)}\n", bytes(8))
    with pytest.raises(ValueError, match=r"."):
        read_arrays(tmp_path / "a.npz", NAMES)


def test_the_list_of_members_is_compared_with_a_limit_before_it_is_read(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for number in range(30_000):
            archive.writestr(str(number), b"")
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("it was opened"))
    with pytest.raises(
        ValueError, match=r"directory of the zip archive has 15\d{5} bytes, more than 1048576"
    ):
        read_arrays(tmp_path / "a.npz", NAMES)
