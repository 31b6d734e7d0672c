"""Shards: plain tar, read by any tool; their files read as if they lay there themselves."""

import io
import json
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import threading
import time

import numpy as np
import pytest

from r2d2.storage.files import FolderFiles
from r2d2.storage.manifest import Manifest, ManifestFile, sha256_of
from r2d2.storage.shard_index import ShardIndex
from r2d2.storage.shard_writer import plan_shards, write_shards
from r2d2.storage.shards import ShardFiles, is_sharded, sequential_order, through_shards

MIB = 2**20


def contents(count=60, seed=0):
    rng = np.random.default_rng(seed)
    made = {f"{n % 7:03d}/{n}.jpg": rng.bytes(int(rng.integers(0, 150_000))) for n in range(count)}
    # Names that need more than the oldest header of tar, an empty file, and one larger than a shard.
    made |= {
        "ü/" + "long" * 60 + "/" + "name" * 30 + ".jpg": b"long",
        "empty": b"",
        "large": rng.bytes(2 * MIB + 3),
    }
    return made


@pytest.fixture(scope="module")
def files():
    return contents()


@pytest.fixture(scope="module")
def plain(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return FolderFiles.of(folder)


@pytest.fixture(scope="module")
def manifest(files):
    entries = (ManifestFile(n, len(c), sha256_of(io.BytesIO(c)), 64, 48) for n, c in files.items())
    return Manifest("web", tuple(entries), ("bad.jpg",))


@pytest.fixture(scope="module")
def sharded(plain, manifest, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    write_shards(plain, manifest, folder, shard_bytes=MIB)
    return folder


def test_tarfile_reads_what_was_written(sharded, files):
    found = {}
    for path in sorted(sharded.glob("shard-*.tar")):
        with tarfile.open(path) as archive:
            for member in archive:
                found[member.name] = archive.extractfile(member).read()
    assert found == files


@pytest.mark.skipif(shutil.which("tar") is None, reason="there is no tar here")
def test_tar_reads_what_was_written(sharded, files, tmp_path):
    for path in sharded.glob("shard-*.tar"):
        subprocess.run(["tar", "-xf", path, "-C", tmp_path], check=True)
    assert {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()} == set(files)


def test_shards_are_as_large_as_they_should_be(sharded, manifest):
    sizes = [path.stat().st_size for path in sorted(sharded.glob("shard-*.tar"))]
    assert len(sizes) > 4
    assert sum(size > MIB for size in sizes) == 1, "only the large file's own"
    assert [shard.size for shard in plan_shards(manifest, MIB)] == sizes


def test_the_same_files_give_the_same_shards(sharded, plain, manifest, tmp_path):
    write_shards(plain, manifest, tmp_path, shard_bytes=MIB)
    assert [p.name for p in sorted(tmp_path.iterdir())] == [p.name for p in sorted(sharded.iterdir())]
    assert all((tmp_path / p.name).read_bytes() == p.read_bytes() for p in sharded.iterdir())


def test_shard_files_are_the_files(sharded, files, manifest):
    assert is_sharded(FolderFiles.of(sharded))
    shards = through_shards(FolderFiles.of(sharded))
    assert shards.names == tuple(sorted(files))
    assert shards.content == manifest
    for name, content in files.items():
        assert shards.size(name) == len(content)
        with shards.open(name) as file:
            assert file.read() == content
            file.seek(1)
            assert file.read(2) == content[1:3]
    with pytest.raises(OSError, match="nothing"):
        shards.open("nothing")


def test_a_place_without_shards_is_left_as_it_is(plain):
    assert through_shards(plain) is plain
    with pytest.raises(ValueError, match=r"holds no shards\.json"):
        ShardFiles.of(plain)


class InMemory(FolderFiles):
    """Files without descriptors, as they come from a server."""

    def open(self, name):
        with super().open(name) as file:
            return io.BytesIO(file.read())


def test_shards_without_descriptors_are_read_by_many_threads(sharded, files):
    listed = FolderFiles.of(sharded)
    shards = ShardFiles.of(InMemory(listed.place, listed.names))
    wrong = []

    def read(seed):
        for name in np.random.default_rng(seed).permutation(sorted(files)):
            with shards.open(str(name)) as file:
                if file.read() != files[str(name)]:
                    wrong.append(name)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def digests(shards, seed):
    order = np.random.default_rng(seed).permutation(len(shards.names))
    return {shards.names[i]: sha256_of(shards.open(shards.names[i])) for i in order}


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_four_processes_read_at_once(sharded, manifest, method):
    shards = ShardFiles.of(FolderFiles.of(sharded))
    shards.open("empty").close()
    expected = {file.path: file.sha256 for file in manifest.files}
    context = multiprocessing.get_context(method)
    with context.Pool(4) as pool:
        found = pool.starmap(digests, [(shards, seed) for seed in range(4)])
    assert found == [expected] * 4


def test_a_fork_while_a_thread_opens_shards_does_not_hang(sharded):
    shards = ShardFiles.of(FolderFiles.of(sharded))
    with shards._lock:
        child = os.fork()
        if child == 0:
            shards.open("large").close()
            os._exit(0)
    deadline = time.monotonic() + 60
    while (done := os.waitpid(child, os.WNOHANG)) == (0, 0):
        assert time.monotonic() < deadline, "the child waits for a lock of its parent"
        time.sleep(0.02)
    assert done == (child, 0)


def test_few_shards_stay_open(sharded, files, monkeypatch):
    monkeypatch.setattr("r2d2.storage.shards.MOST_OPEN", 2)
    shards = ShardFiles.of(FolderFiles.of(sharded))
    before = len(os.listdir("/proc/self/fd"))
    for name in shards.names:
        shards.open(name).close()
    assert len(os.listdir("/proc/self/fd")) <= before + 2


def test_a_copy_holds_nothing_open(sharded, files):
    shards = ShardFiles.of(FolderFiles.of(sharded))
    shards.open("large").close()
    copy = pickle.loads(pickle.dumps(shards))
    assert copy.open("large").read() == files["large"]


def test_shards_are_fetched_in_the_order_in_which_they_are_needed(sharded):
    class Remembering(FolderFiles):
        def prefetch(self, names):
            wanted.extend(names)

    wanted: list[str] = []
    listed = FolderFiles.of(sharded)
    shards = ShardFiles.of(Remembering(listed.place, listed.names))
    shards.prefetch(["large", shards.names[0], "large", "empty"])
    expected = dict.fromkeys(
        f"shard-{shards.shard_of(n):05d}.tar" for n in ("large", shards.names[0], "empty")
    )
    assert wanted == list(expected)


def test_a_shard_that_was_cut_is_named(sharded, tmp_path, files):
    shutil.copytree(sharded, tmp_path / "cut")
    last = sorted((tmp_path / "cut").glob("shard-*.tar"))[-1]
    os.truncate(last, 600)
    shards = ShardFiles.of(FolderFiles.of(tmp_path / "cut"))
    with pytest.raises(OSError, match=f"{last.name}: it is corrupt: it ends within"):
        shards.open(shards.names[-1])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda i: i.update(format=7), "no manifest of format 1"),
        (lambda i: i.pop("shards"), "'files' is no list"),
        (lambda i: i["files"][0].update(shard=99), "lies in no shard of it"),
        (lambda i: i["files"][0].update(offset=10**12), "lies in no shard of it"),
        (lambda i: i["files"][0].pop("offset"), "lies in no shard of it"),
    ],
)
def test_a_damaged_index_is_refused(sharded, change, sentence):
    index = json.loads((sharded / "shards.json").read_bytes())
    change(index)
    with pytest.raises(ValueError, match=sentence):
        ShardIndex.parse(json.dumps(index).encode(), "here/shards.json")


def test_a_file_that_changed_meanwhile_goes_into_no_shard(plain, manifest, tmp_path):
    first = manifest.files[0]
    other = Manifest("web", (ManifestFile(first.path, first.size, "0" * 64),))
    with pytest.raises(ValueError, match="was changed while it was written"):
        write_shards(plain, other, tmp_path, shard_bytes=MIB)
    assert list(tmp_path.iterdir()) == []


def test_shards_of_an_interrupted_run_are_kept_if_they_are_whole(sharded, plain, manifest, tmp_path):
    folder = tmp_path / "resumed"
    shutil.copytree(sharded, folder)
    (folder / "shards.json").unlink()
    (folder / "manifest.json").unlink()
    whole, flipped, short = sorted(folder.glob("shard-*.tar"))[:3]
    content = bytearray(flipped.read_bytes())
    content[len(content) // 2] ^= 1
    flipped.write_bytes(content)
    os.truncate(short, 100)
    (folder / ".shard-00004.tar.0123.tmp").write_bytes(b"left behind")
    kept = whole.stat().st_ino
    write_shards(plain, manifest, folder, shard_bytes=MIB)
    assert whole.stat().st_ino == kept
    assert all((folder / p.name).read_bytes() == p.read_bytes() for p in sharded.iterdir())
    assert not list(folder.glob(".*"))


def test_shards_that_are_too_small_are_refused(manifest):
    with pytest.raises(ValueError, match="at least 1 MiB"):
        plan_shards(manifest, 1000)


def test_the_order_reads_a_few_shards_at_a_time():
    shards = np.repeat(np.arange(12), 100)
    order = sequential_order(shards, np.random.default_rng(0), window=3)
    assert sorted(order) == list(range(1200))
    turns = shards[order].reshape(4, 300)
    assert [len(set(turn)) for turn in turns] == [3, 3, 3, 3]
    assert len({shard for turn in turns for shard in set(turn)}) == 12
    # Mixed within a window: neighbours are mostly of different shards, and those of one shard in no order.
    assert 0.6 < np.mean(turns[0][1:] != turns[0][:-1]) < 0.75
    inside = order[shards[order] == shards[order][0]]
    assert not np.array_equal(inside, np.sort(inside))
    again = sequential_order(shards, np.random.default_rng(0), window=3)
    other = sequential_order(shards, np.random.default_rng(1), window=3)
    assert np.array_equal(order, again)
    assert not np.array_equal(order, other)


def test_the_order_of_one_window_is_any_order():
    # Every item is equally likely to come first.
    firsts = [sequential_order([3, 3, 9, 9], np.random.default_rng(s), window=2)[0] for s in range(2000)]
    assert np.all(np.abs(np.bincount(firsts, minlength=4) / 2000 - 0.25) < 0.05)
    with pytest.raises(ValueError, match="window is 0"):
        sequential_order([1], np.random.default_rng(0), window=0)
    assert sequential_order([], np.random.default_rng(0)).size == 0


@pytest.mark.skipif(sys.platform != "linux", reason="process time of files in memory differs elsewhere")
def test_files_come_from_shards_as_fast_as_from_a_folder(tmp_path):
    """Best of several interleaved runs; files of photographs' size, all in the page cache."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "plain"
    folder.mkdir()
    made = {f"{n:04d}.jpg": rng.bytes(150_000) for n in range(200)}
    for name, content in made.items():
        (folder / name).write_bytes(content)
    entries = (ManifestFile(n, len(c), sha256_of(io.BytesIO(c))) for n, c in made.items())
    plain = FolderFiles.of(folder)
    write_shards(plain, Manifest("web", tuple(entries)), tmp_path / "shards", shard_bytes=8 * MIB)
    shards = ShardFiles.of(FolderFiles.of(tmp_path / "shards"))
    order = [plain.names[i] for i in rng.permutation(len(plain.names))]

    def seconds(files):
        begun = time.process_time()
        for name in order:
            with files.open(name) as file:
                file.read()
        return time.process_time() - begun

    best = {"plain": np.inf, "shards": np.inf}
    for _ in range(12):
        best["plain"] = min(best["plain"], seconds(plain))
        best["shards"] = min(best["shards"], seconds(shards))
    assert best["plain"] / best["shards"] >= 0.9
