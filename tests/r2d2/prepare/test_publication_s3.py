"""Sources prepared to S3, resumed, checked, read back."""

import pytest

from r2d2.prepare.catalogue import find_source
from r2d2.prepare.job import Job
from r2d2.prepare.preparation import list_sizes, prepare, read_manifest
from r2d2.storage.location import open_files
from r2d2.storage.manifest import verify
from r2d2.storage.s3 import S3Server
from r2d2.storage.s3_store import S3Store


@pytest.fixture
def folder(tmp_path, make_picture):
    for n in range(50):
        path = tmp_path / "photos" / f"{n % 3}" / f"{n:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make_picture(n, "PNG"))
    return tmp_path / "photos"


@pytest.fixture
def make_job(tmp_path):
    def make(place, *origins):
        return Job(find_source("photos"), place, tmp_path / "work", tuple(map(str, origins)))

    return make


def check(place):
    return verify(read_manifest(place), open_files(place), list_sizes(place))


@pytest.fixture
def sent(monkeypatch):
    """Keys of the objects that were stored, in their order."""
    keys, ask = [], S3Server.ask

    def listen(self, where, method, request, *more):
        if method == "put_object":
            keys.append(request["Key"])
        return ask(self, where, method, request, *more)

    monkeypatch.setattr(S3Server, "ask", listen)
    return keys


@pytest.mark.parametrize("prefix", ["", "set/photos"])
def test_a_folder_becomes_a_place_on_s3(s3, folder, make_job, tmp_path, sent, prefix):
    place = s3.place(prefix)
    prepared = prepare(make_job(place, folder))
    assert len(prepared.manifest.files) == 50
    assert read_manifest(place) == prepared.manifest
    assert sent[-1].endswith("manifest.json"), "the manifest comes when everything is there"
    assert not (tmp_path / "work").exists()
    assert (check(place).whole, check(place).faults) == (50, 0)
    files = open_files(place)
    assert files.names == tuple(file.path for file in prepared.manifest.files)
    assert files.open("1/040.png").read() == (folder / "1/040.png").read_bytes()
    assert prepare(make_job(place, folder)).manifest == prepared.manifest


def test_an_upload_that_was_interrupted_goes_on(s3, folder, make_job, sent, monkeypatch):
    place = s3.place("set")
    upload = S3Store.put_file

    def break_down(store, name, path):
        if len(sent) >= 20:
            raise OSError(5, "the network is gone", name)
        upload(store, name, path)

    monkeypatch.setattr(S3Store, "put_file", break_down)
    with pytest.raises(OSError, match="the network is gone"):
        prepare(make_job(place, folder))
    assert read_manifest(place) is None
    monkeypatch.setattr(S3Store, "put_file", upload)
    s3.put("set/0/000.png", (folder / "0/000.png").read_bytes()[:-1] + b"?")
    first = set(sent)
    sent.clear()
    prepare(make_job(place, folder))
    assert first & set(sent) == {"set/0/000.png"}, "what was there is sent again only where it differs"
    assert check(place).faults == 0


def test_what_differs_on_s3_is_named(s3, folder, make_job):
    place = s3.place("set")
    prepare(make_job(place, folder))
    content = (folder / "0/000.png").read_bytes()
    s3.put("set/0/000.png", content[:-1] + b"?")
    s3.put("set/1/001.png", content + b"more")
    s3.client.delete_object(Bucket=s3.bucket, Key="set/2/002.png")
    s3.put("set/extra.png", content)
    found = check(place)
    missing, size, unreadable, extra = found.lines()
    assert (missing, extra) == ("1 missing: 2/002.png", "1 not in the manifest: extra.png")
    assert size.startswith("1 of another size: 1/001.png (")
    assert unreadable.startswith("1 unreadable: 0/000.png (it is corrupt: its SHA-256")
    assert found.whole == 47


def test_a_place_on_s3_is_an_origin(s3, folder, make_job, packed, tmp_path):
    prepare(make_job(s3.place("set"), folder))
    copy = prepare(make_job(s3.place("copy"), s3.place("set")))
    back = prepare(make_job(str(tmp_path / "back"), s3.place("copy")))
    assert back.manifest == copy.manifest
    assert (tmp_path / "back/2/047.png").read_bytes() == (folder / "2/047.png").read_bytes()
    s3.put("archives/x.zip", packed.zip({"a.png": (folder / "0/000.png").read_bytes()}))
    unzipped = prepare(make_job(str(tmp_path / "zip"), s3.place("archives/x.zip")))
    assert [file.path for file in unzipped.manifest.files] == ["a.png"]


def test_a_bucket_that_is_not_there_is_said_before_the_work(s3, folder, make_job, tmp_path):
    with pytest.raises(OSError, match="no-such-bucket"):
        prepare(make_job("s3://no-such-bucket/x", folder))
    assert not (tmp_path / "work" / "files").exists()
