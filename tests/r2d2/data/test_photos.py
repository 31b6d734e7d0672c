"""Photo sets: where they come from, what identifies them, and that held-out photos are never trained on."""

import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from r2d2.data import photos as photos_module
from r2d2.data.images import ImageRefused, read_image
from r2d2.data.photos import open_photos, passed_over, split
from r2d2.storage.files import FolderFiles


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "holiday"
    for k in range(20):
        path = folder / f"day{k % 3}" / f"{k:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(path)
    return folder


def test_the_samples_are_real_photographs():
    samples = open_photos("samples")
    assert len(samples) >= 15
    assert {"china.jpg", "flower.jpg", "astronaut.png", "grace_hopper.jpg"} <= set(samples.names)
    for path in samples.paths:
        assert min(read_image(path).shape[:2]) >= 300
        assert read_image(path).std() > 10


def test_finding_the_samples_imports_no_heavy_package():
    script = (
        "import sys; from r2d2.data.photos import open_photos; open_photos('samples');"
        "print([m for m in ('skimage', 'sklearn', 'matplotlib', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_samples_of_a_package_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(photos_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"need the package scikit-learn, .* `pip install scikit-image"):
        open_photos("samples")


def test_samples_that_a_version_does_not_ship_are_named(monkeypatch):
    monkeypatch.setitem(photos_module._SAMPLES, "sklearn", ("datasets/images", ("china.jpg", "lake.jpg")))
    with pytest.warns(UserWarning, match=r"scikit-learn does not ship lake\.jpg"):
        assert "china.jpg" in open_photos("samples").names


def test_a_folder_is_read_recursively_in_the_order_of_names(folder):
    photos = open_photos(str(folder))
    assert photos.names[:2] == ("day0/00.png", "day0/03.png")
    assert photos.paths[0] == folder / "day0/00.png"
    assert len(photos) == 20


def test_no_such_folder(tmp_path):
    with pytest.raises(ValueError, match="there is no folder"):
        open_photos(str(tmp_path / "nowhere"))


def test_the_digest_is_that_of_names_and_contents_wherever_they_lie(folder, tmp_path):
    digest = open_photos(str(folder)).digest
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    assert open_photos(str(moved)).digest == digest
    (moved / "day0/00.png").rename(moved / "day0/renamed.png")
    renamed = open_photos(str(moved)).digest
    (moved / "day0/renamed.png").write_bytes(b"changed")
    assert len({digest, renamed, open_photos(str(moved)).digest}) == 3


def test_the_digest_of_a_file_that_vanished_names_it(folder):
    photos = open_photos(str(folder))
    (folder / "day0/00.png").unlink()
    with pytest.raises(ImageRefused, match=r"00\.png: cannot be read \(No such file"):
        _ = photos.digest


def test_a_photo_set_travels_between_processes_with_its_digest(folder):
    photos = open_photos(str(folder))
    digest = photos.digest
    shutil.rmtree(folder)
    copy = pickle.loads(pickle.dumps(photos))
    assert copy == photos
    assert copy.digest == digest


@pytest.mark.parametrize("held_out", [0, 1, 6, 19])
def test_a_split_shares_nothing_and_loses_nothing(folder, held_out):
    photos = open_photos(str(folder))
    training, held = split(photos, held_out, seed=0)
    assert len(held) == held_out
    assert sorted(training.paths + held.paths) == sorted(photos.paths)


def test_a_split_depends_on_names_and_seed_alone(folder, tmp_path):
    held = split(open_photos(str(folder)), 6, seed=0)[1].names
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    assert split(open_photos(str(moved)), 6, seed=0)[1].names == held
    assert split(open_photos(str(moved)), 6, seed=1)[1].names != held
    shutil.copy(moved / "day0/00.png", moved / "one-more.png")
    assert len(set(split(open_photos(str(moved)), 6, seed=0)[1].names) & set(held)) >= 5


def test_copies_of_held_out_photos_are_not_trained_on(folder):
    held = split(open_photos(str(folder)), 6, seed=0)[1]
    for k, path in enumerate(held.paths):
        shutil.copy(path, folder / f"zz copy {k}.png")
    training, held = split(open_photos(str(folder)), 6, seed=0)
    contents = {path.read_bytes() for path in held.paths}
    assert not contents & {path.read_bytes() for path in training.paths}


@pytest.mark.parametrize("held_out", [20, 21])
def test_too_few_photos(folder, held_out):
    with pytest.raises(ValueError, match=f"20 photographs .* too few to hold out {held_out}"):
        split(open_photos(str(folder)), held_out, seed=0)


def test_a_photograph_that_cannot_be_read_is_not_held_out(folder):
    photos = open_photos(str(folder))
    _, before = split(photos, 3, seed=0)
    before.paths[0].write_bytes(b"no image")
    training, held = split(photos, 3, seed=0)
    assert len(held) == 3
    assert set(held.names) > set(before.names[1:])
    # Training meets it, replaces it and counts it.
    assert before.names[0] in training.names


def test_a_picture_of_nothing_is_not_held_out(folder):
    for seed in range(4):
        first = split(open_photos(str(folder)), 1, seed)[1].names[0]
        Image.fromarray(np.zeros((64, 64, 4), np.uint8)).save(folder / first)
        assert first not in split(open_photos(str(folder)), 8, seed)[1].names


def test_what_is_passed_over_is_counted(folder):
    for name in ("a.HEIC", "b.heic", "notes.txt", "README", "manifest.json"):
        (folder / name).touch()
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    assert passed_over(FolderFiles.of(folder)) == (
        f"{folder}: passed over, named like no image: 2 .heic, 1 without a suffix, 1 .txt",
        f"the link {folder}/gone.png leads nowhere",
    )
