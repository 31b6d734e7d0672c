"""Files on S3, on a real server: listed, read, fetched once, the same in every process."""

import hashlib
import json
import multiprocessing
import os
import pickle
import time

import numpy as np
import pytest
from faulty_proxy import Fault
from odd_s3 import no_checksum

from r2d2.storage import s3_files
from r2d2.storage.cache import CacheSettings
from r2d2.storage.errors import FileError, PlaceError
from r2d2.storage.files import FolderFiles, StoredFile
from r2d2.storage.location import COPIES, local_file, local_folder, local_path, open_files, open_store
from r2d2.storage.transfer import RANGE


@pytest.fixture
def cache(tmp_path):
    return CacheSettings(str(tmp_path / "cache"), 10**9, timeout=5)


def write_manifest(s3, prefix, contents):
    files = [
        {"path": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in sorted(contents.items())
    ]
    s3.put(f"{prefix}/manifest.json", json.dumps({"format": 1, "source": "test", "files": files}).encode())


def store_file(path, place):
    above, _, name = place.rpartition("/")
    open_store(above).put_file(name, path)


def read(files, name):
    with files.open(name) as file:
        return file.read()


def random_bytes(count, seed=0):
    return np.random.default_rng(seed).bytes(count)


def test_a_folder_and_its_copy_on_s3_are_the_same(s3, tmp_path, cache):
    contents = {"a.jpg": b"one", "b/c d+é.txt": b"two", "b/empty": b"", ".hidden": b"x", "b/.git/x": b"x"}
    for name, content in contents.items():
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(content)
    s3.put_folder(tmp_path / "photos", "set/photos")
    s3.put("set/photos/marker/", b"")
    s3.put("set/photos-of-others/a.jpg", b"no")
    here, there = open_files(str(tmp_path / "photos")), open_files(s3.place("set/photos/"), cache)
    assert isinstance(here, FolderFiles)
    assert there.names == here.names == ("a.jpg", "b/c d+é.txt", "b/empty")
    for name in here.names:
        assert there.size(name) == here.size(name)
        assert read(there, name) == read(here, name)
    assert str(StoredFile(there, "a.jpg")) == s3.place("set/photos/a.jpg")
    with there.open("b/c d+é.txt") as file:
        assert (file.read(1), file.seek(2), file.read()) == (b"t", 2, b"o")
    with pytest.raises(FileError, match=r"set/photos/nothing: it is not there"):
        there.open("nothing")


def test_more_objects_than_a_page_of_a_listing(s3, monkeypatch):
    for number in range(7):
        s3.put(f"many/{number}", b"x")
    pages = []

    def small_pages(**request):
        pages.append(request)
        return list_objects(**request, MaxKeys=3)

    files = open_files(s3.place("many"))
    client = files._server.client
    list_objects = client.list_objects_v2
    monkeypatch.setattr(client, "list_objects_v2", small_pages)
    assert [o.name for o in files._server.list(s3.bucket, "many/")] == [f"many/{n}" for n in range(7)]
    assert len(pages) == 3


def test_a_whole_bucket_is_a_place(s3):
    s3.put("a/b", b"content")
    assert read(open_files(s3.place()), "a/b") == b"content"


def test_a_manifest_needs_no_listing(proxy, s3, cache):
    contents = {"a.jpg": b"one", "b.jpg": b"two"}
    for name, content in {**contents, "not-in-it.jpg": b"x"}.items():
        s3.put(f"set/{name}", content)
    write_manifest(s3, "set", contents)
    files = open_files(s3.place("set"), cache)
    assert files.names == ("a.jpg", "b.jpg")
    assert [read(files, name) for name in files.names] == [b"one", b"two"]
    assert len(proxy.requests) == 4


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"format": 2}', b'{"format": 1, "files": []}'])
def test_a_damaged_manifest_is_refused(s3, content):
    s3.put("set/manifest.json", content)
    with pytest.raises(ValueError, match=r"set/manifest.json is (damaged|no manifest)"):
        open_files(s3.place("set"))


def test_a_manifest_cannot_name_files_elsewhere(s3):
    entry = {"path": "../../etc/passwd", "size": 1, "sha256": "0" * 64}
    s3.put("set/manifest.json", json.dumps({"format": 1, "files": [entry]}).encode())
    with pytest.raises(ValueError, match="is no path, size and sha256"):
        open_files(s3.place("set"))


def test_nothing_at_a_place(s3):
    with pytest.raises(ValueError, match=f"there is nothing at s3://{s3.bucket}/none/ on http"):
        open_files(s3.place("none"))
    with pytest.raises(ValueError, match="names no bucket"):
        open_files("s3://")


def test_a_second_reading_asks_nobody(proxy, s3, cache):
    s3.put("set/a", b"content")
    for _ in range(2):
        files = open_files(s3.place("set"), cache)
        assert [read(files, "a") for _ in range(3)] == [b"content"] * 3
    assert proxy.gets("set/a") == 1


def test_without_a_cache_every_reading_asks(proxy, s3):
    s3.put("set/a", b"content")
    files = open_files(s3.place("set"))
    assert [read(files, "a") for _ in range(3)] == [b"content"] * 3
    assert proxy.gets("set/a") == 3


@pytest.mark.parametrize("size", [2 * RANGE - 1, 2 * RANGE, 3 * RANGE + 17])
@pytest.mark.parametrize("cached", [True, False])
def test_large_objects_come_in_ranges(proxy, s3, cache, size, cached):
    content = random_bytes(size)
    s3.put("set/large", content)
    files = open_files(s3.place("set"), cache if cached else None)
    assert read(files, "large") == content
    ranges = [r for method, path, r in proxy.requests if path.endswith("large") and method == "GET"]
    expected = 1 if size < 2 * RANGE else -(-size // RANGE)
    assert len(ranges) == expected
    if expected > 1:
        assert f"bytes={size - (size % RANGE or RANGE)}-{size - 1}" in ranges


def read_in_process(files, name, results):
    results.put((os.getpid(), hashlib.sha256(read(files, name)).hexdigest()))


@pytest.mark.parametrize("size", [100_000, 2 * RANGE + 5])
def test_eight_processes_fetch_an_object_once(proxy, s3, cache, size):
    content = random_bytes(size)
    s3.put("set/wanted", content)
    files = open_files(s3.place("set"), cache)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    workers = [context.Process(target=read_in_process, args=(files, "wanted", results)) for _ in range(8)]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(10)
    assert {digest for _, digest in found} == {hashlib.sha256(content).hexdigest()}
    assert len({pid for pid, _ in found}) == 8
    assert proxy.gets("set/wanted") == (1 if size < RANGE else 3)


def test_pickled_files_connect_anew(s3, cache):
    s3.put("set/a", b"content")
    files = open_files(s3.place("set"), cache)
    assert read(files, "a") == b"content"
    copy = pickle.loads(pickle.dumps(files))
    assert copy._server._connected is None
    assert (copy.place, copy.names, read(copy, "a")) == (files.place, files.names, b"content")
    # What the cache has needs no connection at all.
    assert copy._server._connected is None


def test_a_million_names_take_little_more_than_themselves(s3):
    files = open_files_of(s3, 10_000)
    assert len(pickle.dumps(files)) < 10_000 * 90


def open_files_of(s3, count):
    from r2d2.storage.s3 import S3Server
    from r2d2.storage.s3_files import S3Files

    entries = ((f"{n:020}.jpg", n, hashlib.md5(bytes([n % 256])).hexdigest()) for n in range(count))
    return S3Files(s3.place("set"), entries, hashed=False, server=S3Server(), cache=None)


def test_prefetching_fetches_ahead_and_no_further(proxy, s3, cache, monkeypatch):
    monkeypatch.setattr(s3_files, "MOST_FILES", 6)
    names = [f"{number:02}" for number in range(20)]
    for name in names:
        s3.put(f"set/{name}", name.encode())
    files = open_files(s3.place("set"), cache)
    asked = len(proxy.requests)
    files.prefetch(names)
    time.sleep(0.7)
    assert len(proxy.requests) - asked == 6
    assert [read(files, name) for name in names] == [name.encode() for name in names]
    assert len(proxy.requests) - asked == 20


def test_what_is_prefetched_and_not_opened_stops_nothing(s3, monkeypatch):
    monkeypatch.setattr(s3_files, "MOST_FILES", 4)
    names = [f"{number:02}" for number in range(40)]
    for name in names:
        s3.put(f"set/{name}", name.encode())
    files = open_files(s3.place("set"))
    for start in range(0, 40, 10):
        files.prefetch(names[start : start + 10])
    assert [read(files, name) for name in names[::-3]] == [name.encode() for name in names[::-3]]


def test_prefetched_errors_are_raised_where_the_file_is_opened(s3, cache):
    for name in ("a", "b"):
        s3.put(f"set/{name}", b"content")
    files = open_files(s3.place("set"), cache)
    s3.client.delete_object(Bucket=s3.bucket, Key="set/a")
    files.prefetch(["a", "b"])
    with pytest.raises(FileError, match="set/a: it is not there"):
        files.open("a")
    assert read(files, "b") == b"content"


def test_a_place_as_a_folder_of_this_disk(proxy, s3, cache):
    for name in ("i_one/1.ppm", "i_one/H_1_2", "top"):
        s3.put(f"sets/bench/{name}", name.encode())
    folder = local_folder(s3.place("sets/bench/"), cache)
    assert folder.name == "bench"
    assert {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()} == {
        name: name for name in ("i_one/1.ppm", "i_one/H_1_2", "top")
    }
    before = [proxy.gets(name) for name in ("1.ppm", "H_1_2", "top")]
    assert (local_folder(s3.place("sets/bench"), cache), before) == (folder, [1, 1, 1])
    assert proxy.gets("top") == 1
    s3.put("sets/bench/top", b"changed")
    assert (local_folder(s3.place("sets/bench"), cache) / "top").read_bytes() == b"changed"
    assert (folder / "top").read_bytes() == b"top"


def test_a_file_of_this_disk(s3, cache, tmp_path):
    s3.put("models/net.pt", b"weights")
    for find in (local_file, local_path):
        path = find(s3.place("models/net.pt"), cache)
        assert (path.name, path.read_bytes()) == ("net.pt", b"weights")
    assert (local_path(s3.place("models"), cache) / "net.pt").read_bytes() == b"weights"
    assert local_file(str(tmp_path)) == local_folder(str(tmp_path)) == local_path(str(tmp_path)) == tmp_path
    with pytest.raises(ValueError, match=f"there is no s3://{s3.bucket}/models/other.pt on http"):
        local_file(s3.place("models/other.pt"), cache)
    # Without a cache there is a temporary one.
    assert local_file(s3.place("models/net.pt")).read_bytes() == b"weights"


def test_folders_of_processes_that_are_dead_are_removed(s3, tmp_path):
    cache = CacheSettings(str(tmp_path / "cache"), 40_000, timeout=5)
    for number in range(4):
        s3.put(f"set-{number}/content", bytes([number]) * 4000)
    used = local_folder(s3.place("set-0"), cache)
    for number in range(1, 4):
        process = multiprocessing.get_context("fork").Process(
            target=local_folder, args=(s3.place(f"set-{number}"), cache)
        )
        process.start()
        process.join(60)
        assert process.exitcode == 0
    assert (used / "content").read_bytes() == bytes(4000)
    assert {path.name for path in (tmp_path / "cache" / COPIES).glob("*/*/*")} == {"set-0", "set-3"}


def test_another_process_makes_its_folder_without_asking_the_server_again(proxy, s3, cache):
    s3.put("sets/bench/1.ppm", b"image")
    folder = local_folder(s3.place("sets/bench"), cache)
    process = multiprocessing.get_context("fork").Process(
        target=local_folder, args=(s3.place("sets/bench"), cache)
    )
    process.start()
    process.join(60)
    assert (process.exitcode, proxy.gets("1.ppm")) == (0, 1)
    assert (folder / "1.ppm").stat().st_nlink == 3


@pytest.mark.parametrize("size", [0, 10, 16 * 2**20 + 1, 40 * 2**20])
def test_what_is_stored_is_there(s3, tmp_path, cache, size):
    content = random_bytes(size)
    (tmp_path / "file").write_bytes(content)
    store_file(tmp_path / "file", s3.place("stored/file"))
    files = open_files(s3.place("stored"), cache)
    assert files.size("file") == size
    assert read(files, "file") == content
    assert s3.client.list_multipart_uploads(Bucket=s3.bucket).get("Uploads", []) == []


def test_storing_in_a_bucket_that_is_not_there(s3, tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    with pytest.raises(PlaceError, match="there is no such bucket"):
        store_file(tmp_path / "file", "s3://no-such-bucket-here/file")


def test_an_upload_that_fails_leaves_no_parts(s3, proxy, tmp_path):
    (tmp_path / "file").write_bytes(bytes(40 * 2**20))
    proxy.faults = [Fault("stored/file", method="PUT", after=1, status=403, code="AccessDenied")]
    with pytest.raises(PlaceError, match="access is denied"):
        store_file(tmp_path / "file", s3.place("stored/file"))
    assert s3.client.list_multipart_uploads(Bucket=s3.bucket).get("Uploads", []) == []
    assert s3.client.list_objects_v2(Bucket=s3.bucket)["KeyCount"] == 0


def test_a_large_upload_that_was_cut_is_sent_again(s3, proxy, tmp_path, cache):
    content = random_bytes(20 * 2**20)
    (tmp_path / "file").write_bytes(content)
    proxy.faults = [Fault("stored/file", times=2, method="PUT", cut_upload=100_000)]
    store_file(tmp_path / "file", s3.place("stored/file"))
    assert read(open_files(s3.place("stored"), cache), "file") == content
    assert proxy.faults[0].times == 0


def test_a_large_upload_that_arrived_as_something_else_is_told(s3, proxy, tmp_path):
    (tmp_path / "file").write_bytes(random_bytes(20 * 2**20))
    proxy.faults = [Fault("stored/file", times=9, flip=True)]
    with pytest.raises(FileError, match="stored/file: it is corrupt: its SHA-256"):
        store_file(tmp_path / "file", s3.place("stored/file"))


def test_a_server_whose_etag_of_parts_is_no_checksum_keeps_what_is_stored(odd_s3, tmp_path, cache):
    content = random_bytes(16 * 2**20 + 1)
    (tmp_path / "file").write_bytes(content)
    odd_s3.etag = no_checksum
    for name, stored in (("large", content), ("small", b"content")):
        (tmp_path / "file").write_bytes(stored)
        store_file(tmp_path / "file", f"s3://bucket/stored/{name}")
    files = open_files("s3://bucket/stored", cache)
    assert read(files, "large") == content
    assert read(files, "small") == b"content"


def test_of_an_object_of_parts_that_came_to_something_else_the_upload_is_told(odd_s3, tmp_path):
    (tmp_path / "file").write_bytes(bytes(16 * 2**20 + 1))
    # Another writer was faster: its size is the same, its content is not.
    odd_s3.metadata_of_parts = {"x-amz-meta-sha256": "0" * 64}
    with pytest.raises(FileError, match="something else than what was sent"):
        store_file(tmp_path / "file", "s3://bucket/stored/file")
