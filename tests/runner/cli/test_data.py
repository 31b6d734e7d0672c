"""`r2d2 data`: what the terminal shows, what HPatches needs, and the exit status."""

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from evaluation.benchmarks.hpatches import open_benchmark
from r2d2.prepare.catalogue import SOURCES
from runner.__main__ import main
from runner.cli.preparing import make_job
from runner.settings import Settings


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("R2D2_HOME", str(tmp_path / "home"))
    return lambda *arguments: CliRunner().invoke(main, ["data", *map(str, arguments)])


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(40):
        pixels = np.random.default_rng(number).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    return folder


@pytest.fixture
def sequences(tmp_path):
    folder = tmp_path / "sequences"
    for name, size in (("i_one", (64, 48)), ("v_two", (1700, 40)), ("v_talent", (1700, 40))):
        (folder / name).mkdir(parents=True)
        for number in range(1, 7):
            Image.new("RGB", size, (number, 0, 0)).save(folder / name / f"{number}.ppm")
            if number > 1:
                np.savetxt(folder / name / f"H_1_{number}", np.eye(3))
    return folder


@pytest.mark.parametrize("command", ["prepare", "check", "list"])
def test_every_command_has_help(data, command):
    result = data(command, "--help")
    assert result.exit_code == 0
    assert len(result.output.splitlines()) > 4


def test_the_list_tells_of_every_source(data):
    output = data("list").output
    for source in SOURCES.values():
        assert f"{source.name}  {source.what}" in output
        assert source.licence in output
        assert all(address.url in output for address in source.addresses)


def test_a_folder_is_prepared_checked_and_listed(data, photos, tmp_path):
    place = tmp_path / "place"
    result = data("prepare", "photos", "--from", photos, "--to", place)
    assert result.exit_code == 0, result.output
    assert "photos: 40 files, 40 of them images" in result.output
    assert data("list", place).output == result.output
    checked = data("check", place)
    assert checked.exit_code == 0
    assert checked.output == "looking at data ...\n40 of 40 files of 'photos' are whole\n"
    again = data("prepare", "photos", "--from", place / "manifest.json", "--to", place)
    assert "had been prepared" in again.output


def test_what_differs_is_named_with_status_1(data, photos, tmp_path):
    place = tmp_path / "place"
    data("prepare", "photos", "--from", photos, "--to", place)
    content = bytearray((place / "03.png").read_bytes())
    content[100] ^= 1
    (place / "03.png").write_bytes(content)
    (place / "04.png").unlink()
    result = data("check", place)
    assert result.exit_code == 1
    assert "1 missing: 04.png\n1 of another content: 03.png\n38 of 40 files" in result.output
    assert "are whole, 2 differences from the manifest" in result.output


def test_files_that_were_lost_are_said_to_have_come_again(data, photos, tmp_path):
    place = tmp_path / "place"
    data("prepare", "photos", "--from", photos, "--to", place)
    (place / "04.png").unlink()
    result = data("prepare", "photos", "--from", photos, "--to", place)
    assert "1 files were missing or of another size, and were brought again" in result.output
    assert data("check", place).exit_code == 0


def test_a_refused_preparation_leaves_nothing_behind(data, photos, tmp_path):
    for photo in photos.iterdir():
        photo.write_bytes(b"<html>")
    inside = photos / "place"
    for place, sentence in ((inside, "lies inside"), (tmp_path / "new", "cannot be used")):
        result = data("prepare", "photos", "--from", photos, "--to", place)
        assert result.exit_code == 2
        assert sentence in result.output
        assert not (place / ".prepare").exists()
    assert not inside.exists()


@pytest.mark.parametrize("command", ["check", "list"])
def test_another_kind_of_address_is_refused(data, command):
    result = data(command, "gs://bucket/photos")
    assert result.exit_code == 2
    assert "a place is a folder or s3://bucket/prefix" in result.output


def test_corrupt_images_are_named(data, photos, tmp_path):
    (photos / "05.png").write_bytes(b"<html>")
    result = data("prepare", "photos", "--from", photos, "--to", tmp_path / "place")
    assert "left out: 05.png: not an image of a known format" in result.output
    assert "1 files are left out" in result.output
    assert data("check", tmp_path / "place").exit_code == 0


def test_hpatches_is_prepared_as_a_benchmark(data, sequences, tmp_path):
    place = tmp_path / "hpatches"
    result = data("prepare", "hpatches", "--from", sequences, "--to", place)
    assert result.exit_code == 0, result.output
    digest = open_benchmark(place).digest[:16]
    assert digest == open_benchmark(sequences).digest[:16]
    assert f"2 sequences count; benchmark digest {digest}" in result.output
    assert "left out by the protocols: v_talent" in result.output
    assert "larger than 1600x1200 and not left out: v_two" in result.output
    assert data("check", place).exit_code == 0


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda f: (f / "i_one/H_1_3").write_text("1 2 3"), "holds 3 numbers"),
        (lambda f: (f / "i_one/H_1_3").write_text("0 " * 9), "is singular"),
        (lambda f: (f / "i_one/3.ppm").write_bytes(b"x"), "i_one/3.ppm: not an image"),
        (lambda f: (f / "i_one/3.ppm").unlink(), "i_one lacks 3"),
    ],
)
def test_hpatches_that_is_not_in_order_is_refused(data, sequences, tmp_path, spoil, sentence):
    spoil(sequences)
    result = data("prepare", "hpatches", "--from", sequences, "--to", tmp_path / "hpatches")
    assert result.exit_code == 2
    assert sentence in result.output
    assert not (tmp_path / "hpatches" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["prepare", "wbe", "--to", "x"], "unknown source 'wbe'; known: aachen"),
        (["prepare", "photos", "--to", "x"], "no address is known for 'photos'"),
        (["prepare", "photos", "--from", "/nowhere", "--to", "x"], "there is no file or folder '/nowhere'"),
        (["prepare", "photos"], "Missing option '--to'"),
        (["check", "/nowhere"], "/nowhere has no manifest.json"),
        (["list", "/nowhere"], "there is no folder '/nowhere'"),
        (["check", "s3:///x"], "names no bucket"),
    ],
)
def test_bad_input_ends_with_one_sentence_and_status_2(data, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    result = data(*arguments)
    assert result.exit_code == 2, result.output
    assert sentence in " ".join(result.output.split())
    assert not (tmp_path / "x").exists()


def test_a_folder_without_a_manifest_is_listed(data, photos):
    assert "\n40 files, 0.00 GiB, without a manifest" in data("list", photos).output


def test_what_is_on_its_way_to_a_folder_lies_in_it_and_is_hidden(tmp_path):
    settings = Settings(tmp_path / "home", "")
    assert make_job("photos", (), str(tmp_path / "x"), settings).work == tmp_path / "x" / ".prepare"
    works = {make_job(s, (), p, settings).work for s in ("web", "photos") for p in ("s3://a/b", "s3://a/c")}
    assert len(works) == 4
    assert all(work.parent == tmp_path / "home" / "cache" / "prepare" for work in works)
