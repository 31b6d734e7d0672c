"""Manifests: written, read, refused, compared with what is there."""

import json

import pytest

from r2d2.storage.files import FolderFiles
from r2d2.storage.location import open_store
from r2d2.storage.manifest import Manifest, ManifestFile, verify

NAMES = ("a/1.jpg", "a/2.jpg", "b.txt")


@pytest.fixture
def place(tmp_path):
    for name in NAMES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode() * 100)
    return tmp_path


@pytest.fixture
def manifest(place):
    sides = [(64, 48) if name.endswith("jpg") else (0, 0) for name in NAMES]
    return Manifest("web", tuple(map(ManifestFile.of, [place] * len(NAMES), NAMES, sides)), ("bad.jpg",))


def test_a_manifest_is_read_as_it_was_written(place, manifest):
    assert Manifest.read(open_store(place)) is None
    manifest.write(open_store(place))
    read = Manifest.read(open_store(place))
    assert read == manifest
    assert read.digest == manifest.digest
    whole = json.loads((place / "manifest.json").read_text())
    assert (whole["format"], whole["source"], whole["count"], whole["bytes"]) == (1, "web", 3, 1900)
    assert whole["files"][0].keys() == {"path", "size", "sha256", "width", "height"}
    assert whole["files"][2].keys() == {"path", "size", "sha256"}


def test_the_digest_is_of_names_and_contents(manifest):
    same = Manifest("other", tuple(reversed(manifest.files)))
    assert same.digest == manifest.digest
    first = manifest.files[0]
    renamed = ManifestFile("a/0.jpg", first.size, first.sha256)
    assert Manifest("web", (renamed, *manifest.files[1:])).digest != manifest.digest
    changed = ManifestFile(first.path, first.size, "0" * 64)
    assert Manifest("web", (changed, *manifest.files[1:])).digest != manifest.digest


def test_manifests_join(manifest):
    other = Manifest(
        "aachen", (ManifestFile("b.txt", 1, "1" * 64), ManifestFile("c", 2, "2" * 64)), ("a/1.jpg",)
    )
    both = manifest.joined(other)
    assert both.source == "aachen+web"
    assert [file.path for file in both.files] == [*NAMES, "c"]
    assert both.files[2].size == manifest.files[2].size
    assert both.left_out == ("bad.jpg",)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda m: m.update(format=2), "is no manifest of format 1"),
        (lambda m: m.pop("files"), "'files' is no list"),
        (lambda m: m.update(source=3), "'source' names none"),
        (lambda m: m.update(left_out="x"), "'left_out' is no list"),
        (lambda m: m["files"][0].update(size=-1), "is no path, size and sha256"),
        (lambda m: m["files"][0].update(size=2**63), "is no path, size and sha256"),
        (lambda m: m["files"][0].update(path="../x"), "is no path, size and sha256"),
        (lambda m: m["files"][0].update(width="wide"), "a width or height is no number"),
        (lambda m: m["files"].append(m["files"][0]), "'a/1.jpg' stands twice"),
    ],
)
def test_a_damaged_manifest_is_refused_in_a_sentence(place, manifest, change, sentence):
    whole = json.loads(manifest.to_bytes())
    change(whole)
    (place / "manifest.json").write_text(json.dumps(whole))
    with pytest.raises(ValueError, match=sentence) as refused:
        Manifest.read(open_store(place))
    assert str(place / "manifest.json") in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"[" * 100_000])
def test_what_is_no_json_is_refused(place, content):
    (place / "manifest.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"manifest\.json"):
        Manifest.read(open_store(place))


def test_a_whole_copy_has_no_findings(place, manifest):
    manifest.write(open_store(place))
    read = []
    found = verify(manifest, FolderFiles.of(place), on_file=read.append)
    assert (found.whole, found.faults, found.lines()) == (3, 0, [])
    assert sum(read) == manifest.total_bytes


def test_every_kind_of_difference_is_found_and_named(place, manifest):
    (place / "a/1.jpg").write_bytes(b"short")
    (place / "a/2.jpg").write_bytes(b"X" * 700)
    (place / "b.txt").unlink()
    (place / "more.jpg").touch()
    (place / "bad.jpg").touch()
    (place / ".hidden").touch()
    found = verify(manifest, FolderFiles.of(place))
    assert (found.whole, found.faults) == (0, 4)
    assert found.lines() == [
        "1 missing: b.txt",
        "1 of another size: a/1.jpg (5 bytes, should be 700)",
        "1 of another content: a/2.jpg",
        "1 not in the manifest: more.jpg",
    ]


def test_an_unreadable_file_is_a_finding_and_no_end(place, manifest):
    class Broken(FolderFiles):
        def open(self, name):
            if name == "a/2.jpg":
                raise OSError(5, "Input/output error", name)
            return super().open(name)

    listed = FolderFiles.of(place)
    found = verify(manifest, Broken(listed.place, listed.names))
    assert found.lines() == ["1 unreadable: a/2.jpg (Input/output error)"]
    assert found.whole == 2


def test_many_names_are_counted_and_the_first_ones_shown(place):
    files = tuple(ManifestFile(f"{n:03d}", 1, "0" * 64) for n in range(100))
    lines = verify(Manifest("web", files), FolderFiles.of(place)).lines(first=2)
    assert lines[0] == "100 missing: 000, 001 and 98 more"
