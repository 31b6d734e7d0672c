import io

import numpy as np
import pytest
from PIL import Image, ImageColor

from evaluation.pictures.maps import ImageMaps
from evaluation.pictures.network import (
    EPOCH_BYTES,
    PairMatches,
    apart,
    epoch_picture,
    image_picture,
    pair_picture,
)
from evaluation.pictures.sheet import CORRECT, NEUTRAL, WRONG


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def maps(height=60, width=90, count=50, seed=0, name="v_wall 1"):
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), 90, np.uint8)
    first, second = rng.integers(0, 60, (2, height, width), dtype=np.uint8)
    places = rng.uniform(0, [width, height], (count, 2))
    keypoints = np.column_stack([places, np.full(count, 12.0)]).astype(np.float32)
    return ImageMaps(name, image, first, second, keypoints)


def share(png, colour):
    """The share of pixels within a small distance of a colour."""
    distance = np.abs(pixels(png).astype(int) - ImageColor.getrgb(colour)).max(axis=2)
    return (distance < 30).mean()


def test_the_picture_of_an_epoch_is_small_whatever_it_shows():
    noise = np.random.default_rng(0).integers(0, 256, (256, 384, 3), dtype=np.uint8)
    worst = [ImageMaps("noise", noise, noise[..., 0], noise[..., 1], maps(256, 384, 1000).keypoints)] * 2
    picture = epoch_picture(worst, "epoch 1")
    assert len(picture) <= EPOCH_BYTES
    assert pixels(picture).shape[1] > 1200


def test_pictures_of_two_epochs_have_the_same_layout():
    first = epoch_picture([maps(), maps(50, 100)], "epoch 1, validation: MMA@3 0.100")
    second = epoch_picture([maps(seed=1, count=0), maps(50, 100, seed=2)], "epoch 12")
    assert pixels(first).shape == pixels(second).shape


def test_the_same_maps_give_the_same_file():
    assert epoch_picture([maps()], "epoch 1") == epoch_picture([maps()], "epoch 1")


@pytest.mark.parametrize(("height", "width"), [(60, 90), (90, 60), (32, 400), (400, 32)])
@pytest.mark.parametrize("count", [0, 50])
def test_an_image(height, width, count):
    picture = image_picture(maps(height, width, count), "network")
    assert pixels(picture).shape[1] >= 1000
    assert (share(picture, "#e69f00") > 0) == (count > 0)


@pytest.mark.parametrize("sizes", [((60, 90), (60, 80)), ((32, 400), (400, 32)), ((400, 32), (400, 32))])
def test_a_pair_is_wide_enough_to_read(sizes):
    seen = tuple(maps(*size) for size in sizes)
    picture = pair_picture(seen, PairMatches(np.array([[0, 1]]), np.array([1.0])), "network")
    assert pixels(picture).shape[1] >= 1600


@pytest.mark.parametrize(
    ("errors", "colours"),
    [
        ([0.5, 3.0], {CORRECT}),
        ([3.1, np.inf], {WRONG}),
        ([1.0, 90.0], {CORRECT, WRONG}),
        (None, {NEUTRAL}),
    ],
)
def test_correct_matches_are_green_wrong_ones_red_and_unknown_ones_neither(errors, colours):
    matches = np.array([[0, 0], [1, 1]])
    found = PairMatches(matches, None if errors is None else np.array(errors))
    picture = pair_picture((maps(), maps(seed=1)), found, "network")
    # The patch of the legend is about a 20,000th of the picture; a line is more.
    assert {colour for colour in (CORRECT, WRONG, NEUTRAL) if share(picture, colour) > 2e-4} == colours


def test_a_pair_without_keypoints():
    found = PairMatches(np.zeros((0, 2), np.int64), np.zeros(0))
    assert pixels(pair_picture((maps(count=0), maps(count=0)), found, "network")).std() > 5


def test_the_best_patches_that_do_not_overlap_are_drawn():
    keypoints = np.array([[10, 10, 8], [13, 10, 8], [18, 10, 8], [18, 10, 8], [50, 10, 64]], np.float32)
    assert apart(keypoints).tolist() == [0, 2]
    assert apart(keypoints, count=1).tolist() == [0]
    assert apart(keypoints[:0]).tolist() == []
