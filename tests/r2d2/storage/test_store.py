"""A store keeps small files, in a folder and on S3 alike; each whole or not at all, created once."""

import pickle
import threading
import time

import pytest
from faulty_proxy import Fault

from r2d2.storage.errors import StorageError
from r2d2.storage.location import open_store
from r2d2.storage.s3 import S3Server
from r2d2.storage.transfer import Wanted, fetch_bytes


@pytest.fixture(params=["folder", "s3"])
def store(request, tmp_path):
    place = tmp_path / "home" if request.param == "folder" else request.getfixturevalue("s3").place("home")
    return open_store(place, timeout=20)


def names(files):
    return [file.name for file in files]


def test_what_was_written_is_read_and_the_last_one_counts(store):
    assert store.read("a/one.json") is None
    store.write("a/one.json", b"1")
    store.write("a/one.json", b"22")
    assert store.read("a/one.json") == b"22"
    assert store.below("a").read("one.json") == b"22"
    assert pickle.loads(pickle.dumps(store)).read("a/one.json") == b"22"


def test_files_folders_and_all_below(store):
    for name in ("top", "a/one", "a/two", "a/inner/three", "b/four", ".hidden/five", "a/.six"):
        store.write(name, name.encode())
    assert names(store.files()) == ["top"]
    assert names(store.files("a")) == ["a/one", "a/two"]
    assert store.folders() == ["a", "b"]
    assert store.folders("a") == ["inner"]
    assert sorted(names(store.walk("a"))) == ["a/inner/three", "a/one", "a/two"]
    assert store.files("nothing") == store.folders("nothing") == list(store.walk("nothing")) == []
    found = store.files("a")[0]
    assert (found.size, abs(found.modified - time.time()) < 60) == (5, True)
    assert store.read_all(store.files("a")) == [b"a/one", b"a/two"]
    assert store.find_all(["a/two", "a/none"]) == [store.files("a")[1], None]


def test_a_mark_changes_with_the_content(store):
    store.write("a", b"1")
    before = store.files()
    assert store.files() == before
    store.write("a", b"2")
    assert store.files()[0].mark != before[0].mark
    assert store.read_all(store.files()) == [b"2"]
    # What was found earlier is read as it is now.
    assert store.read_all(before) == [b"2"]
    store.delete("a")
    assert store.read_all(before) in ([None], [b"2"])


def test_removing(store):
    for name in ("a/one", "a/.hidden", "a/inner/two", "ab/three"):
        store.write(name, b"x")
    store.delete("a/one")
    store.delete("a/one")
    assert store.read("a/one") is None
    store.delete_below("a")
    store.delete_below("a")
    assert store.read("a/.hidden") is None
    assert names(store.walk()) == ["ab/three"]


@pytest.mark.parametrize("below", ["trials/photos", "trials", "trials/photos/inner"])
def test_nothing_behind_a_link_is_deleted(tmp_path, below):
    mine = tmp_path / "mine" / "photos" / "inner"
    mine.mkdir(parents=True)
    (mine / "a.jpg").write_bytes(b"x")
    store = open_store(tmp_path / "home")
    store.write("sweep.json", b"{}")
    (tmp_path / "home" / "trials").symlink_to(tmp_path / "mine")
    with pytest.raises(ValueError, match="is a link, or lies behind one; nothing of it is deleted"):
        store.delete_below(below)
    assert (mine / "a.jpg").is_file()
    assert names(store.walk()) == ["sweep.json"]


def test_a_file_of_any_size_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "started.json").open("wb") as file:
        file.truncate(2**28 + 1)
    with pytest.raises(StorageError, match=r"started.json: it has 268435457 bytes; it may have at most"):
        open_store(tmp_path).read("started.json")


def test_so_is_an_object_of_s3(odd_s3, monkeypatch):
    store = open_store("s3://bucket/home", timeout=1)
    store.write("started.json", b"1234")
    monkeypatch.setattr("r2d2.storage.s3_store.LARGEST", 3)
    for read in (lambda: store.read("started.json"), lambda: store.read_all(store.files())):
        with pytest.raises(StorageError, match=r"started.json: it has 4 bytes; it may have at most 3"):
            read()


def test_no_memory_is_taken_for_what_a_server_only_says(odd_s3):
    wanted = Wanted("bucket", "manifest.json", 10**13)
    with pytest.raises(StorageError, match="it has 10000000000000 bytes; it may have at most"):
        fetch_bytes(S3Server(1), wanted)
    assert not odd_s3.requests


def test_of_many_that_create_one_file_one_is_first(store):
    told = {}

    def create(number):
        told[number] = store.create("lease/001", b"of %d" % number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (first,) = [number for number, won in told.items() if won]
    assert store.read("lease/001") == b"of %d" % first
    assert names(store.files("lease")) == ["lease/001"]


def test_a_large_file_is_stored(store, tmp_path):
    content = bytes(range(256)) * 70_000
    (tmp_path / "large").write_bytes(content)
    store.put_file("c/large", tmp_path / "large")
    assert store.read("c/large") == content


def test_looking_again_costs_one_request_and_none_for_what_is_known(s3, proxy):
    store = open_store(s3.place("home"), timeout=20)
    for epoch in range(5):
        store.write(f"history/{epoch}", b"event")
    assert store.read_all(store.files("history")) == [b"event"] * 5
    del proxy.requests[:]
    for _ in range(3):
        assert store.below("history").read_all(store.below("history").files()) == [b"event"] * 5
    assert [method for method, _, _ in proxy.requests] == ["GET"] * 3
    assert all(path.endswith(s3.bucket) for _, path, _ in proxy.requests)


def test_a_server_that_is_busy_is_asked_again(s3, proxy):
    store = open_store(s3.place("home"), timeout=20)
    proxy.faults = [Fault("", times=5, status=503, code="SlowDown", method="")]
    store.write("a", b"1")
    assert store.create("b", b"2")
    assert store.read_all(store.files()) == [b"1", b"2"]
    assert proxy.faults[0].times == 0


def test_an_upload_that_was_cut_is_sent_again(s3, proxy, tmp_path):
    store = open_store(s3.place("home"), timeout=20)
    (tmp_path / "weights").write_bytes(b"w" * 300_000)
    proxy.faults = [Fault("weights", times=2, method="PUT", cut_upload=100_000)]
    store.put_file("weights", tmp_path / "weights")
    assert store.read("weights") == b"w" * 300_000
    assert proxy.faults[0].times == 0


def test_whoever_did_not_hear_that_it_was_first_is_told_so(s3, proxy):
    store = open_store(s3.place("home"), timeout=20)
    proxy.faults = [Fault("lease", method="PUT", lose_answer=True)]
    assert store.create("lease", b"mine")
    assert not store.create("lease", b"mine")


def test_a_server_that_stays_away_is_named_after_the_timeout(s3, proxy):
    store = open_store(s3.place("home"), timeout=1)
    proxy.down = True
    started = time.monotonic()
    for action in (lambda: store.read("a"), lambda: store.write("a", b""), lambda: store.create("a", b"")):
        with pytest.raises(StorageError, match="does not answer"):
            action()
    assert time.monotonic() - started < 45
