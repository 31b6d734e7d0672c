"""What goes wrong between here and S3: each fault passes, or is one sentence, and nothing hangs."""

import datetime
import errno
import hashlib
import json
import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from botocore import auth
from faulty_proxy import Fault, until

from r2d2.storage import cache as cache_module
from r2d2.storage import errors, transfer
from r2d2.storage import s3 as s3_module
from r2d2.storage.cache import CacheSettings
from r2d2.storage.errors import FileError, PlaceError
from r2d2.storage.location import local_folder, open_files, open_store
from r2d2.storage.transfer import RANGE

LARGE = 3 * RANGE


@pytest.fixture
def cache(tmp_path):
    return CacheSettings(str(tmp_path / "cache"), 10**9, timeout=4)


@pytest.fixture(autouse=True)
def nothing_given_up():
    cache_module._given_up.clear()
    yield
    cache_module._given_up.clear()


@pytest.fixture
def short_waits(monkeypatch):
    """Waits for the network end after half a second."""
    for module in (s3_module, transfer):
        monkeypatch.setattr(module, "READ", 0.5)


def content_of(size, seed=0):
    return np.random.default_rng(seed).bytes(size)


def read(files, name="object"):
    with files.open(name) as file:
        return file.read()


def kept(cache):
    return sorted(p for p in Path(cache.folder, "objects").glob("??/*.object"))


@pytest.mark.parametrize("size", [100_000, LARGE])
def test_a_connection_cut_in_the_middle_goes_on_where_it_was_cut(proxy, s3, cache, size):
    content = content_of(size)
    s3.put("set/object", content)
    files = open_files(s3.place("set"), cache)
    proxy.faults = [Fault("object", times=3, cut=70_000)]
    assert read(files) == content
    ranges = [r for method, path, r in proxy.requests if method == "GET" and path.endswith("object")]
    assert any(r and r.startswith("bytes=70000-") for r in ranges)


def test_a_network_that_is_away_for_a_while(proxy, s3, cache):
    s3.put("set/object", b"content")
    files = open_files(s3.place("set"), cache)
    proxy.down = True
    threading.Timer(1.0, setattr, (proxy, "down", False)).start()
    assert read(files) == b"content"


def test_a_network_that_stays_away_is_an_error_in_time(proxy, s3, tmp_path):
    s3.put("set/object", b"content")
    files = open_files(s3.place("set"), CacheSettings(str(tmp_path / "cache"), 10**9, timeout=1))
    proxy.down = True
    began = time.monotonic()
    with pytest.raises(PlaceError, match="set/object: the server does not answer") as caught:
        read(files)
    assert time.monotonic() - began < 30
    assert f"asked {proxy.endpoint} for the bucket '{s3.bucket}'" in str(caught.value)


def test_no_server_at_the_address(s3, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    monkeypatch.setattr(s3_module, "FIRST_TIMEOUT", 0.5)
    with pytest.raises(PlaceError, match=f"the server does not answer .*; asked {address} for"):
        open_files(s3.place("set"))


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (429, "Throttling")])
def test_a_busy_server_is_asked_again(proxy, s3, cache, status, code):
    s3.put("set/object", b"content")
    files = open_files(s3.place("set"), cache)
    proxy.faults = [Fault("object", times=3, status=status, code=code)]
    assert read(files) == b"content"
    assert proxy.gets("object") == 4


@pytest.mark.parametrize("fault", [{"hang": 60}, {"trickle": 0.2}])
def test_a_server_that_hangs_or_trickles_is_asked_again(proxy, s3, cache, short_waits, monkeypatch, fault):
    content = content_of(10_000)
    s3.put("set/object", content)
    files = open_files(s3.place("set"), cache)
    proxy.faults = [Fault("object", times=1, **fault)]
    began = time.monotonic()
    assert read(files) == content
    assert time.monotonic() - began < 30
    assert proxy.gets("object") == 2


def test_a_server_that_always_hangs_is_an_error_in_time(proxy, s3, cache, short_waits):
    s3.put("set/object", b"content")
    files = open_files(s3.place("set"), cache)
    proxy.faults = [Fault("object", times=99, hang=60)]
    began = time.monotonic()
    with pytest.raises(PlaceError, match="does not answer"):
        read(files)
    assert time.monotonic() - began < cache.timeout + 30


REFUSALS = [
    ("InvalidAccessKeyId", "it does not know the access key"),
    ("SignatureDoesNotMatch", "the secret key does not fit the access key"),
    ("ExpiredToken", "the session token has expired"),
    ("AccessDenied", "access is denied"),
    ("RequestTimeTooSkewed", "this machine's clock and the server's differ too much"),
]


@pytest.mark.parametrize(("code", "sentence"), REFUSALS)
def test_a_refusal_is_said_at_once_with_what_was_tried(proxy, s3, code, sentence):
    proxy.faults = [Fault(s3.bucket, times=99, status=403, code=code)]
    began = time.monotonic()
    with pytest.raises(PlaceError) as caught:
        open_files(s3.place("set"))
    assert time.monotonic() - began < 30
    tried = f"asked {proxy.endpoint} for the bucket '{s3.bucket}' with credentials of the environment"
    assert str(caught.value).startswith(s3.place("set/"))
    assert f"{sentence} ({code})" in str(caught.value)
    assert tried in str(caught.value)
    assert "devsecret" not in str(caught.value)
    assert len(proxy.requests) == 1


@pytest.mark.parametrize(
    ("name", "code"),
    [("AWS_ACCESS_KEY_ID", "InvalidAccessKeyId"), ("AWS_SECRET_ACCESS_KEY", "SignatureDoesNotMatch")],
)
def test_wrong_credentials_at_a_real_server(s3, monkeypatch, name, code):
    if s3.kind == "moto":
        pytest.skip("moto's server takes any credentials")
    monkeypatch.setenv(name, "wrong")
    with pytest.raises(PlaceError, match=f"{code}.*credentials of the environment"):
        open_files(s3.place("set"))


def test_a_clock_that_is_wrong_at_a_real_server(s3, monkeypatch):
    if s3.kind == "moto":
        pytest.skip("moto's server looks at no clock")
    now = auth.get_current_datetime

    def late(*arguments, **options):
        return now(*arguments, **options) + datetime.timedelta(hours=2)

    monkeypatch.setattr(auth, "get_current_datetime", late)
    with pytest.raises(PlaceError, match=r"clock and the server's differ too much \(RequestTimeTooSkewed\)"):
        open_files(s3.place("set"))


def test_no_credentials(s3, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(PlaceError, match=r"there are no credentials: set .* with no credentials"):
        open_files(s3.place("set"))


def test_credentials_of_a_profile(s3, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    file = tmp_path / "credentials"
    file.write_text("[lab]\naws_access_key_id = dev\naws_secret_access_key = devsecret\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    s3.put("set/object", b"content")
    assert read(open_files(s3.place("set"))) == b"content"
    assert errors.credentials_in_words() == "credentials of the profile 'lab' (shared-credentials-file)"
    monkeypatch.setenv("AWS_PROFILE", "other")
    with pytest.raises(PlaceError, match=r"there is no profile 'other' \(AWS_PROFILE\)"):
        open_files(s3.place("set"))


def test_an_endpoint_without_http(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost:9000")
    with pytest.raises(
        PlaceError, match=r"address is 'localhost:9000' \(AWS_ENDPOINT_URL\); write it as http"
    ):
        open_files("s3://bucket/set")


def test_a_bucket_that_cannot_be_one(s3):
    with pytest.raises(PlaceError, match=r"[Ii]nvalid"):
        open_files("s3://Not A Bucket!/set")


def test_a_bucket_that_is_not_there(s3):
    with pytest.raises(PlaceError, match=r"s3://no-such-bucket-here/set/.*: there is no such bucket"):
        open_files("s3://no-such-bucket-here/set")


def test_a_bucket_that_disappears(s3, cache):
    for name in "ab":
        s3.put(f"set/{name}", b"content")
    files = open_files(s3.place("set"), cache)
    assert read(files, "a") == b"content"
    s3.client.delete_objects(Bucket=s3.bucket, Delete={"Objects": [{"Key": f"set/{n}"} for n in "ab"]})
    s3.client.delete_bucket(Bucket=s3.bucket)
    with pytest.raises(PlaceError, match=r"set/b: there is no such bucket \(any more\)"):
        read(files, "b")
    # What is here stays here.
    assert read(files, "a") == b"content"


@pytest.mark.parametrize("size", [1000, LARGE])
def test_an_object_that_was_replaced_is_noticed_and_found_when_opened_anew(s3, cache, size):
    s3.put("set/object", content_of(size, 1))
    files = open_files(s3.place("set"), cache)
    s3.put("set/object", content_of(size, 2))
    with pytest.raises(FileError, match="set/object: it was changed while in use") as caught:
        read(files)
    assert caught.value.errno == errno.ESTALE
    assert read(open_files(s3.place("set"), cache)) == content_of(size, 2)


def test_a_kept_object_that_was_replaced_stays_what_it_was(s3, cache):
    s3.put("set/object", b"first")
    files = open_files(s3.place("set"), cache)
    assert read(files) == b"first"
    s3.put("set/object", b"second")
    assert read(files) == b"first"
    assert read(open_files(s3.place("set"), cache)) == b"second"


@pytest.mark.parametrize("size", [LARGE, LARGE - 5])
def test_an_object_replaced_in_the_middle_of_its_download(proxy, s3, cache, size):
    s3.put("set/object", content_of(LARGE, 1))
    files = open_files(s3.place("set"), cache)
    replace = Fault("object", after=1, act=lambda: s3.put("set/object", content_of(size, 2)))
    proxy.faults = [replace]
    with pytest.raises(FileError, match="it was changed while in use"):
        read(files)
    assert kept(cache) == []


@pytest.mark.parametrize("size", [1000, LARGE])
def test_a_corrupt_object_is_fetched_again_once_and_then_named(proxy, s3, cache, size):
    content = content_of(size)
    open_store(s3.place("set")).write("object", content)
    files = open_files(s3.place("set"), cache)
    proxy.faults = [Fault("object", times=1, flip=True)]
    assert read(files) == content
    kept(cache)[0].unlink()
    proxy.faults = [
        Fault("object", times=1, flip=True),
        Fault("object", after=max(0, size // RANGE - 1), flip=True),
    ]
    with pytest.raises(
        FileError, match=r"set/object: it is corrupt: its SHA-256 is .* and so it was when fetched"
    ):
        read(files)
    assert kept(cache) == []


def test_the_md5_of_an_etag_is_compared(proxy, s3, cache):
    s3.put("set/object", b"content")
    files = open_files(s3.place("set"), cache)
    proxy.faults = [Fault("object", times=2, flip=True)]
    with pytest.raises(FileError, match="it is corrupt: its MD5 is"):
        read(files)


def test_a_file_that_is_not_that_of_the_manifest(s3, cache):
    entry = {"path": "object", "size": 7, "sha256": hashlib.sha256(b"content").hexdigest()}
    s3.put("set/manifest.json", json.dumps({"format": 1, "files": [entry]}).encode())
    s3.put("set/object", b"changed")
    files = open_files(s3.place("set"), cache)
    with pytest.raises(FileError, match="it is corrupt: its SHA-256 is"):
        read(files)
    s3.put("set/object", b"of another length")
    with pytest.raises(FileError, match="it is corrupt: 17 bytes came instead of 7"):
        read(files)


@pytest.mark.parametrize("size", [1000, LARGE])
def test_a_full_disk_is_said_once_and_stops_nothing(s3, cache, caplog, size):
    contents = {name: content_of(size, seed) for seed, name in enumerate("abc")}
    for name, content in contents.items():
        s3.put(f"set/{name}", content)
    files = open_files(s3.place("set"), cache)
    assert read(files, "a") == contents["a"]
    _, opened, _ = files._run()
    path = opened._path(files._server, files._wanted("b"))
    path.parent.mkdir(exist_ok=True)
    path.with_name(f".{path.stem}.part").symlink_to("/dev/full")
    with caplog.at_level(logging.WARNING):
        assert [read(files, name) for name in "abc"] == [contents[name] for name in "abc"]
    assert [r.getMessage() for r in caplog.records] == [
        f"{cache.folder}: objects are not kept any more: No space left on device"
    ]
    assert len(kept(cache)) == 1
    assert list(Path(cache.folder).rglob("*.part")) == []


def test_a_cache_that_cannot_be_written(s3, tmp_path, caplog):
    (tmp_path / "file").write_bytes(b"")
    cache = CacheSettings(str(tmp_path / "file" / "cache"), 10**9)
    s3.put("set/object", b"content")
    files = open_files(s3.place("set"), cache)
    assert [read(files), read(files)] == [b"content"] * 2
    assert len(caplog.records) == 1
    assert "objects are not kept any more: Not a directory" in caplog.text
    assert (local_folder(s3.place("set"), cache) / "object").read_bytes() == b"content"


def test_the_cache_keeps_to_its_limit(s3, tmp_path):
    cache = CacheSettings(str(tmp_path / "cache"), 40_000)
    for number in range(12):
        s3.put(f"set/{number:02}", bytes([number]) * 5000)
    files = open_files(s3.place("set"), cache)
    for name in files.names:
        assert len(read(files, name)) == 5000
    assert 0 < sum(p.stat().st_size for p in kept(cache)) <= 30_000
    # The last ones are there.
    s3.client.delete_object(Bucket=s3.bucket, Key="set/11")
    assert len(read(files, "11")) == 5000


def test_an_object_larger_than_the_cache(s3, tmp_path):
    content = content_of(LARGE)
    s3.put("set/object", content)
    cache = CacheSettings(str(tmp_path / "cache"), 1000)
    assert read(open_files(s3.place("set"), cache)) == content
    assert kept(cache) == []


def test_a_kept_object_that_was_cut_is_fetched_again(s3, cache):
    s3.put("set/object", b"content")
    files = open_files(s3.place("set"), cache)
    read(files)
    kept(cache)[0].chmod(0o644)
    kept(cache)[0].write_bytes(b"con")
    assert read(files) == b"content"
    assert kept(cache)[0].read_bytes() == b"content"


@pytest.mark.parametrize("settings", [{"max_bytes": -1}, {"max_bytes": 1, "timeout": -1}])
def test_settings_out_of_range(settings):
    with pytest.raises(ValueError, match="must be at least 0"):
        CacheSettings("folder", **settings)


def fetch_for_ever(files):
    files.open("object")


def test_killed_in_the_middle_of_a_download(proxy, s3, cache):
    content = content_of(LARGE)
    s3.put("set/object", content)
    files = open_files(s3.place("set"), cache)
    proxy.faults = [Fault("object", times=2, after=1, hang=60)]
    process = multiprocessing.get_context("fork").Process(target=fetch_for_ever, args=(files,))
    process.start()
    parts = Path(cache.folder)
    until(lambda: proxy.gets("object") >= 3 and list(parts.rglob("*.part")))
    os.kill(process.pid, signal.SIGKILL)
    process.join(10)
    assert kept(cache) == []
    proxy.faults = []
    # Its lock ended with it, and what it left is written over.
    assert read(files) == content
    assert len(kept(cache)) == 1
    assert list(parts.rglob("*.part")) == []


def test_what_a_killed_process_left_is_removed(s3, cache):
    s3.put("set/object", b"content")
    left = Path(cache.folder, "objects", "ab", ".abc.part")
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    then = time.time() - 2 * cache_module.ABANDONED
    os.utime(left, (then, then))
    read(open_files(s3.place("set"), cache))
    assert not left.exists()


def test_a_process_that_stands_still_holds_up_nobody(s3, cache, caplog):
    from filelock import FileLock

    s3.put("set/object", b"content")
    quick = CacheSettings(cache.folder, cache.max_bytes, timeout=0.3)
    files = open_files(s3.place("set"), quick)
    _, opened, _ = files._run()
    path = opened._path(files._server, files._wanted("object"))
    lock = Path(cache.folder, "locks", path.name[:3])
    lock.parent.mkdir(parents=True)
    with FileLock(lock):
        assert read(files) == b"content"
    assert "another process has held it" in caplog.text
