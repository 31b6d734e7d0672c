"""The store of predictions: found again whole, or not at all."""

import errno
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from evaluation.metrics.matching import mutual_nearest_neighbours
from evaluation.metrics.mma import matching_errors, mma
from evaluation.predictions import store as predictions
from evaluation.predictions.store import PredictionStore, decode_keypoints, encode_keypoints
from r2d2.containers import Keypoints

ROOT = Path(__file__).parents[3]

KILOBYTE = {"values": np.zeros(1000, np.uint8)}


def key(number):
    return {"model": "m", "image": str(number)}


def make_store(tmp_path, max_bytes=10**9):
    return PredictionStore(tmp_path / "store", max_bytes)


def entries(tmp_path):
    return sorted((tmp_path / "store").glob("??/*.r2d2p"))


def keypoints(count=50, dim=16):
    rng = np.random.default_rng(0)
    descriptors = rng.normal(size=(count, dim)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    places = rng.uniform(0, 100, (count, 3)).astype(np.float32)
    return Keypoints(places, descriptors, np.sort(rng.random(count).astype(np.float32))[::-1], (100, 100))


def test_what_was_written_is_read_in_another_store(tmp_path):
    arrays = {"a": np.arange(5, dtype=np.float32), "b": np.array(0.25)}
    make_store(tmp_path).write(key(1), arrays)
    found = make_store(tmp_path).read({"image": "1", "model": "m"})
    assert found.keys() == arrays.keys()
    for name, values in arrays.items():
        np.testing.assert_array_equal(found[name], values)
        assert found[name].dtype == values.dtype
    assert make_store(tmp_path).read(key(2)) is None


@pytest.mark.parametrize("count", [0, 1, 50])
def test_keypoints_come_back(count):
    before = keypoints(count)
    after = decode_keypoints(encode_keypoints(before))
    np.testing.assert_array_equal(after.keypoints, before.keypoints)
    np.testing.assert_array_equal(after.scores, before.scores)
    assert after.image_size == before.image_size
    assert after.descriptors.shape == before.descriptors.shape
    np.testing.assert_allclose(after.descriptors, before.descriptors, rtol=0, atol=1e-7)


def test_a_descriptor_of_zeros_comes_back():
    before = Keypoints(*(np.zeros(shape, np.float32) for shape in ((1, 3), (1, 4), (1,))), (9, 9))
    assert not decode_keypoints(encode_keypoints(before)).descriptors.any()


def test_coming_back_twice_changes_nothing_more():
    once = decode_keypoints(encode_keypoints(keypoints()))
    np.testing.assert_array_equal(decode_keypoints(encode_keypoints(once)).descriptors, once.descriptors)


def test_descriptors_take_three_quarters_of_their_size(tmp_path):
    before = keypoints(2000, 128)
    make_store(tmp_path).write(key(1), encode_keypoints(before))
    assert entries(tmp_path)[0].stat().st_size < 0.8 * before.descriptors.nbytes


def test_matches_of_the_reference_pair_stay_the_same(golden):
    reference = golden("matching")
    both = []
    for number in (1, 2):
        places = reference[f"keypoints{number}"]
        padded = np.ones((len(places), 3), np.float32)
        padded[:, :2] = places[:, :2]
        scores = np.zeros(len(places), np.float32)
        one = Keypoints(padded, reference[f"descriptors{number}"].astype(np.float32), scores, (100, 100))
        both.append(decode_keypoints(encode_keypoints(one)))
    matches = mutual_nearest_neighbours(both[0].descriptors, both[1].descriptors)
    np.testing.assert_array_equal(matches, reference["matches"])
    errors = matching_errors(both[0].keypoints, both[1].keypoints, matches, reference["homography_1to2"])
    np.testing.assert_allclose(mma(errors), reference["mma"], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],
        lambda content: b"another program" + content,
        lambda content: content + b"more",
    ],
)
def test_a_damaged_entry_is_not_read_and_is_replaced(tmp_path, damage):
    store = make_store(tmp_path)
    store.write(key(1), KILOBYTE)
    (path,) = entries(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    assert store.read(key(1)) is None
    store.write(key(1), KILOBYTE)
    np.testing.assert_array_equal(store.read(key(1))["values"], KILOBYTE["values"])


def test_a_checksum_over_something_else_is_no_entry(tmp_path):
    store = make_store(tmp_path)
    store.write(key(1), KILOBYTE)
    (path,) = entries(tmp_path)
    path.write_bytes(predictions.MAGIC + hashlib.sha256(b"no archive").digest() + b"no archive")
    assert store.read(key(1)) is None


def test_the_least_recently_used_is_removed_first(tmp_path):
    store = make_store(tmp_path, max_bytes=10_000)
    for number in range(6):
        store.write(key(number), KILOBYTE)
        os.utime(store._path(key(number)), ns=(number, number))
    assert store.read(key(0)) is not None  # used now
    for number in range(6, 10):
        store.write(key(number), KILOBYTE)
    held = [number for number in range(10) if store.read(key(number)) is not None]
    assert sum(path.stat().st_size for path in entries(tmp_path)) <= 10_000
    assert {0, 9} <= set(held)
    assert not {1, 2} & set(held)


def test_what_is_larger_than_the_limit_is_not_stored(tmp_path):
    for limit in (0, 1000):
        store = make_store(tmp_path, max_bytes=limit)
        store.write(key(1), KILOBYTE)
        assert (store.read(key(1)), store.warning) == (None, None)
    with pytest.raises(ValueError, match="max_bytes is -1"):
        make_store(tmp_path, max_bytes=-1)


def test_files_that_nobody_finishes_are_removed(tmp_path):
    folder = tmp_path / "store" / "ab"
    folder.mkdir(parents=True)
    for name, age in ((".old.tmp", 7200), (".new.tmp", 0)):
        (folder / name).write_bytes(b"half")
        then = time.time() - age
        os.utime(folder / name, (then, then))
    make_store(tmp_path).write(key(1), KILOBYTE)
    assert [path.name for path in folder.iterdir() if path.suffix == ".tmp"] == [".new.tmp"]


def test_a_full_disk_is_said_once_and_stops_nothing(tmp_path, monkeypatch):
    calls = []

    def full(path):
        calls.append(path)
        raise OSError(errno.ENOSPC, "No space left on device")

    store = make_store(tmp_path)
    store.write(key(1), KILOBYTE)
    monkeypatch.setattr(predictions, "atomic_file", full)
    store.write(key(2), KILOBYTE)
    store.write(key(3), KILOBYTE)
    assert len(calls) == 1
    assert "not stored any more" in store.warning
    assert "No space left on device" in store.warning
    assert store.read(key(1)) is not None


# Entries of 4 kB and 40 keys in a store of 100 kB: each process removes what the others wrote.
WRITER = """
import sys
import numpy as np
from pathlib import Path
from evaluation.predictions.store import PredictionStore

folder, first, rounds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
store = PredictionStore(folder, 100_000)
hits = 0
for number in range(first, first + rounds):
    key = {"image": number % 40}
    store.write(key, {"values": np.full(4000, number % 40, np.uint8)})
    for other in (number, number + 7):
        found = store.read({"image": other % 40})
        assert found is None or (found["values"] == other % 40).all(), f"{other % 40}: {found}"
        hits += found is not None
assert store.warning is None, store.warning
assert hits > 0
print("done", flush=True)
"""


def start_writer(folder, first, rounds):
    command = [sys.executable, "-c", WRITER, str(folder), str(first), str(rounds)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.timeout(120)
def test_several_processes_share_a_folder(tmp_path):
    """Three write, read and remove; a fourth is killed at it. Nobody ever reads half an entry."""
    folder = tmp_path / "store"
    victim = start_writer(folder, 30, 10**9)
    writers = [start_writer(folder, first, 80) for first in (0, 10, 20)]
    deadline = time.monotonic() + 100
    while not any(entries(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.01)
    first, *others = writers
    result = first.communicate()
    assert victim.poll() is None, victim.stderr.read()
    victim.kill()
    victim.communicate()
    results = [result, *(writer.communicate() for writer in others)]
    assert [result for result in results if result != ("done\n", "")] == []
    # Removal begins at the limit; each of three may have written a little since it looked.
    assert sum(path.stat().st_size for path in entries(tmp_path)) < 120_000
    survivor = PredictionStore(folder, 100_000)
    survivor.write({"image": "after"}, KILOBYTE)
    np.testing.assert_array_equal(survivor.read({"image": "after"})["values"], KILOBYTE["values"])
