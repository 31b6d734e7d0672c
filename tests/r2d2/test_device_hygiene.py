"""On a GPU only what is listed is waited for, no operation mixes devices, and launches are few."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from dataclasses import replace

import numpy as np
import pytest
import torch
from pretended_gpu import CPU, GPU, PretendedGpu, numbers

from r2d2.checkpoint import load_checkpoint, restore_optimiser, save_checkpoint
from r2d2.config import DataConfig, TrainConfig
from r2d2.containers import PairBatch
from r2d2.data.pairs.batch_render import collate_prepared, prepare_pair
from r2d2.data.pairs.photo_pair import make_pair
from r2d2.data.photos import open_photos
from r2d2.data.share import ALONE, Share
from r2d2.extraction.inference import FastNetwork
from r2d2.extraction.keypoints import extract_keypoints
from r2d2.extraction.pyramid import pyramid
from r2d2.extraction.settings import ExtractionSettings
from r2d2.losses.config import LossConfig
from r2d2.losses.reliability import RELIABILITY_LOSSES
from r2d2.losses.similarity import SIMILARITIES
from r2d2.network import NETWORKS, build_network
from r2d2.network_config import NetworkConfig
from r2d2.training.device import ahead
from r2d2.training.epoch import make_optimiser, train_epoch
from r2d2.training.siamese import SiameseNetwork
from r2d2.warp import pixel_grid

SMALL = LossConfig(border=8, query_stride=4, patch_size=8)
EVERYTHING = ExtractionSettings(min_size=64, min_reliability=0.0, min_repeatability=0.0, top_k=200)


@pytest.fixture(autouse=True)
def _what_knows_no_meta(monkeypatch):
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    # In inference mode, what is made of several operations is seen as one.
    monkeypatch.setattr(torch, "inference_mode", lambda mode=True: torch.no_grad() if mode else nullcontext())


def random_batch(pairs, side, seed=0):
    generator = torch.Generator().manual_seed(seed)
    image1, image2 = torch.randn(2, pairs, 3, side, side, generator=generator)
    aflow = pixel_grid(side, side) * 1.05 + torch.randn(pairs, 2, side, side, generator=generator)
    aflow[0, :, :9] = torch.nan
    return PairBatch(image1, image2, aflow, tuple(f"noise {k}" for k in range(pairs)))


def trained(config, device, optimiser_state=None):
    siamese = SiameseNetwork(build_network(config.network, seed=0).to(device))
    optimiser = make_optimiser(siamese, config)
    for group in optimiser.param_groups:
        # As PyTorch chooses by itself where it finds a GPU.
        group["foreach"] = device == GPU
    return siamese, optimiser


def step_on_gpu(config, batches, share=ALONE):
    """What a pretended GPU without numbers is asked for in a step, after one that set things up."""
    with PretendedGpu(with_numbers=False) as gpu:
        siamese, optimiser = trained(config, GPU)
        for _ in range(2):
            gpu.forget()
            list(train_epoch(siamese, batches, config, optimiser, epoch=1, share=share))
    return gpu


@pytest.mark.parametrize("reliability", sorted(RELIABILITY_LOSSES))
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_step_of_full_size_waits_once_and_takes_less_than_700_launches(name, reliability):
    config = TrainConfig(NetworkConfig(name), LossConfig(reliability=reliability), pairs_per_worker=8)
    gpu = step_on_gpu(config, [random_batch(8, 192)])
    assert gpu.unexpected() == []
    assert gpu.of("waits") == 1
    assert gpu.launches.total() < 700


@pytest.mark.parametrize("similarity", sorted(SIMILARITIES))
def test_a_step_of_every_similarity_waits_once(similarity):
    config = TrainConfig(NetworkConfig("fast", 1, 8), LossConfig(similarity=similarity))
    gpu = step_on_gpu(config, [random_batch(2, 64)])
    assert gpu.unexpected() == []
    assert gpu.of("waits") == 1


@pytest.mark.parametrize("reliability", sorted(RELIABILITY_LOSSES))
def test_a_step_of_several_parts_waits_once_and_computes_what_a_cpu_does(reliability):
    config = TrainConfig(NetworkConfig("fast", 1, 8), LossConfig(reliability, border=8, query_stride=4))
    batches, share = [random_batch(2, 48), random_batch(2, 48, seed=1)], Share.of_worker(0, 1, 2)
    siamese, optimiser = trained(config, CPU)
    expected = list(train_epoch(siamese, batches, config, optimiser, 1, share))
    with PretendedGpu() as gpu:
        on_gpu, optimiser = trained(config, GPU)
        gpu.forget()
        reports = list(train_epoch(on_gpu, batches, config, optimiser, 1, share))
    assert gpu.of("waits") == 1
    for report, wanted in zip(reports, expected, strict=True):
        assert report.terms == pytest.approx(wanted.terms, rel=1e-4)
        assert report.statistics == pytest.approx(wanted.statistics, rel=1e-4)
        assert report.invalid_pairs == wanted.invalid_pairs
    for ours, theirs in zip(on_gpu.parameters(), siamese.parameters(), strict=True):
        torch.testing.assert_close(numbers(ours.grad), theirs.grad, rtol=1e-3, atol=5e-5)


def test_a_training_resumed_from_a_checkpoint_waits_once_a_step(tmp_path):
    config = TrainConfig(NetworkConfig("fast", 1, 8), SMALL)
    siamese, optimiser = trained(config, CPU)
    list(train_epoch(siamese, [random_batch(2, 48)], config, optimiser, epoch=1))
    save_checkpoint(tmp_path / "c", siamese.network, config, 0, optimiser=optimiser, step=1)
    (expected,) = train_epoch(siamese, [random_batch(2, 48, 1)], config, optimiser, epoch=1, start_step=1)
    with PretendedGpu() as gpu:
        checkpoint = load_checkpoint(tmp_path / "c")
        resumed = SiameseNetwork(checkpoint.network.to(GPU))
        optimiser = make_optimiser(resumed, config)
        restore_optimiser(optimiser, checkpoint)
        gpu.forget()
        (report,) = train_epoch(resumed, [random_batch(2, 48, 1)], config, optimiser, epoch=1, start_step=1)
    assert gpu.unexpected() == []
    assert gpu.of("waits") == 1
    assert report.total == pytest.approx(expected.total, rel=1e-4)


@pytest.mark.parametrize("mixed", [False, True])
def test_pixels_made_on_a_gpu_are_not_waited_for(mixed):
    files = open_photos("samples").files[:3]
    # Without noise: there is no generator of random numbers on this device.
    config = DataConfig(noise=0.0, crop_size=64)
    makers = (prepare_pair, make_pair if mixed else prepare_pair, prepare_pair)
    pairs = [
        make(file, config, np.random.default_rng(k))
        for k, (make, file) in enumerate(zip(makers, files, strict=True))
    ]
    expected = collate_prepared(pairs).to(CPU)
    with PretendedGpu() as gpu:
        ((_, batch),) = ahead([collate_prepared(pairs)], GPU)
    assert gpu.found == {}
    for name in ("image1", "image2", "aflow"):
        ours, theirs = numbers(getattr(batch, name)), getattr(expected, name)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-3, equal_nan=True)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_extraction_waits_once_a_level_and_for_its_three_results(name, exact):
    settings = replace(EVERYTHING, exact=exact)
    network = build_network(NetworkConfig(name, 1, 8), seed=0).eval()
    image = torch.randn(3, 96, 128, generator=torch.Generator().manual_seed(0))
    expected = extract_keypoints(network, image, settings)
    with PretendedGpu() as gpu:
        network = network.to(GPU)
        gpu.forget()
        found = extract_keypoints(network, image, settings)
    assert gpu.unexpected() == []
    assert gpu.of("waits") == 3 + len(list(pyramid(image[None], settings)))
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4)
    # Scores that are nearly equal may change places, since tensors lie otherwise in memory here.
    both = {tuple(map(tuple, keypoints.round(3))) for keypoints in (found.keypoints, expected.keypoints)}
    shared = set.intersection(*map(set, both)) if len(both) > 1 else set(*both)
    assert len(shared) >= 0.95 * len(expected.keypoints)


def test_the_maps_of_an_image_of_full_size_take_less_than_1000_launches():
    network = build_network(NetworkConfig("fast"), seed=0).eval()
    with PretendedGpu(with_numbers=False) as gpu:
        fast = FastNetwork(network.to(GPU), torch.float16)
        image = torch.zeros(1, 3, 768, 1024, device=GPU)
        gpu.forget()
        levels = [fast(level) for _, level in pyramid(image, ExtractionSettings())]
    assert len(levels) > 5
    # Each level has 25 more, for its maxima and their descriptors.
    assert gpu.launches.total() + 25 * len(levels) < 1000


PLANTED = {
    "mixes": lambda there: there + torch.ones(4),
    "blocks": lambda there: there.copy_(torch.ones(4)),
    "blocks by new_tensor": lambda there: there.new_tensor([1.0, 2.0]),
    "blocks by tensor": lambda there: torch.tensor([1.0, 2.0], device=there.device),
    "blocks though it must not, from memory that is not pinned": lambda there: torch.ones(4).to(
        there.device, non_blocking=True
    ),
    "waits for a number": lambda there: there.sum().item(),
    "waits for numbers": lambda there: there.tolist(),
    "waits for a copy": lambda there: there.cpu(),
    "waits for nonzero": lambda there: there.nonzero(),
    "waits for a mask": lambda there: there[there > 0],
    "waits for a masked write": lambda there: there.masked_select(there > 0),
    "waits for a condition": lambda there: bool((there > 0).any()),
}


@pytest.mark.parametrize("planted", sorted(PLANTED))
def test_what_is_planted_is_found_with_its_line(planted):
    with PretendedGpu() as gpu:
        there = torch.ones(4).to(GPU)
        gpu.forget()
        # PyTorch itself refuses to mix devices.
        with suppress(RuntimeError):
            PLANTED[planted](there)
    (line,) = gpu.unexpected()
    assert line.startswith("tests/r2d2/test_device_hygiene.py:")
    assert planted.split()[0] in line


def test_what_is_planted_is_counted_as_launches():
    with PretendedGpu() as gpu:
        there = torch.ones(4, 4).to(GPU)
        gpu.forget()
        (there * 2 + 1).T.sum().reshape(1)
    assert gpu.launches.total() == 3


def test_copies_from_pinned_memory_and_views_are_free_of_blame():
    with PretendedGpu() as gpu:
        there = torch.ones(4).pin_memory().to(GPU, non_blocking=True)
        there.add_(1).view(2, 2).T.contiguous()
    assert gpu.unexpected() == []
    assert numbers(there).tolist() == [2.0] * 4
