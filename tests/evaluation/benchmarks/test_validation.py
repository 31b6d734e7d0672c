import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation.benchmarks import validation
from evaluation.benchmarks.hpatches import LEFT_OUT, open_benchmark
from evaluation.benchmarks.validation import build_validation_benchmark, read_recipe
from evaluation.evaluator import PROTOCOLS, evaluate
from r2d2.checkpoint import Model
from r2d2.data.images import NOTHING, read_image
from r2d2.data.photos import open_photos
from r2d2.geometry import translation
from r2d2.network import build_network
from r2d2.network_config import NetworkConfig
from r2d2.warp import homography_aflow, warp

SMALL = 48, 32


@pytest.fixture(scope="session")
def sample():
    """The pixels of a real photograph, which scikit-image ships."""
    return read_image(next(path for path in open_photos("samples").paths if path.name == "coffee.png"))


@pytest.fixture(scope="module")
def made(sample, tmp_path_factory):
    """A folder of `photos`, a wide and an upright one, and of their benchmark, `validation`."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "photos").mkdir()
    Image.fromarray(sample).save(folder / "photos" / "cup.jpg", quality=95)
    Image.fromarray(np.rot90(sample).copy()).save(folder / "photos" / "upright.jpg", quality=95)
    build_validation_benchmark(open_photos(str(folder / "photos")), folder / "validation")
    return folder


@pytest.fixture
def photos(made, tmp_path):
    """The photographs in a folder of this test's own."""
    return open_photos(str(shutil.copytree(made / "photos", tmp_path / "photos")))


@pytest.fixture
def built(made, tmp_path):
    """Their benchmark in a folder of this test's own."""
    return shutil.copytree(made / "validation", tmp_path / "validation")


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def image_size(path):
    with Image.open(path) as image:
        return image.size


def test_the_layout_is_that_of_hpatches(built):
    benchmark = open_benchmark(built)
    assert [(s.name, s.split) for s in benchmark.sequences] == [
        ("i_cup", "illumination"),
        ("i_upright", "illumination"),
        ("v_cup", "viewpoint"),
        ("v_upright", "viewpoint"),
    ]
    for sequence in benchmark.sequences:
        size = (256, 384) if "upright" in sequence.name else (384, 256)
        assert [image_size(path) for path in sequence.images] == [size] * 6
    for sequence in benchmark.sequences[:2]:
        np.testing.assert_array_equal(sequence.homographies, [np.eye(3)] * 5)


def photometric_error(image1, image_k, homography):
    """Mean absolute difference in grey levels of image 1 and image k seen from it."""
    second = torch.from_numpy(image_k.copy()).permute(2, 0, 1)[None].float()
    aflow = homography_aflow(homography, *image1.shape[:2])[None]
    warped, valid = warp(second, aflow)
    first = torch.from_numpy(image1.copy()).permute(2, 0, 1)[None].float()
    return float((warped - first).abs().mean(dim=1, keepdim=True)[valid].mean())


def test_image_k_at_the_homography_is_image_1(built):
    for sequence in open_benchmark(built).sequences[2:]:
        first = read_image(sequence.images[0])
        for path, homography in zip(sequence.images[1:], sequence.homographies, strict=True):
            image = read_image(path)
            error = photometric_error(first, image, homography)
            assert error < 3
            for dx, dy in ((0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5)):
                assert photometric_error(first, image, translation(dx, dy) @ homography) > 1.1 * error


def test_the_same_photographs_give_the_same_bytes(photos, built, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(photos.paths[0].parent, moved)
    again = build_validation_benchmark(open_photos(str(moved)), tmp_path / "again")
    assert contents(again) == contents(built)
    assert len(contents(again)) == 4 * 11 + 1


def test_another_seed_gives_other_sequences(photos, built, tmp_path):
    other = build_validation_benchmark(photos, tmp_path / "other", seed=1)
    assert open_benchmark(other).digest != open_benchmark(built).digest


def test_a_photograph_gives_the_same_sequences_in_other_company(photos, built, tmp_path):
    (tmp_path / "one").mkdir()
    shutil.copy(photos.paths[0], tmp_path / "one")
    alone = contents(build_validation_benchmark(open_photos(str(tmp_path / "one")), tmp_path / "alone"))
    together = contents(built)
    assert all(together[name] == content for name, content in alone.items() if name != "recipe.json")


def test_an_equal_benchmark_is_reused_and_another_replaced(photos, built):
    marked = built / "v_cup" / "1.png"
    marked.write_bytes(b"mark")
    build_validation_benchmark(photos, built)
    assert marked.read_bytes() == b"mark"
    build_validation_benchmark(photos, built, seed=1)
    assert marked.read_bytes() != b"mark"
    assert read_recipe(built).seed == 1


@pytest.mark.parametrize("recipe", [None, "no JSON", "[]", '{"photos": 1}'])
def test_a_strange_folder_is_not_replaced(photos, tmp_path, recipe):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("all of it")
    if recipe is not None:
        (folder / "recipe.json").write_text(recipe)
    before = contents(folder)
    with pytest.raises(ValueError, match=r"mine holds files but no recipe\.json"):
        build_validation_benchmark(photos, folder)
    assert contents(folder) == before


def test_a_failure_leaves_nothing(photos, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr(validation, "relight", fail)
    with pytest.raises(OSError, match="full"):
        build_validation_benchmark(photos, tmp_path / "validation")
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


@pytest.mark.parametrize("level", [0, 255])
def test_pictures_of_nothing_are_left_out_and_named(photos, tmp_path, level):
    folder = photos.paths[0].parent
    Image.fromarray(np.full((300, 400, 3), level, np.uint8)).save(folder / "nothing.png")
    built = build_validation_benchmark(open_photos(str(folder)), tmp_path / "validation", size=SMALL)
    assert {s.name for s in open_benchmark(built).sequences} == {"i_cup", "i_upright", "v_cup", "v_upright"}
    assert read_recipe(built).refused == (("nothing.png", NOTHING),)


def test_unreadable_photographs_are_left_out_and_named(photos, tmp_path):
    (photos.paths[0].parent / "broken.jpg").write_bytes(photos.paths[0].read_bytes()[:2000])
    folder = build_validation_benchmark(
        open_photos(str(photos.paths[0].parent)), tmp_path / "validation", size=SMALL
    )
    ((name, reason),) = read_recipe(folder).refused
    assert name == "broken.jpg"
    assert reason
    assert len(open_benchmark(folder).sequences) == 4


def test_without_a_usable_photograph(tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "broken.jpg").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"no photograph can be used.*broken\.jpg"):
        build_validation_benchmark(open_photos(str(tmp_path / "bad")), tmp_path / "validation")
    assert not (tmp_path / "validation").exists()


def test_small_photographs_are_enlarged(sample, tmp_path):
    (tmp_path / "photos").mkdir()
    Image.fromarray(sample).resize((60, 40)).save(tmp_path / "photos" / "tiny.png")
    folder = build_validation_benchmark(open_photos(str(tmp_path / "photos")), tmp_path / "validation")
    assert image_size(folder / "v_tiny" / "6.png") == (384, 256)


def test_names_are_distinct_and_never_left_out(sample, tmp_path):
    left_out = sorted(LEFT_OUT)[0].removeprefix("i_")
    for name in ("a/cup.png", "b/cup.png", f"{left_out}.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sample[:64, :96]).save(tmp_path / "photos" / name)
    folder = build_validation_benchmark(
        open_photos(str(tmp_path / "photos")), tmp_path / "validation", size=SMALL
    )
    names = {sequence.name for sequence in open_benchmark(folder).sequences}
    assert names == {f"{p}_{n}" for p in "vi" for n in ("cup", "cup-2", f"{left_out}-2")}


def test_sizes_too_small(photos, tmp_path):
    with pytest.raises(ValueError, match="384 x 16"):
        build_validation_benchmark(photos, tmp_path / "validation", size=(384, 16))


def test_the_recipe_says_what_it_was_made_from(photos, built):
    stored = json.loads((built / "recipe.json").read_text())
    assert stored["photos"] == photos.digest
    assert (stored["seed"], stored["size"], stored["version"]) == (0, [384, 256], validation.VERSION)
    recipe = read_recipe(built)
    assert recipe.same_source(dataclasses.replace(recipe, refused=(("a", "b"),)))
    assert not recipe.same_source(dataclasses.replace(recipe, version=0))


def test_an_untrained_network_scores_low_and_gets_its_thousand_keypoints(built):
    """The benchmark leaves room: what training gains is seen from the first epoch."""
    benchmark = open_benchmark(built)
    viewpoint = dataclasses.replace(benchmark, sequences=benchmark.sequences[2:3])
    network = build_network(NetworkConfig("fast", channels=1, dim=32), seed=0).eval()
    untrained = Model(network, "untrained", "0" * 64, None, 0)
    scores = evaluate(untrained, viewpoint, PROTOCOLS["validation"])
    assert {(p.keypoints1, p.keypoints2) for p in scores.pairs} == {(1000, 1000)}
    assert scores.mma()[2] < 0.1
