"""`r2d2 show`: pictures of images, of pairs of images and of training pairs, or one sentence."""

import miniatures
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from r2d2.checkpoint import save_checkpoint
from r2d2.config import TrainConfig
from r2d2.data.loader import epoch_loader
from r2d2.data.photos import open_photos, split
from r2d2.data.sources import SOURCES
from r2d2.network import build_network
from runner.__main__ import main
from runner.cli.show import default_name
from runner.models.show import (
    _training_pairs,
    have_common_part,
    image_name,
    sequence_homography,
    show_training_pairs,
)

TINY = TrainConfig.from_dict({"network": {"channels": 1, "dim": 16}})
EVERYTHING = (
    "--min-reliability",
    0,
    "--min-repeatability",
    0,
    "--min-size",
    0,
    "--min-scale",
    1,
    "--top-k",
    99,
)
FEW = ("--set", "data.held_out=0", "--set", "pairs_per_worker=2", "--set", "data.crop_size=64", "--count", 3)


@pytest.fixture
def r2d2(tmp_path, monkeypatch):
    """Runs a command in an empty folder, with an empty home; returns click's result."""
    for name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("R2D2_HOME", str(tmp_path / "home"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return lambda *arguments: CliRunner().invoke(main, [str(a) for a in ("show", *arguments)])


@pytest.fixture
def checkpoint(tmp_path):
    save_checkpoint(tmp_path / "checkpoint", build_network(TINY.network, seed=0), TINY, epoch=1)
    return tmp_path / "checkpoint"


@pytest.fixture
def sequence(tmp_path):
    """Twice the same image, so that every match is right; `H_1_3` belongs to both."""
    folder = tmp_path / "v_wall"
    folder.mkdir()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (96, 128, 3), dtype=np.uint8))
    for name in ("1.png", "3.png", "photo.png"):
        image.save(folder / name)
    np.savetxt(folder / "H_1_3", np.eye(3))
    return folder


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_an_image(r2d2, checkpoint, sequence, tmp_path):
    result = r2d2(checkpoint, sequence / "photo.png", *EVERYTHING)
    assert result.exit_code == 0, result.output
    assert "show_photo.png: 99 keypoints" in result.output
    assert files(tmp_path / "here") == ["show_photo.png"]
    with Image.open(tmp_path / "here" / "show_photo.png") as picture:
        assert (picture.format, picture.width > 1000) == ("PNG", True)


def test_two_images_of_a_sequence_find_their_homography(r2d2, checkpoint, sequence, tmp_path):
    result = r2d2(checkpoint, sequence / "1.png", sequence / "3.png", *EVERYTHING)
    assert result.exit_code == 0, result.output
    assert "show_v_wall_1_3.png: 99 and 99 keypoints, 99 matches, 99 of them within 3 px" in result.output
    with Image.open(tmp_path / "here" / "show_v_wall_1_3.png") as picture:
        assert picture.width >= 1600


def test_other_images_need_one(r2d2, checkpoint, sequence, tmp_path):
    pair = (checkpoint, sequence / "photo.png", sequence / "3.png", *EVERYTHING)
    assert "99 matches\n" in r2d2(*pair).output
    np.savetxt(tmp_path / "moved.txt", [[1, 0, 50], [0, 1, 0], [0, 0, 1]])
    moved = r2d2(*pair, "--homography", tmp_path / "moved.txt", "--out", "other.png")
    assert "99 matches, 0 of them within 3 px" in moved.output


def test_a_picture_is_not_replaced_unless_asked(r2d2, checkpoint, sequence, tmp_path):
    command = (checkpoint, sequence / "photo.png", *EVERYTHING)
    file = tmp_path / "here" / "show_photo.png"
    file.write_bytes(b"mine")
    assert "show_photo.png is there already" in refused(r2d2(*command))
    assert file.read_bytes() == b"mine"
    assert r2d2(*command, "--overwrite").exit_code == 0
    assert file.read_bytes()[:4] == b"\x89PNG"


def test_training_pairs(r2d2, sequence, tmp_path):
    result = r2d2("--pairs", sequence, *FEW)
    assert result.exit_code == 0, result.output
    assert "show_pairs_v_wall.png: 3 pairs" in result.output
    other = r2d2("--pairs", sequence, *FEW, "--seed", 1, "--out", "folder/other.png")
    assert other.exit_code == 0, other.output
    here = tmp_path / "here"
    assert (here / "folder" / "other.png").read_bytes() != (here / "show_pairs_v_wall.png").read_bytes()


@pytest.mark.parametrize("source", sorted({*SOURCES, "wasf"}))
def test_training_pairs_of_any_source(r2d2, tmp_path, source):
    root = miniatures.write_wasf(tmp_path / "root")
    miniatures.write_homographies(root / "pairs")
    places = {"web": "revisitop1m", "photos": "revisitop1m", "homographies": "pairs", "wasf": ""}
    result = r2d2("--pairs", f"{source}={root / places.get(source, 'aachen')}", *FEW)
    assert result.exit_code == 0, result.output
    assert ".png: 3 pairs" in result.output.replace("\n", "")
    assert len(list((tmp_path / "here").glob("show_pairs_*.png"))) == 1


def test_training_pairs_are_those_of_the_loader():
    config = TrainConfig.from_dict(
        {"data": {"crop_size": 64, "pairs_per_epoch": 3, "max_shorter_side": 300}, "pairs_per_worker": 2}
    )
    photos, _ = split(open_photos("samples"), config.data.held_out, config.data.split_seed)
    pairs = _training_pairs(config)
    # Of three pairs an epoch the third fills no batch.
    for epoch in (1, 2):
        (batch,) = epoch_loader(photos, config, epoch)
        for index in range(2):
            pair = next(pairs)
            assert pair.sample == batch.samples[index]
            np.testing.assert_array_equal(pair.image2, batch.image2[index])
            np.testing.assert_array_equal(pair.aflow, batch.aflow[index])


def test_fewer_pairs_than_a_batch_are_shown(tmp_path):
    config = TrainConfig.from_dict({"data": {"crop_size": 64, "pairs_per_epoch": 3, "max_shorter_side": 300}})
    assert config.pairs_per_worker > 3
    assert show_training_pairs(config, 4).summary.startswith("4 pairs")


def refused(result) -> str:
    """The sentence that a refused command ended with."""
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return result.output.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("", "name a model and an image"),
        ("MODEL", "name a model and an image"),
        ("MODEL nothing.png", "nothing.png: there is no such file"),
        ("MODEL SEQ/H_1_3", "H_1_3: not an image of a known format"),
        ("/nowhere SEQ/1.png", "there is no model /nowhere"),
        ("MODEL SEQ/1.png --homography SEQ/H_1_3", "--homography leads from one image to another"),
        ("MODEL SEQ/1.png SEQ/3.png --homography nothing.txt", "nothing.txt is missing"),
        ("MODEL SEQ/1.png SEQ/3.png --homography SEQ/far", "3.png shows no part of"),
        ("MODEL SEQ/1.png --out picture.jpg", "call it picture.png, not picture.jpg"),
        ("MODEL SEQ/1.png --out SEQ/1.png --overwrite", "would replace the image"),
        ("MODEL SEQ/1.png --out /proc/picture.png", "/proc/picture.png cannot be written"),
        ("MODEL SEQ/1.png --count 3", "--set, --seed and --count are for training pairs"),
        ("MODEL SEQ/1.png --top-k -3", "top_k is -3; it must be at least 1"),
        ("MODEL --pairs samples", "without a model: leave out"),
        ("--pairs samples --full-resolution", "are for images, not for --pairs"),
        ("--pairs samples --top-k 0", "are for images, not for --pairs"),
        ("--pairs /nowhere", "there is no folder '/nowhere'"),
        ("--pairs samples --set data.crop=3", "unknown key 'crop' in 'data.crop'"),
        ("--pairs samples --seed -1", "seed is -1; it must be"),
        ("--pairs SEQ", "too few to hold out 6"),
        ("--pairs samples --count 0", "Invalid value for '--count'"),
    ],
)
def test_bad_input_ends_with_one_sentence_and_leaves_nothing(
    r2d2, checkpoint, sequence, tmp_path, arguments, sentence
):
    np.savetxt(sequence / "far", [[1, 0, 5000], [0, 1, 0], [0, 0, 1]])
    before = (sequence / "1.png").read_bytes()
    words = arguments.replace("MODEL", str(checkpoint)).replace("SEQ", str(sequence)).split()
    assert sentence in refused(r2d2(*words))
    assert files(tmp_path / "here") == []
    assert (sequence / "1.png").read_bytes() == before


def test_a_homography_that_is_none_is_refused(r2d2, checkpoint, sequence):
    (sequence / "H_1_3").write_text("1 2 3")
    result = r2d2(checkpoint, sequence / "1.png", sequence / "3.png")
    assert "H_1_3 holds 3 numbers" in refused(result)


def test_names(sequence, tmp_path):
    one, three, photo = (sequence / name for name in ("1.png", "3.png", "photo.png"))
    assert [image_name(path) for path in (one, three, photo)] == ["v_wall 1", "v_wall 3", "photo.png"]
    assert default_name(None, [one, three]) == "show_v_wall_1_3.png"
    assert default_name(None, [photo]) == "show_photo.png"
    assert default_name("samples", []) == "show_pairs_samples.png"


def test_only_images_1_and_k_of_one_folder_have_a_homography_of_their_own(sequence, tmp_path):
    one, three, photo = (sequence / name for name in ("1.png", "3.png", "photo.png"))
    np.testing.assert_array_equal(sequence_homography(one, three), np.eye(3))
    assert sequence_homography(three, one) is None
    assert sequence_homography(one, photo) is None
    assert sequence_homography(tmp_path / "1.png", three) is None


@pytest.mark.parametrize(("dx", "common"), [(0, True), (90, True), (-90, True), (110, False), (-110, False)])
def test_a_common_part(dx, common):
    image = np.zeros((50, 100, 3), np.uint8)
    assert have_common_part(np.array([[1.0, 0, dx], [0, 1, 0], [0, 0, 1]]), image, image) is common
