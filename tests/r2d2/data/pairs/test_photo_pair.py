"""A pair shows the same place twice, exactly where its flow says."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from r2d2.config import DataConfig
from r2d2.data.images import ImageRefused, read_image
from r2d2.data.normalisation import MEAN, STD, denormalise
from r2d2.data.pairs import photo_pair as pairs_module
from r2d2.data.pairs.photo_pair import make_pair
from r2d2.data.photos import open_photos
from r2d2.warp import warp

PLAIN = DataConfig(noise=0.0, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)
GREY_LEVELS = 255 * torch.tensor(STD).view(3, 1, 1)
GREY_MEANS = 255 * torch.tensor(MEAN).view(3, 1, 1)

# Mean absolute difference in grey levels between image 1 and image 2 sampled at the flow, over the samples.
# What remains is due to resampling; half a pixel beside the truth it is twice as large.
BOUND, BOUND_BESIDE = 2.0, 3.0
# Where the photograph is shrunk much: image 1 by one filter, image 2 by more, as in the recipe.
BOUND_SMALL = 4.0
BESIDE = [(0.5, 0.0), (-0.5, 0.0), (0.0, 0.5), (0.0, -0.5)]


def pair_of(path, config, *seed):
    return make_pair(path, config, np.random.default_rng(seed))


def difference(pair, shift=(0.0, 0.0)):
    aflow = pair.aflow + torch.tensor(shift).view(2, 1, 1)
    seen, valid = warp(pair.image2[None], aflow[None])
    apart = (seen[0] - pair.image1).abs() * GREY_LEVELS
    return float(apart[:, valid[0, 0]].mean())


def equal(pair1, pair2):
    return all(
        getattr(pair1, name).numpy().tobytes() == getattr(pair2, name).numpy().tobytes()
        for name in ("image1", "image2", "aflow")
    )


@pytest.fixture(scope="module")
def samples():
    return open_photos("samples").paths


@pytest.mark.parametrize("crop_size", [64, 192])
def test_image_2_at_the_flow_reproduces_image_1_and_half_a_pixel_beside_does_not(samples, crop_size):
    config = replace(PLAIN, crop_size=crop_size)
    made = [pair_of(path, config, k, n) for n, path in enumerate(samples) for k in range(2)]
    assert np.mean([difference(pair) for pair in made]) < BOUND
    for shift in BESIDE:
        assert np.mean([difference(pair, shift) for pair in made]) > BOUND_BESIDE
    for pair in made:
        assert difference(pair) < min(difference(pair, shift) for shift in BESIDE)


@pytest.mark.parametrize("size", [(2560, 1708), (2561, 1709)])
def test_a_large_jpeg_is_decoded_small_and_still_in_the_right_place(samples, tmp_path, size, monkeypatch):
    path = tmp_path / "large.jpg"
    china = next(p for p in samples if p.name == "china.jpg")
    Image.fromarray(read_image(china)).resize(size, Image.Resampling.BICUBIC).save(path, quality=95)
    factors = []
    to_view = pairs_module.view
    monkeypatch.setattr(
        pairs_module, "view", lambda *args: factors.append(size[0] / args[0].width) or to_view(*args)
    )
    made = [pair_of(path, PLAIN, k) for k in range(12)]
    assert {round(factor) for factor in factors} >= {2, 4}
    assert np.mean([difference(pair) for pair in made]) < BOUND_SMALL
    for pair in made:
        assert difference(pair) < min(difference(pair, shift) for shift in BESIDE)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_decoding_small_changes_a_pair_only_by_a_little(samples, tmp_path, suffix, monkeypatch):
    path = tmp_path / f"large.{suffix}"
    Image.fromarray(read_image(samples[0])).resize((1600, 1600)).save(path)
    small = [pair_of(path, PLAIN, k) for k in range(5)]
    monkeypatch.setattr(pairs_module, "_MAX_DECODER_SHRINK", 1)
    for pair1, k in zip(small, range(5), strict=True):
        pair2 = pair_of(path, PLAIN, k)
        assert torch.equal(pair1.aflow, pair2.aflow)
        for name in ("image1", "image2"):
            apart = (getattr(pair1, name) - getattr(pair2, name)).abs() * GREY_LEVELS
            assert apart.mean() < 2


@pytest.mark.parametrize("crop_size", [32, 96, 192, 256])
def test_shapes_types_and_ranges(samples, crop_size):
    pair = pair_of(samples[0], DataConfig(crop_size=crop_size), 0)
    assert pair.image1.shape == pair.image2.shape == (3, crop_size, crop_size)
    assert pair.aflow.shape == (2, crop_size, crop_size)
    assert {pair.image1.dtype, pair.image2.dtype, pair.aflow.dtype} == {torch.float32}
    for image in (pair.image1, pair.image2):
        levels = image * GREY_LEVELS + GREY_MEANS
        assert levels.amin() >= -1e-3
        assert levels.amax() <= 255 + 1e-3
        assert levels.std() > 10
        assert image.is_contiguous()


def test_the_flow_is_known_beyond_the_second_crop(samples):
    pair = pair_of(samples[0], PLAIN, 0)
    assert torch.isfinite(pair.aflow).all()
    outside = (pair.aflow < 0) | (pair.aflow > 191)
    assert outside.any()
    assert not outside.all()


def test_the_same_draws_make_the_same_pair(samples):
    pair = pair_of(samples[0], DataConfig(), 1, 2)
    assert equal(pair, pair_of(samples[0], DataConfig(), 1, 2))
    assert not equal(pair, pair_of(samples[0], DataConfig(), 1, 3))


def test_a_pair_is_called_after_its_photo_or_as_told(samples):
    assert pair_of(samples[0], PLAIN, 0).sample == samples[0].name
    assert make_pair(samples[0], PLAIN, np.random.default_rng(0), "epoch 3").sample == "epoch 3"


def test_without_windows_the_flow_is_unknown_and_the_images_are_crops(samples, monkeypatch):
    monkeypatch.setattr("r2d2.data.pairs.plan.find_windows", lambda *args: None)
    pair = pair_of(samples[0], PLAIN, 0)
    assert torch.isnan(pair.aflow).all()
    assert not pair.valid
    for image in (pair.image1, pair.image2):
        assert image.shape == (3, 192, 192)
        assert denormalise(image).std() > 10


@pytest.mark.parametrize("size", [(32, 32), (33, 300), (1200, 40)])
def test_small_and_narrow_photos(tmp_path, size):
    path = tmp_path / "narrow.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)).save(path)
    for k in range(10):
        pair = pair_of(path, DataConfig(), k)
        assert torch.isfinite(pair.image1).all()
        assert torch.isfinite(pair.image2).all()


def test_a_photo_that_cannot_be_used_is_refused(tmp_path):
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0 no photo")
    with pytest.raises(ImageRefused, match=r"broken\.jpg"):
        pair_of(path, PLAIN, 0)


def test_jitter_and_noise_change_image_2_alone(samples):
    plain, loud = (pair_of(samples[0], config, 4) for config in (PLAIN, DataConfig()))
    assert torch.equal(plain.image1, loud.image1)
    assert torch.equal(plain.aflow, loud.aflow)
    assert (plain.image2 - loud.image2).abs().mul(GREY_LEVELS).mean() > 3


def test_the_global_generators_are_left_alone(samples):
    numpy_before, torch_before = np.random.get_state()[1].copy(), torch.get_rng_state()
    pair_of(samples[0], DataConfig(), 0)
    assert (np.random.get_state()[1] == numpy_before).all()
    assert torch.equal(torch.get_rng_state(), torch_before)


def test_the_number_of_threads_changes_no_byte(samples):
    threads = torch.get_num_threads()
    made = []
    for count in (1, 3):
        torch.set_num_threads(count)
        made.append([pair_of(path, DataConfig(), 5) for path in samples[:6]])
    torch.set_num_threads(threads)
    assert all(equal(*two) for two in zip(*made, strict=True))
