"""Float32 means what the setting says, forwards and backwards, and the former meaning is given back."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from pretended_gpu import PretendedGpu
from torch.utils._python_dispatch import TorchDispatchMode

from r2d2.config import ComputeConfig, TrainConfig
from r2d2.containers import PairBatch
from r2d2.losses.average_precision import average_precision
from r2d2.losses.config import LossConfig
from r2d2.losses.pair_loss import pair_loss
from r2d2.losses.reliability import RELIABILITY_LOSSES
from r2d2.network import NETWORKS, build_network
from r2d2.network_config import NetworkConfig
from r2d2.processor import arithmetic
from r2d2.processor.arithmetic import IEEE, TF32, float32_as, in_fixed_order
from r2d2.training.device import arithmetic_of
from r2d2.training.epoch import make_optimiser, train_epoch
from r2d2.training.siamese import SiameseNetwork
from r2d2.warp import pixel_grid, sample_in_fixed_order, warp

CPU, GPU, META = (torch.device(name) for name in ("cpu", "cuda", "meta"))
LOSS = LossConfig(border=8, query_stride=4, patch_size=8)

# Of what PyTorch documents as refused on a GPU in deterministic mode, what a training could meet.
REFUSED = {
    "grid_sampler_2d_backward",
    "upsample_bilinear2d_backward",
    "cumsum",
    "bincount",
    "histc",
    "median.dim",
    "put_",
    "reflection_pad2d_backward",
    "adaptive_avg_pool2d_backward",
}


def meanings():
    return torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision


@pytest.mark.parametrize("wanted", [IEEE, TF32])
def test_convolutions_on_a_gpu_are_as_asked_and_products_exact_and_the_setting_is_given_back(wanted):
    former = meanings()
    with float32_as(wanted, GPU):
        assert meanings() == (wanted, IEEE)
        with float32_as(wanted, CPU):
            assert meanings() == (wanted, IEEE)
    assert meanings() == former


@pytest.mark.parametrize(("precision", "meaning"), [("float32", IEEE), ("tf32", TF32), ("bfloat16", IEEE)])
def test_each_precision_says_what_float32_means(precision, meaning):
    """In bfloat16 what is left in float32, the heads and the losses, is not rounded besides."""
    with arithmetic_of(ComputeConfig(precision), GPU):
        assert meanings() == (meaning, IEEE)


@pytest.fixture
def batch():
    images = torch.randn(2, 2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    return PairBatch(images[0], images[1], (pixel_grid(48, 48) + 0.5).repeat(2, 1, 1, 1), ("a", "b"))


def test_a_step_is_inside_forwards_and_backwards(batch, monkeypatch):
    seen = []
    config = TrainConfig(NetworkConfig("fast", 1, 8), LOSS, compute=ComputeConfig("tf32", deterministic=True))
    siamese = SiameseNetwork(build_network(config.network, seed=0), compute=config.compute)
    siamese.network.clf.weight.register_hook(lambda _: seen.append(state()))
    siamese.network.register_forward_hook(lambda *_: seen.append(state()))

    def state():
        return torch.backends.cudnn.conv.fp32_precision, torch.are_deterministic_algorithms_enabled()

    # As if it were a GPU, whose flags can be set without one.
    gpu = arithmetic._convolutions_as
    monkeypatch.setattr(arithmetic, "_convolutions_as", lambda wanted, _: gpu(wanted, GPU))
    former = state()
    for _ in train_epoch(siamese, [batch], config, make_optimiser(siamese, config), epoch=1):
        assert state() == former
    assert seen == [(TF32, True)] * 3
    assert state() == former


def test_on_a_cpu_all_but_bfloat16_are_the_same(batch):
    def weights(**compute):
        config = TrainConfig(NetworkConfig("fast", 1, 8), LOSS, compute=ComputeConfig(**compute))
        siamese = SiameseNetwork(build_network(config.network, seed=0), compute=config.compute)
        list(train_epoch(siamese, [batch], config, make_optimiser(siamese, config), epoch=1))
        return torch.cat([parameter.flatten() for parameter in siamese.parameters()])

    usual = weights()
    assert torch.equal(weights(precision="tf32"), usual)
    assert torch.equal(weights(deterministic=True), usual)
    assert not torch.equal(weights(precision="bfloat16"), usual)


class Operations(TorchDispatchMode):
    """Notes the names of all operations."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(str(function).removeprefix("aten.").removesuffix(".default"))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize("reliability", sorted(RELIABILITY_LOSSES))
@pytest.mark.parametrize("deterministic", [True, False])
def test_a_deterministic_step_has_no_operation_that_a_gpu_would_refuse(
    monkeypatch, name, reliability, deterministic
):
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # It does not know `meta`.
    network = build_network(NetworkConfig(name, 1, 8), seed=0).train().to(META)
    images, aflow = torch.zeros(2, 3, 48, 48, device=META), torch.zeros(2, 2, 48, 48, device=META)
    config = LossConfig(reliability=reliability, border=8, query_stride=4, patch_size=8)
    with PretendedGpu(with_numbers=False), float32_as(IEEE, META, deterministic), Operations() as met:
        loss = pair_loss(network(images), network(images), aflow, config, torch.Generator().manual_seed(0))
        loss.total.backward()
    expected = (
        set()
        if deterministic
        else REFUSED
        & {
            "grid_sampler_2d_backward",
            *(["upsample_bilinear2d_backward"] if name == "fast" else []),
            *(["cumsum"] if reliability == "ap" else []),
        }
    )
    assert met.names & REFUSED == expected


def test_maps_are_sampled_as_by_pytorch_with_the_same_gradient():
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(2, 3, 13, 17, generator=generator, dtype=torch.float64)
    grid = torch.randn(2, 9, 11, 2, generator=generator, dtype=torch.float64)
    grid[0, 0, 0] = torch.tensor([-1.0, 1.0])
    grid[1, 0, 0] = -1e4
    given = torch.rand(2, 3, 9, 11, generator=generator, dtype=torch.float64)
    results = []
    for sample in (
        sample_in_fixed_order,
        lambda m, g: torch.nn.functional.grid_sample(m, g, align_corners=True),
    ):
        leaf = maps.clone().requires_grad_()
        sampled = sample(leaf, grid)
        sampled.backward(given)
        results.append((sampled.detach(), leaf.grad))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_what_is_replaced_in_a_fixed_order_is_the_same_up_to_rounding(monkeypatch):
    """On a CPU nothing is replaced, so that its numbers do not depend on the setting."""
    generator = torch.Generator().manual_seed(0)
    maps, aflow = torch.rand(1, 1, 20, 20, generator=generator), pixel_grid(20, 20)[None] * 1.1
    scores = torch.rand(5, 40, generator=generator)
    labels = torch.rand(5, 40, generator=generator) < 0.3
    with float32_as(IEEE, CPU, deterministic=True):
        assert not in_fixed_order(maps)
    usual = warp(maps, aflow)[0], average_precision(scores, labels)
    for module in ("r2d2.warp", "r2d2.losses.average_precision"):
        monkeypatch.setattr(f"{module}.in_fixed_order", lambda _: True)
    for found, expected in zip((warp(maps, aflow)[0], average_precision(scores, labels)), usual, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_on_several_threads_gradients_of_repeated_pixels_add_in_one_order():
    """Without the setting they differ from run to run."""
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(0, 50, (4000,), generator=generator)
    given = torch.randn(4000, 128, generator=generator)

    def gradient():
        leaf = torch.zeros(50, 128, requires_grad=True)
        leaf[index].backward(given)
        return leaf.grad

    with float32_as(IEEE, CPU, deterministic=True):
        first = gradient()
        assert all(torch.equal(gradient(), first) for _ in range(20))


def test_cublas_gets_its_workspace(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with float32_as(IEEE, CPU):
        assert "CUBLAS_WORKSPACE_CONFIG" not in arithmetic.os.environ
    with float32_as(IEEE, CPU, deterministic=True):
        assert arithmetic.os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
