import numpy as np
import pytest
from PIL import Image

from evaluation.predictions import images
from evaluation.predictions.images import ImageStore
from r2d2.data.images import ImageRefused

BYTES = 40 * 50 * 3


@pytest.fixture
def paths(tmp_path):
    for number in range(3):
        Image.new("RGB", (50, 40), (number, 0, 0)).save(tmp_path / f"{number}.png")
    return sorted(tmp_path.glob("*.png"))


@pytest.fixture
def decoded(monkeypatch):
    """The files that were decoded."""
    seen = []

    def read(path):
        seen.append(path.name)
        return original(path)

    original = images.read_image
    monkeypatch.setattr(images, "read_image", read)
    return seen


def test_each_image_is_decoded_once(paths, decoded):
    store = ImageStore()
    for _ in range(3):
        for number, path in enumerate(paths):
            assert store.read(path)[0, 0].tolist() == [number, 0, 0]
    assert decoded == ["0.png", "1.png", "2.png"]
    assert (len(store), store.bytes_held) == (3, 3 * BYTES)


def test_a_full_store_keeps_what_it_has(paths, decoded):
    store = ImageStore(max_bytes=2 * BYTES)
    for _ in range(2):
        for path in paths:
            store.read(path)
    assert decoded == ["0.png", "1.png", "2.png", "2.png"]
    assert store.bytes_held == 2 * BYTES


def test_a_changed_file_is_decoded_anew(paths):
    store = ImageStore(max_bytes=3 * BYTES)
    for _ in range(2):
        store.read(paths[0])
    Image.fromarray(np.full((40, 50, 3), 9, np.uint8)).save(paths[0], compress_level=0)
    assert store.read(paths[0])[0, 0].tolist() == [9, 9, 9]
    assert (len(store), store.bytes_held) == (1, BYTES)


def test_nobody_can_spoil_a_kept_image(paths):
    with pytest.raises(ValueError, match="read-only"):
        ImageStore().read(paths[0])[0, 0] = 255


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((960, 720), (640, 480)),
        ((768, 1024), (480, 640)),
        ((300, 200), (720, 480)),
        ((1000, 700), (685, 480)),
    ],
)
def test_the_shorter_side_is_as_wanted(size, wanted):
    assert images.size_at(size, 480) == wanted
    assert images.size_at(size, None) == size
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    assert images.resized(pixels, 480).shape == (wanted[1], wanted[0], 3)
    assert images.resized(pixels, None) is pixels


def test_resizing_keeps_the_frame():
    """The left half stays the left half: a position follows `resize_homography`."""
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[:, 64:] = 255
    half = images.resized(pixels, 32)
    assert half[16, [0, 30, 33, 63], 0].tolist() == [0, 0, 255, 255]
    assert half[16, 31, 0] + half[16, 32, 0] == 255


def test_refusals_name_the_file(tmp_path):
    with pytest.raises(ImageRefused, match=r"missing\.png"):
        ImageStore().read(tmp_path / "missing.png")
    with pytest.raises(ValueError, match="at least 0"):
        ImageStore(max_bytes=-1)
