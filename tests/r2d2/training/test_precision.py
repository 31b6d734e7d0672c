"""In bfloat16 the layers are rounded; maps, losses and weights stay float32, and gradients keep their way."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from r2d2.config import ComputeConfig, TrainConfig
from r2d2.containers import PairBatch
from r2d2.losses.config import LossConfig
from r2d2.losses.pair_loss import pair_loss
from r2d2.network import build_network
from r2d2.network_config import NetworkConfig
from r2d2.schedule import OptimiserConfig
from r2d2.training.epoch import make_optimiser, train_epoch
from r2d2.training.siamese import SiameseNetwork
from r2d2.training.step import NonFiniteLoss
from r2d2.warp import pixel_grid

SIDE, SHIFT = 48, 3
LOSS = LossConfig(border=8, query_stride=4, patch_size=8)


@pytest.fixture
def batch():
    """A smooth random texture, and the same moved by 3 px."""
    coarse = torch.randn(2, 3, 18, 18, generator=torch.Generator().manual_seed(0))
    texture = torch.nn.functional.interpolate(coarse, size=(SIDE, SIDE + SHIFT), mode="bicubic")
    aflow = (pixel_grid(SIDE, SIDE) - torch.tensor([SHIFT, 0.0]).view(2, 1, 1)).expand(2, -1, -1, -1)
    return PairBatch(texture[..., :SIDE], texture[..., SHIFT:], aflow.clone(), ("a", "b"))


def make(name, precision):
    network = build_network(NetworkConfig(name, channels=1, dim=16), seed=0)
    return SiameseNetwork(network, compute=ComputeConfig(precision)).train()


def loss_and_gradient(siamese, batch):
    features = siamese(batch.image1, batch.image2)
    loss = pair_loss(*features, batch.aflow, LOSS, torch.Generator().manual_seed(1))
    gradients = torch.autograd.grad(loss.total, list(siamese.parameters()), allow_unused=True)
    return loss, torch.cat([g.flatten() for g in gradients if g is not None])


@pytest.mark.parametrize("name", ["fast", "quad"])
def test_losses_and_the_direction_of_the_gradient_are_those_of_float32(name, batch):
    """Of a network that has learnt something: in an untrained one rounding decides which pixel is best."""
    exact, short = make(name, "float32"), make(name, "bfloat16")
    train(exact, [batch] * 40)
    short.load_state_dict(exact.state_dict())
    expected, gradient = loss_and_gradient(exact, batch)
    found, rounded = loss_and_gradient(short, batch)
    assert not torch.equal(gradient, rounded)
    assert rounded.dtype == torch.float32
    for term, value in expected.terms.items():
        # Terms lie in [0, 1]; one that has almost vanished differs by rounding, not by a share of itself.
        torch.testing.assert_close(found.terms[term], value, rtol=0.02, atol=1e-4)
    assert torch.cosine_similarity(gradient, rounded, dim=0) > 0.98


def train(siamese, batches):
    config = TrainConfig(loss=LOSS, optimiser=OptimiserConfig(learning_rate=3e-3))
    return list(train_epoch(siamese, batches, config, make_optimiser(siamese, config), epoch=1))


def test_maps_and_weights_are_float32(batch):
    siamese = make("fast", "bfloat16")
    for features in siamese(batch.image1, batch.image2):
        assert {tensor.dtype for tensor in vars(features).values()} == {torch.float32}
        torch.testing.assert_close(features.descriptors.norm(dim=1), torch.ones(2, SIDE, SIDE))
    assert {parameter.dtype for parameter in siamese.parameters()} == {torch.float32}


def test_the_loss_falls_in_bfloat16(batch):
    reports = train(make("fast", "bfloat16"), [batch] * 25)
    assert reports[-1].total < 0.9 * reports[0].total


def test_what_is_not_finite_is_found_in_bfloat16_too(batch):
    image = batch.image1.clone()
    image[0, 0, 5, 5] = torch.nan
    siamese = make("fast", "bfloat16")
    with pytest.raises(NonFiniteLoss, match="the loss is not finite"):
        train(siamese, [replace(batch, image1=image)])
    assert all(torch.isfinite(parameter).all() for parameter in siamese.parameters())
