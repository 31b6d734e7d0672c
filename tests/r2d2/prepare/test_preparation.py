"""From an address, an archive or a folder to a place; killed anywhere and taken up again."""

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from r2d2.prepare.catalogue import SOURCES, find_source
from r2d2.prepare.http_file import Limits, RemoteFile
from r2d2.prepare.job import Job
from r2d2.prepare.preparation import prepare, read_manifest
from r2d2.storage.location import open_files
from r2d2.storage.manifest import verify

QUICK = Limits(connect=1.0, read=0.5, timeout=3.0)


@pytest.fixture
def make_job(tmp_path):
    def make(source, *origins, place=None, **options):
        place = Path(place or tmp_path / "place")
        return Job(
            find_source(source),
            str(place),
            place / ".prepare",
            tuple(map(str, origins)),
            limits=QUICK,
            **options,
        )

    return make


@pytest.fixture
def unpacked(tmp_path, originals):
    """Makes a folder of an original; returns its path."""

    def make(name, folder="original"):
        for path, content in originals[name].items():
            target = tmp_path / folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        return tmp_path / folder

    return make


def tree(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def whole(place):
    manifest = read_manifest(str(place))
    return verify(manifest, open_files(str(place))).faults == 0


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("source", sorted(SOURCES))
def test_every_source_comes_from_an_address(web, packed, originals, becomes, make_job, source, kind):
    web.files["all"] = getattr(packed, kind)(originals[source])
    web.script = ["cut", 503, 503]
    job = make_job(source, web.url("all"))
    prepared = prepare(job)
    count, one = becomes[source]
    found = tree(job.place)
    assert len(found) == count + 1, "and the manifest; no download, no lock"
    assert found[one] in originals[source].values()
    assert len(prepared.manifest.files) == count
    assert prepared.manifest == read_manifest(str(job.place))
    assert prepared.refused == {}
    assert whole(job.place)
    images = [f for f in prepared.manifest.files if not Path(f.path).name.startswith("H_1_")]
    assert {(f.width, f.height) for f in images} == {(64, 48)}


@pytest.mark.parametrize("source", sorted(SOURCES))
def test_every_source_comes_from_a_folder(unpacked, becomes, make_job, source):
    job = make_job(source, unpacked(source))
    prepare(job)
    assert len(tree(job.place)) == becomes[source][0] + 1
    assert whole(job.place)


def test_the_known_addresses_are_used_where_no_other_is_named(web, packed, originals, make_job):
    half = len(originals["web"]) // 2
    files = list(originals["web"].items())
    web.files["1.tar.gz"], web.files["2.tar.gz"] = (
        packed.tar(dict(files[:half])),
        packed.tar(dict(files[half:])),
    )
    job = make_job("web")
    known = [RemoteFile(web.url(f"{n}.tar.gz")) for n in (1, 2)]
    prepare(
        Job(**{**vars(job), "source": type(job.source)(**{**vars(job.source), "addresses": tuple(known)})})
    )
    assert len(read_manifest(str(job.place)).files) == 9


def test_a_dead_address_says_what_to_do_instead(web, make_job):
    job = make_job("style")
    dead = RemoteFile(web.url("gone.zip"))
    job = Job(**{**vars(job), "source": type(job.source)(**{**vars(job.source), "addresses": (dead,)})})
    with pytest.raises(OSError, match=r"404.*naver/r2d2 for the present address.*--from FILE"):
        prepare(job)


def test_without_an_address_or_an_origin_nothing_is_made(make_job, tmp_path):
    with pytest.raises(ValueError, match="no address is known for 'photos': Name a folder"):
        prepare(make_job("photos"))
    with pytest.raises(ValueError, match="there is no file or folder '/nowhere'"):
        prepare(make_job("web", "/nowhere"))
    assert not (tmp_path / "place").exists()


def test_a_folder_may_lie_within_the_layout(unpacked, make_job):
    folder = unpacked("aachen") / "images_upright" / "db"
    prepared = prepare(make_job("aachen", folder))
    assert prepared.manifest.files[0].path == "images_upright/db/1000.jpg"


def test_aachens_sources_share_a_place(unpacked, make_job, becomes):
    alone = prepare(make_job("style", unpacked("style", "style")))
    assert alone.notes == ("style need the photographs of 'aachen'; prepare them into the same place",)
    for source in ("aachen", "flow"):
        prepared = prepare(make_job(source, unpacked(source, source)))
    assert prepared.manifest.source == "aachen+flow+style"
    assert len(prepared.manifest.files) == sum(becomes[s][0] for s in ("aachen", "style", "flow"))
    assert prepared.notes == ()
    with pytest.raises(ValueError, match=r"holds 'aachen[+]flow[+]style'; choose another place for 'web'"):
        prepare(make_job("web", unpacked("web", "web")))


def test_aachens_sources_come_together(unpacked, make_job):
    for source in ("aachen", "style", "flow"):
        folder = unpacked(source, "all")
    together = prepare(make_job("aachen+style+flow", folder))
    assert together.manifest.source == "aachen+flow+style"
    assert len(together.manifest.files) == 22
    with pytest.raises(ValueError, match="'web' has a place of its own"):
        find_source("web+flow")
    with pytest.raises(ValueError, match="unknown source 'wbe'; known: aachen, flow"):
        find_source("wbe")


@pytest.mark.parametrize(
    ("source", "lost", "sentence"),
    [
        ("flow", "optical_flow/mask/1000_1001.png", "1 flows have no mask: 1000_1001.png"),
        ("flow", "optical_flow/flow/1000_1001.png", "1 masks have no flow: 1000_1001.png"),
        ("hpatches", "hpatches-sequences-release/i_one/3.ppm", "1 sequences are not complete: i_one lacks 3"),
        ("hpatches", "hpatches-sequences-release/i_one/H_1_6", "i_one lacks H_1_6"),
    ],
)
def test_a_layout_that_lacks_something_is_refused(unpacked, make_job, source, lost, sentence):
    folder = unpacked(source)
    (folder / lost).unlink()
    job = make_job(source, folder)
    with pytest.raises(ValueError, match=sentence):
        prepare(job)
    assert read_manifest(str(job.place)) is None


def test_flows_need_their_photographs(unpacked, make_job):
    for source in ("aachen", "flow"):
        folder = unpacked(source, "all")
    (folder / "images_upright/db/1003.jpg").unlink()
    with pytest.raises(ValueError, match=r"2 flows lack a photograph: 1002_1003.png, 1003_1004.png"):
        prepare(make_job("aachen+flow", folder))


def test_an_archive_of_something_else_is_refused(web, packed, originals, make_job):
    web.files["x.zip"] = packed.zip(originals["photos"])
    with pytest.raises(ValueError, match="holds nothing of 'flow'"):
        prepare(make_job("flow", web.url("x.zip")))


def test_a_file_that_is_no_archive_is_asked_for_again_the_next_time(web, packed, originals, make_job):
    web.files["x.zip"] = b"not what you think" * 1000
    job = make_job("photos", web.url("x.zip"))
    with pytest.raises(ValueError, match="is no zip or tar archive"):
        prepare(job)
    web.files["x.zip"] = packed.zip(originals["photos"])
    assert len(prepare(job).manifest.files) == 5


def test_a_download_that_nobody_vouches_for_is_kept_and_its_sum_is_asked_for(
    web, packed, originals, make_job
):
    web.files["x.zip"] = packed.zip(originals["photos"])
    found = hashlib.sha256(web.files["x.zip"]).hexdigest()
    with pytest.raises(ValueError, match=rf"its SHA-256 is {found}, and nobody has said.*--sha256 {found}"):
        prepare(make_job("photos", web.url("x.zip"), sha256=frozenset()))
    with pytest.raises(ValueError, match="it is none of those given"):
        prepare(make_job("photos", web.url("x.zip"), sha256=frozenset({"0" * 64, "1" * 64})))
    prepared = prepare(make_job("photos", web.url("x.zip"), sha256=frozenset({found, "1" * 64})))
    assert len(prepared.manifest.files) == 5
    assert len(web.asked) == 1


def test_a_download_with_another_sum_than_the_one_given_is_not_kept(web, packed, originals, make_job):
    web.files["x.zip"] = packed.zip(originals["photos"])
    with pytest.raises(OSError, match=r"not the file that was expected: its SHA-256"):
        prepare(make_job("photos", web.url("x.zip"), sha256=frozenset({"0" * 64})))


def test_the_same_file_from_two_origins_is_refused(unpacked, make_job):
    with pytest.raises(ValueError, match=r"both hold holiday/0\.png"):
        prepare(make_job("photos", unpacked("photos", "a"), unpacked("photos", "b")))


def test_a_few_corrupt_images_are_left_out_and_named(tmp_path, make_picture, make_job):
    folder = tmp_path / "photos"
    folder.mkdir()
    for n in range(100):
        (folder / f"{n:03d}.png").write_bytes(make_picture(n, "PNG"))
    broken = bytearray(make_picture(7, "PNG"))
    broken[len(broken) // 2] ^= 255
    (folder / "007.png").write_bytes(broken)
    (folder / "008.png").write_bytes(b"<html>")
    (folder / "009.png").write_bytes(make_picture(9, "PNG", (64, 16)))
    prepared = prepare(make_job("photos", folder))
    assert {name: reason[:12] for name, reason in prepared.refused.items()} == {
        "007.png": "cannot be re",
        "008.png": "not an image",
        "009.png": "64x16 pixels",
    }
    assert len(prepared.manifest.files) == 97
    assert prepared.manifest.left_out == ("007.png", "008.png", "009.png")
    assert not (tmp_path / "place/008.png").exists()
    assert (folder / "008.png").exists(), "what was copied from is left alone"
    assert whole(tmp_path / "place")
    with pytest.raises(
        ValueError, match=r"3 of 100 images .* more than the 2% .*007.png: cannot be read \(broken PNG"
    ):
        prepare(make_job("photos", folder, place=tmp_path / "other", max_refused=0.02))


def test_a_corrupt_flow_is_left_out_with_its_mask(unpacked, make_job):
    folder = unpacked("flow")
    (folder / "optical_flow/flow/1002_1003.png").write_bytes(b"x")
    prepared = prepare(make_job("flow", folder, max_refused=0.2))
    assert sorted(prepared.refused) == ["optical_flow/flow/1002_1003.png", "optical_flow/mask/1002_1003.png"]
    assert len(prepared.manifest.files) == 8
    assert whole(prepare(make_job("flow", folder, max_refused=0.2)) and Path(make_job("flow").place))


def test_a_folder_is_prepared_where_it_lies(unpacked, make_job, tmp_path):
    folder = unpacked("photos")
    (folder / "holiday/bad.png").write_bytes(b"x")
    before = tree(folder)
    prepared = prepare(make_job("photos", folder, place=folder, max_refused=0.5))
    assert {**before, "manifest.json": (folder / "manifest.json").read_bytes()} == tree(folder)
    assert len(prepared.manifest.files) == 5
    assert whole(folder)
    (folder / "holiday/bad.png").unlink()
    (folder / "holiday/0.png").unlink()
    assert len(prepare(make_job("photos", folder, place=folder)).manifest.files) == 4
    nested = unpacked("hpatches", "nested")
    with pytest.raises(ValueError, match="to another folder"):
        prepare(make_job("hpatches", nested, place=nested))


def test_a_prepared_place_is_not_prepared_again(web, packed, originals, make_job):
    web.files["x.zip"] = packed.zip(originals["photos"])
    job = make_job("photos", web.url("x.zip"))
    first = prepare(job)
    second = prepare(job)
    assert second.was_there
    assert second.manifest == first.manifest
    assert len(web.asked) == 1
    (Path(job.place) / "holiday/3.png").unlink()
    assert not prepare(job).was_there
    assert whole(job.place)


def test_what_a_folder_holds_beside_the_source_is_counted_and_said(unpacked, make_job, tmp_path):
    folder = unpacked("photos")
    (folder / "notes.heic").write_bytes(b"x")
    (folder / "away").symlink_to(tmp_path / "nowhere")
    said = prepare(make_job("photos", folder)).notes
    assert said == (
        f"{folder}: passed over, no part of 'photos': 1 .heic",
        f"the link {folder / 'away'} leads nowhere",
    )


def test_an_inspection_may_add_notes_and_refuse(unpacked, make_job):
    def look(folder, manifest):
        assert (folder / manifest.files[0].path).is_file()
        return ["fine"]

    assert prepare(make_job("photos", unpacked("photos"), inspect=look)).notes == ("fine",)


def test_two_processes_do_not_prepare_one_place(unpacked, make_job):
    job = make_job("photos", unpacked("photos"), inspect=lambda *_: prepare(inner) and [])
    inner = make_job("photos", unpacked("photos"))
    with pytest.raises(ValueError, match="is being prepared by another process"):
        prepare(job)


def test_a_file_in_the_place_of_the_folder_is_refused(unpacked, make_job, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file is no folder"):
        prepare(make_job("photos", unpacked("photos"), place=tmp_path / "file"))


# ---- killed with -9, and taken up again

RUN = """
import sys, time
from pathlib import Path
from r2d2.prepare.catalogue import find_source
from r2d2.prepare.job import Job
from r2d2.prepare.preparation import prepare

def slow(step, amount, total):
    if step.startswith(sys.argv[3]) and amount: time.sleep(0.02)

origin, place = sys.argv[1], Path(sys.argv[2])
prepare(Job(find_source("photos"), str(place), place / ".prepare", (origin,), progress=slow))
"""


def start(origin, place, slow):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(RUN), str(origin), str(place), slow],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def kill_when(process, condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


@pytest.fixture
def many(make_picture):
    return {f"{n:03d}.png": make_picture(n, "PNG") for n in range(120)}


def test_killed_in_mid_download_it_goes_on_from_there(web, packed, many, tmp_path, make_job):
    web.files["x.zip"] = packed.zip(many)
    web.slowly = 0.01
    place = tmp_path / "place"
    downloads = place / ".prepare" / "downloads"
    parts = lambda: list(downloads.glob("*.part"))  # noqa: E731
    kill_when(
        start(web.url("x.zip"), place, "nothing"),
        lambda: parts() and parts()[0].stat().st_size > 300_000,
    )
    have = parts()[0].stat().st_size
    web.slowly = 0
    prepare(make_job("photos", web.url("x.zip"), place=place))
    assert web.asked == [None, f"bytes={have}-"]
    assert {**many, "manifest.json": (place / "manifest.json").read_bytes()} == tree(place)
    assert whole(place)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_killed_while_unpacking_it_goes_on_from_there(packed, many, tmp_path, make_job, kind):
    archive = tmp_path / "archive"
    archive.write_bytes(getattr(packed, kind)(many))
    place = tmp_path / "place"
    kill_when(start(archive, place, "unpack"), lambda: len(list(place.glob("*.png"))) > 20)
    assert read_manifest(str(place)) is None
    kept = {path.name: path.stat().st_ino for path in place.glob("*.png")}
    assert 20 < len(kept) < len(many)
    prepare(make_job("photos", archive, place=place))
    assert {**many, "manifest.json": (place / "manifest.json").read_bytes()} == tree(place)
    assert {name: (place / name).stat().st_ino for name in kept} == kept, (
        "what was there was not written again"
    )
