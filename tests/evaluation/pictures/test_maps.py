import numpy as np
import pytest
import torch

from evaluation.pictures.examples import MatchExample
from evaluation.pictures.maps import KEPT_SIDE, ImageMaps, example_maps, image_maps, pack_maps, unpack_maps
from r2d2.containers import DenseFeatures
from r2d2.data.normalisation import normalise
from r2d2.network import R2D2Network, build_network
from r2d2.network_config import NetworkConfig

NO_KEYPOINTS = np.zeros((0, 3), np.float32)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


class ConstantNetwork(R2D2Network):
    """The same maps whatever the image."""

    def __init__(self, reliability, repeatability):
        super().__init__(NetworkConfig("fast", channels=1, dim=4))
        self.values = reliability, repeatability

    def forward(self, image):
        ones = torch.ones(len(image), 1, *image.shape[2:])
        return DenseFeatures(ones.expand(-1, 4, -1, -1) / 2, *(value * ones for value in self.values))


def test_bytes_stand_for_values_from_0_to_1_and_nan_for_0():
    seen = image_maps(ConstantNetwork(1.0, 0.2), noise(40, 50), NO_KEYPOINTS, "noise")
    assert (seen.name, seen.reliability.shape, seen.reliability.dtype) == ("noise", (40, 50), np.uint8)
    assert np.unique(seen.reliability).tolist() == [255]
    assert np.unique(seen.repeatability).tolist() == [51]
    nan = image_maps(ConstantNetwork(torch.nan, 0.5), noise(40, 50), NO_KEYPOINTS, "noise")
    assert np.unique(nan.reliability).tolist() == [0]


def test_a_small_image_is_kept_as_it_is():
    image = noise(40, 50)
    keypoints = np.array([[3, 4, 32]], np.float32)
    seen = image_maps(ConstantNetwork(1.0, 0.5), image, keypoints, "noise", max_side=50)
    np.testing.assert_array_equal(seen.image, image)
    np.testing.assert_array_equal(seen.keypoints, keypoints)


def test_keypoints_shrink_with_their_image():
    corners_and_middle = np.array([[-0.5, -0.5, 32], [159.5, 79.5, 64], [79.5, 39.5, 8]], np.float32)
    seen = image_maps(ConstantNetwork(1.0, 0.5), noise(80, 160), corners_and_middle, "noise", max_side=80)
    assert seen.image.shape == (40, 80, 3)
    np.testing.assert_allclose(seen.keypoints, [[-0.5, -0.5, 16], [79.5, 39.5, 32], [39.5, 19.5, 4]])
    without = image_maps(ConstantNetwork(1.0, 0.5), noise(80, 160), corners_and_middle[:, :2], "noise", 80)
    np.testing.assert_allclose(without.keypoints, seen.keypoints[:, :2])


def test_a_strip_does_not_become_too_narrow_for_the_network():
    seen = image_maps(ConstantNetwork(1.0, 0.5), noise(40, 2000), NO_KEYPOINTS, "strip")
    assert seen.image.shape == (32, 1600, 3)


def test_the_maps_are_those_of_the_network_and_fill_the_image():
    network = build_network(NetworkConfig("fast", channels=1, dim=8), seed=0).train()
    image = noise(33, 47)
    seen = image_maps(network, image, NO_KEYPOINTS, "odd")
    assert network.training
    with torch.no_grad():
        features = network.eval()(normalise(image)[None])
    for values, wanted in (
        (seen.reliability, features.reliability),
        (seen.repeatability, features.repeatability),
    ):
        assert values.shape == (33, 47)
        # `fast` gives 32 x 46 pixels.
        np.testing.assert_allclose(values[:32, :46], 255 * wanted[0, 0].numpy(), atol=0.51)
        np.testing.assert_array_equal(values[32], values[31])
        np.testing.assert_array_equal(values[:, 46], values[:, 45])


def example(name, image1, image2):
    points1, points2 = np.array([[5, 6]], np.float32), np.array([[7, 8]], np.float32)
    return MatchExample(name, 4, image1, image2, points1, points2, np.zeros((1, 2), np.int64), np.zeros(1))


def test_of_two_examples_of_one_photograph_two_different_images_are_shown():
    photo, dark, tilted, other = (noise(40, 50, seed) for seed in range(4))
    examples = [example("i_a", photo, dark), example("v_a", photo, tilted), example("v_b", other, dark)]
    maps = example_maps(ConstantNetwork(1.0, 0.5), examples)
    assert [seen.name for seen in maps] == ["i_a 1", "v_a 4", "v_b 1"]
    for seen, image in zip(maps, (photo, tilted, other), strict=True):
        np.testing.assert_array_equal(seen.image, image)
    assert [seen.keypoints.tolist() for seen in maps] == [[[5, 6]], [[7, 8]], [[5, 6]]]


@pytest.mark.parametrize("count", [0, 2])
def test_packed_and_unpacked(count):
    maps = [
        image_maps(ConstantNetwork(0.3, 0.5), noise(40, 50, i), NO_KEYPOINTS, f"{i}") for i in range(count)
    ]
    loaded = unpack_maps(pack_maps(maps), "maps.npz")
    assert [seen.name for seen in loaded] == [f"{i}" for i in range(count)]
    for before, after in zip(maps, loaded, strict=True):
        for name in ("image", "reliability", "repeatability", "keypoints"):
            np.testing.assert_array_equal(getattr(before, name), getattr(after, name))


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 truncated"])
def test_other_files_are_refused(content):
    with pytest.raises(ValueError, match=r"maps\.npz holds no maps of images"):
        unpack_maps(content, "maps.npz")


def test_what_is_kept_of_an_epoch_is_small():
    """Even of two images of noise, which no compression makes smaller."""
    maps = [
        ImageMaps(
            "noise", noise(KEPT_SIDE, KEPT_SIDE), *np.moveaxis(noise(KEPT_SIDE, KEPT_SIDE), 2, 0)[:2], k
        )
        for k in (NO_KEYPOINTS, NO_KEYPOINTS)
    ]
    assert len(pack_maps(maps)) < 1.5e6
