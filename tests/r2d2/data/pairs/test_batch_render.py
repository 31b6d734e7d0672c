"""A batch made on a device is the batch that `make_pair` makes."""

import pickle
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch

from r2d2.config import DataConfig
from r2d2.containers import collate
from r2d2.data.normalisation import STD
from r2d2.data.pairs.batch_render import collate_prepared, prepare_pair, render_batch
from r2d2.data.pairs.noise import NoiseField
from r2d2.data.pairs.photo_pair import make_pair
from r2d2.data.pairs.photometric import Jitter, JitterBatch
from r2d2.data.pairs.windows import Window
from r2d2.data.photos import open_photos

CPU = torch.device("cpu")
QUIET = DataConfig(noise=0.0, crop_size=96)
GREY_LEVELS = 255 * torch.tensor(STD).view(3, 1, 1)


@pytest.fixture(scope="module")
def samples():
    return open_photos("samples").files[:8]


def both(samples, config):
    """The same pairs, made one by one and rendered as a batch."""
    pairs = [make_pair(path, config, np.random.default_rng([3, k])) for k, path in enumerate(samples)]
    prepared = [prepare_pair(path, config, np.random.default_rng([3, k])) for k, path in enumerate(samples)]
    return collate(pairs), collate_prepared(prepared)


def test_it_is_the_batch_of_make_pair(samples):
    expected, prepared = both(samples, QUIET)
    rendered = render_batch(prepared, CPU)
    assert rendered.samples == expected.samples
    torch.testing.assert_close(rendered.aflow, expected.aflow, rtol=1e-5, atol=1e-4)
    for name in ("image1", "image2"):
        apart = (getattr(rendered, name) - getattr(expected, name)).abs() * GREY_LEVELS
        # Where an upright window is enlarged, `make_pair` rounds to whole grey levels.
        assert apart.max() < 1.1
        assert apart.mean() < 0.3


def test_every_pair_depends_on_itself_alone(samples):
    _, prepared = both(samples, DataConfig(crop_size=96))
    alone = prepare_pair(samples[2], DataConfig(crop_size=96), np.random.default_rng([3, 2]))
    together, single = render_batch(prepared, CPU), render_batch(collate_prepared([alone]), CPU)
    for name in ("image1", "image2", "aflow"):
        one, other = getattr(together, name)[2], getattr(single, name)[0]
        torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-3)


def test_the_noise_is_distributed_as_that_of_make_pair(samples):
    """On the same pairs, what the noise adds to image 2 has the same strength, pair by pair."""
    loud = replace(QUIET, noise=25.0, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)
    still = replace(loud, noise=0.0)
    strengths = []
    for k in (0, 1):
        with_noise, without = both(samples, loud)[k], both(samples, still)[k]
        if k:
            with_noise, without = render_batch(with_noise, CPU), render_batch(without, CPU)
        strengths.append(((with_noise.image2 - without.image2) * GREY_LEVELS).std(dim=(1, 2, 3)))
    torch.testing.assert_close(*strengths, rtol=0.06, atol=0.1)
    assert strengths[0].mean() > 2


@pytest.mark.parametrize("window", [Window(5, 5, 90, 90), Window(0, 0, 400, 380)])
def test_both_ways_of_drawing_a_field_agree(window):
    field = NoiseField.seen((600, 600), (500, 500), window, 96, 25.0)
    drawn = torch.stack([field.drawn(np.random.default_rng(k)) for k in range(8)])
    device = torch.stack([field.drawn_on(CPU, k) for k in range(8)])
    assert abs(float(drawn.mean() - device.mean())) < 0.1
    assert float(device.std()) == pytest.approx(float(drawn.std()), rel=0.02)
    step1, step2 = ((f[..., 1:] - f[..., :-1]).std() for f in (drawn, device))
    assert float(step2) == pytest.approx(float(step1), rel=0.02)


def test_colour_changes_of_a_batch_are_those_of_its_images():
    generator = torch.Generator().manual_seed(0)
    planes, whole = (255 * torch.rand(24, 3, n, generator=generator) for n in (500, 60))
    jitters = [Jitter.draw(DataConfig(), np.random.default_rng(k)) for k in range(24)]
    together = JitterBatch.of(jitters).apply(planes, whole)
    for k, jitter in enumerate(jitters):
        torch.testing.assert_close(together[k], jitter.apply(planes[k], whole[k]), atol=0.01, rtol=1e-4)


def test_without_windows_the_flow_is_unknown(samples, monkeypatch):
    monkeypatch.setattr("r2d2.data.pairs.plan.find_windows", lambda *args: None)
    prepared = collate_prepared([prepare_pair(samples[0], QUIET, np.random.default_rng(0))])
    rendered = prepared.to(CPU)
    assert torch.isnan(rendered.aflow).all()
    assert torch.isfinite(rendered.image1).all()


def test_prepared_pairs_and_others_make_one_batch_in_their_order(samples):
    pairs, prepared = [], []
    for k, path in enumerate(samples[:5]):
        pairs.append(make_pair(path, QUIET, np.random.default_rng([3, k])))
        prepared.append(prepare_pair(path, QUIET, np.random.default_rng([3, k])))
    refused = (("a.jpg", "is empty"),)
    mixed = [prepared[0], pairs[1], replace(prepared[2], refused=refused), pairs[3], prepared[4]]
    batch, expected = collate_prepared(mixed), collate_prepared(prepared).to(CPU)
    assert (len(batch), batch.samples, batch.refused) == (5, expected.samples, refused)
    made = batch.to(CPU)
    for name in ("image1", "image2", "aflow"):
        together, own = getattr(made, name), getattr(expected, name)
        torch.testing.assert_close(together[[0, 2, 4]], own[[0, 2, 4]], rtol=1e-4, atol=2e-3)
        assert torch.equal(together[1], getattr(pairs[1], name))
        assert torch.equal(together[3], getattr(pairs[3], name))
    assert torch.equal(collate_prepared(pairs).image1, collate(pairs).image1)


def test_of_what_travels_only_the_parts_of_photographs_are_in_shared_memory(samples):
    _, prepared = both(samples, DataConfig(crop_size=96))
    sent = ForkingPickler.dumps(prepared)
    # Positions, pixels for mean greys, and seeds go by value.
    assert len(sent) < 30_000 * len(prepared)
    received = pickle.loads(sent)
    assert received.parts.is_shared()
    for name in ("image1", "image2", "aflow"):
        assert torch.equal(getattr(received.to(CPU), name), getattr(prepared.to(CPU), name))


def test_what_travels_is_smaller_than_the_batch(samples):
    expected, prepared = both(samples, DataConfig())
    tensors = (prepared.parts, prepared.sizes, prepared.to_parts, prepared.whole, prepared.crop1_to_crop2)
    sent = sum(t.nbytes for t in tensors)
    assert sent < 0.5 * (expected.image1.nbytes + expected.image2.nbytes + expected.aflow.nbytes)


@pytest.mark.gpu
def test_a_gpu_makes_the_same_pairs(samples):
    _, prepared = both(samples, QUIET)
    here, there = render_batch(prepared, CPU), render_batch(prepared, torch.device("cuda"))
    torch.testing.assert_close(there.aflow.cpu(), here.aflow, rtol=1e-4, atol=1e-3)
    for name in ("image1", "image2"):
        torch.testing.assert_close(getattr(there, name).cpu(), getattr(here, name), rtol=1e-3, atol=2e-2)
