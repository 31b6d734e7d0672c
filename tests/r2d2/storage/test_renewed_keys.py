"""Keys of S3 are renewed while a program runs: whoever is refused reads them again, once, and goes on."""

import threading
import time

import pytest

from r2d2.storage.cache import CacheSettings
from r2d2.storage.errors import PlaceError, StorageError
from r2d2.storage.location import open_files, open_store

OLD, NEW = {"old": "token 1"}, {"new": "token 2"}
CODES = ["ExpiredToken", "InvalidAccessKeyId", "AccessDenied", "InvalidToken", "SignatureDoesNotMatch"]


@pytest.fixture
def write_keys(tmp_path, monkeypatch):
    """Writes the file in which AWS's programs look for keys with a session token."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))

    def write(keys):
        ((key, token),) = keys.items()
        lines = ["[default]", f"aws_access_key_id = {key}", "aws_secret_access_key = secret"]
        file.write_text("\n".join([*lines, f"aws_session_token = {token}", ""]))

    return write


@pytest.fixture
def store(odd_s3, write_keys):
    """A store that has been used with keys which are good no more."""
    odd_s3.keys = OLD
    write_keys(OLD)
    store = open_store("s3://bucket/home", timeout=1)
    store.write("a", b"1")
    odd_s3.keys = NEW
    return store


@pytest.mark.parametrize("code", CODES)
def test_a_refused_key_is_read_again_and_the_new_one_is_used_from_then_on(odd_s3, store, write_keys, code):
    odd_s3.refusal = code
    write_keys(NEW)
    assert store.read("a") == b"1"
    del odd_s3.requests[:]
    assert store.read("a") == b"1"
    assert len(odd_s3.requests) == 1


ACTIONS = {
    "create": lambda store, _: store.create("b", b"2"),
    "store": lambda store, file: store.put_file("d", file) is None,
    "list": lambda store, _: len(store.read_all(store.files())) == 1,
    "delete": lambda store, _: store.delete("a") is None,
}


@pytest.mark.parametrize("name", ACTIONS)
def test_every_kind_of_request_goes_on(store, write_keys, tmp_path, name):
    (tmp_path / "file").write_bytes(b"stored")
    write_keys(NEW)
    assert ACTIONS[name](store, tmp_path / "file")


def test_files_that_were_opened_before_go_on(odd_s3, write_keys, tmp_path):
    odd_s3.keys = OLD
    write_keys(OLD)
    (tmp_path / "file").write_bytes(b"content")
    open_store("s3://bucket/set").put_file("object", tmp_path / "file")
    files = open_files("s3://bucket/set", CacheSettings(str(tmp_path / "cache"), 0, timeout=1))
    odd_s3.keys = NEW
    write_keys(NEW)
    with files.open("object") as file:
        assert file.read() == b"content"


def test_a_key_that_was_good_is_waited_for_while_it_is_renewed(odd_s3, store, write_keys, tmp_path):
    patient = open_store("s3://bucket/home", timeout=20)
    odd_s3.keys = OLD
    assert patient.read("a") == b"1"
    odd_s3.keys = NEW
    # A file that is half written holds no key.
    (tmp_path / "credentials").write_text("[default]\naws_access_key")
    threading.Timer(0.7, write_keys, (NEW,)).start()
    assert patient.read("a") == b"1"


def test_a_key_that_was_never_good_is_refused_at_once_and_asked_with_once(odd_s3, write_keys):
    odd_s3.keys = NEW
    write_keys(OLD)
    started = time.monotonic()
    with pytest.raises(StorageError, match=r"ExpiredToken\), in the server's words: as the test wants it;"):
        open_store("s3://bucket/home", timeout=60).read("a")
    assert time.monotonic() - started < 20
    assert len(odd_s3.requests) == 1


def test_without_a_new_key_the_reason_is_said_after_the_timeout(store):
    with pytest.raises(PlaceError, match="the session token has expired"):
        store.read("a")


def test_a_server_without_conditional_writes_is_refused_at_once(odd_s3):
    odd_s3.conditional = False
    store = open_store("s3://bucket/home", timeout=60)
    started = time.monotonic()
    with pytest.raises(PlaceError, match=r"has no conditional writes \(it refuses If-None-Match\)"):
        store.create("attempts/000001.json", b"{}")
    assert time.monotonic() - started < 20
    assert len(odd_s3.requests) == 1
