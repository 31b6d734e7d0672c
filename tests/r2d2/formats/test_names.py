"""Names that others have chosen stay below the folder they are put into, or are refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from r2d2.formats.names import is_name, path_below
from r2d2.storage.cache import CacheSettings
from r2d2.storage.location import local_file, local_folder, local_path, open_files
from r2d2.storage.manifest import manifest_entries

REFUSED = [
    *("", "/", "/etc/x", "//etc/x", "a//b", "a/", ".", "..", "../x", "a/../../x", "a/./b", "C:/x", "c:x"),
    *(
        "a\\b",
        "..\\x",
        "a\nb",
        "a\x00b",
        "a\x1b[2J",
        "a\x7f",
        "a\x85b",
        "a\u2028b",
        "gpj\u202efdp.exe",
        "a\u2066b",
    ),
    *("a" * 256, "é" * 128),
]
GOOD = [
    "a",
    "a.jpg",
    "a b/c+d/é.txt",
    "...",
    "a..b",
    "x/..y",
    ".hidden",
    "👩‍🔬.png",
    "a" * 255,
    "a/b:c",
    "10:00/a",
]


@pytest.mark.parametrize("name", REFUSED)
def test_what_leads_out_or_names_no_file_is_refused(name, tmp_path):
    assert not is_name(name)
    with pytest.raises(ValueError, match="the list holds the path"):
        path_below(tmp_path, name, "the list")


@pytest.mark.parametrize("name", GOOD)
def test_names_of_files_are_taken(name, tmp_path):
    assert path_below(tmp_path, name, "the list") == tmp_path / name


def test_whatever_the_name_its_path_lies_below_the_folder(tmp_path):
    """20,000 random names of the letters that lead astray: each is refused, or lies below as it reads."""
    rng = np.random.default_rng(0)
    letters, taken = np.array(list("ab./\\:~\n\u202e\x00 ")), 0
    weights = np.array([4, 4, 4, 3, 0.2, 0.2, 0.5, 0.1, 0.1, 0.1, 0.5])
    for _ in range(20_000):
        name = "".join(rng.choice(letters, rng.integers(0, 12), p=weights / weights.sum()))
        if not is_name(name):
            continue
        taken += 1
        path = path_below(tmp_path, name, "here")
        assert path.is_relative_to(tmp_path)
        assert Path(*path.parts) == tmp_path.joinpath(*name.split("/"))
        assert tmp_path in Path(str(path)).parents
        assert path.resolve().is_relative_to(tmp_path.resolve())
    assert 1000 < taken < 19_000


def test_manifests_refuse_them():
    for name in REFUSED:
        entry = {"path": name, "size": 1, "sha256": "0" * 64}
        with pytest.raises(ValueError, match="is damaged"):
            manifest_entries(json.dumps({"format": 1, "files": [entry]}).encode(), "here")


def test_a_listing_of_s3_writes_nothing_outside_of_its_folder(odd_s3, tmp_path, caplog):
    outside = tmp_path / "outside"
    keys = ["model/config.json", f"model/{outside}", "model/../../up", "model/a//b", "model/a\\b", "model/.x"]
    for key in keys:
        odd_s3._keep(f"bucket/{key}", b"content", {})
    cache = CacheSettings(str(tmp_path / "cache"), 10**9, timeout=1)
    folder = local_folder("s3://bucket/model", cache)
    assert [p.relative_to(folder).as_posix() for p in folder.rglob("*")] == ["config.json"]
    assert open_files("s3://bucket/model").names == ("config.json",)
    assert not outside.exists()
    assert {p.name for p in tmp_path.iterdir()} == {"cache"}
    assert "s3://bucket/model: 4 objects are passed over, whose keys name no files" in caplog.text


def test_the_name_of_a_place_itself_is_none_of_them(odd_s3, tmp_path):
    odd_s3._keep("bucket/x/../a", b"content", {})
    odd_s3._keep("bucket/x/..", b"content", {})
    cache = CacheSettings(str(tmp_path / "cache"), 10**9, timeout=1)
    for place in (local_folder, local_path, local_file):
        with pytest.raises(ValueError, match="leads out of it or names no file"):
            place("s3://bucket/x/..", cache)
    assert not (tmp_path / "cache" / "folders" / "a").exists()
