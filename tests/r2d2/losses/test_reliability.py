"""The reliability losses, whichever exist: the reference, what R is paid for, queries that do not count."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from r2d2.config import TrainConfig
from r2d2.containers import DenseFeatures
from r2d2.losses import reliability as module
from r2d2.losses import sampling
from r2d2.losses.config import LossConfig
from r2d2.losses.reliability import RELIABILITY_LOSSES, register, reliability_loss
from r2d2.network import build_network
from r2d2.network_config import NetworkConfig
from r2d2.warp import pixel_grid

every_loss = pytest.mark.parametrize("name", sorted(RELIABILITY_LOSSES))
SMALL = LossConfig(border=3, query_stride=3)


def grid_loss(features1, features2, aflow, **settings):
    config = LossConfig(query_grid=True, **settings)
    return reliability_loss(features1, features2, aflow, config, torch.Generator())[0]


def small_loss(features1, features2, aflow, config=SMALL):
    return reliability_loss(features1, features2, aflow, config, torch.Generator().manual_seed(0))[0]


def random_features(batch=2, dim=6, side=14, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    descriptors = torch.randn(batch, dim, side, side, generator=generator, dtype=dtype)
    maps = torch.rand(2, batch, 1, side, side, generator=generator, dtype=dtype) * 0.8 + 0.1
    return DenseFeatures(torch.nn.functional.normalize(descriptors, dim=1), maps[0], maps[1])


def with_reliability(features, value):
    reliability = torch.full_like(features.reliability, value).requires_grad_()
    return replace(features, reliability=reliability)


def no_motion(batch=2, side=14):
    return pixel_grid(side, side).expand(batch, -1, -1, -1).clone()


def assert_equals_reference(gradient, expected):
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


def test_ap_loss_and_gradient_equal_the_reference(losses, reference):
    features1, features2, aflow = reference()
    loss = grid_loss(features1, features2, aflow)
    assert loss.item() == pytest.approx(losses["reliability_loss"].item(), rel=1e-5)
    loss.backward()
    for number, features in enumerate((features1, features2), start=1):
        for name in ("descriptors", "reliability"):
            expected = losses[f"reliability_loss/grad_{name}{number}"]
            assert_equals_reference(getattr(features, name).grad, expected)


def test_ap_loss_with_queries_that_leave_the_image_equals_the_reference(losses, reference):
    features1, features2, aflow = reference(second=True)
    loss = grid_loss(features1, features2, aflow)
    assert loss.item() == pytest.approx(losses["second/reliability_loss"].item(), rel=1e-5)
    loss.backward()
    assert_equals_reference(features1.descriptors.grad, losses["second/grad_descriptors1"])
    assert_equals_reference(features2.reliability.grad, losses["second/grad_reliability2"])


@pytest.mark.parametrize("second", [False, True])
def test_hardnet_loss_equals_the_reference(losses, reference, second):
    expected = losses["second/hardnet_reliability_loss" if second else "hardnet_reliability_loss"].item()
    assert grid_loss(*reference(second), reliability="hardnet").item() == pytest.approx(expected, rel=1e-5)


def test_hardnet_cost_of_each_query_equals_the_reference(losses, reference):
    features1, features2, aflow = reference()
    kappa = losses["hardnet_reliability/kappa"].item()
    config = LossConfig(reliability="hardnet", query_grid=True, kappa=kappa)
    matches = reliability_loss(features1, features2, aflow, config, torch.Generator())[1]
    costs = module.hardnet(matches, config)[matches.valid].double()
    reliability = losses["hardnet_reliability/reliability"]
    expected = reliability * losses["hardnet_reliability/per_query"] + (1 - reliability) * kappa
    torch.testing.assert_close(costs, expected, rtol=1e-5, atol=0)


@every_loss
@pytest.mark.parametrize("anchor_swap", [False, True])
def test_gradient(name, anchor_swap):
    config = replace(SMALL, reliability=name, anchor_swap=anchor_swap)
    features1, features2 = (random_features(seed=seed, dtype=torch.float64) for seed in (1, 2))
    aflow = no_motion()
    aflow[0, :, 5:8] = torch.nan

    def loss(descriptors1, descriptors2, reliability1, reliability2):
        first = DenseFeatures(descriptors1, reliability1, features1.repeatability)
        second = DenseFeatures(descriptors2, reliability2, features2.repeatability)
        return small_loss(first, second, aflow, config)

    maps = [features1.descriptors, features2.descriptors, features1.reliability, features2.reliability]
    inputs = [tensor.requires_grad_() for tensor in maps]
    assert torch.autograd.gradcheck(loss, inputs, fast_mode=True)


@every_loss
def test_a_network_that_matches_well_is_paid_for_reliability_and_one_that_matches_badly_is_not(name):
    config = replace(SMALL, reliability=name)
    features = random_features(dim=64)
    for other, wanted in ((features, 1.0), (replace(features, descriptors=-features.descriptors), 0.0)):
        first, second = with_reliability(features, 0.5), with_reliability(other, 0.5)
        small_loss(first, second, no_motion(), config).backward()
        pull = -first.reliability.grad.sum().sign().item()
        assert pull == (1 if wanted else -1)


def test_calling_everything_unreliable_costs_ap_floor_or_kappa_so_that_r_cannot_collapse():
    features = with_reliability(random_features(), 0.0)
    ap = replace(SMALL, ap_floor=0.3)
    assert small_loss(features, features, no_motion(), ap).item() == pytest.approx(1 - 0.3)
    hardnet = replace(SMALL, reliability="hardnet", kappa=0.7)
    assert small_loss(features, features, no_motion(), hardnet).item() == pytest.approx(0.7)


def test_hardnet_looks_at_sparse_anchors_so_equal_images_cost_little():
    features = with_reliability(random_features(dim=64), 1.0)
    config = replace(SMALL, reliability="hardnet")
    assert small_loss(features, features, no_motion(), config).item() < 0.2


def test_anchor_swap_finds_harder_negatives():
    features1, features2 = (with_reliability(random_features(seed=seed), 1.0) for seed in (1, 2))
    plain = replace(SMALL, reliability="hardnet")
    swapped = replace(plain, anchor_swap=True)
    losses = [small_loss(features1, features2, no_motion(), config).item() for config in (plain, swapped)]
    assert losses[0] < losses[1]


@every_loss
def test_queries_that_leave_the_image_do_not_matter(name):
    config = replace(SMALL, reliability=name, query_grid=True, anchor_swap=True)
    features1, features2 = random_features(seed=1), random_features(seed=2)
    aflow = no_motion()
    aflow[0, :, 6, 6] = torch.nan
    aflow[1, 0, 9, 3] = 14.0
    loss = small_loss(features1, features2, aflow, config)
    features1.descriptors[0, :, 6, 6] = features1.descriptors[1, :, 9, 3] = features1.descriptors[1, :, 9, 9]
    features1.reliability[0, :, 6, 6] = 0.99
    assert small_loss(features1, features2, aflow, config).item() == pytest.approx(loss.item(), rel=1e-6)


@every_loss
def test_the_mean_is_over_valid_queries(name):
    config = replace(SMALL, reliability=name, query_grid=True)
    features1, features2 = random_features(seed=1), random_features(seed=2)
    aflow = no_motion()
    aflow[1] = torch.nan
    loss, matches = reliability_loss(features1, features2, aflow, config, torch.Generator())
    costs = RELIABILITY_LOSSES[name](matches, config)
    assert matches.valid.sum(dim=1).tolist() == [9, 0]
    torch.testing.assert_close(loss, costs[0].mean())


@every_loss
@pytest.mark.parametrize("why", ["unknown flow", "flow leaves the image", "no room for a query"])
def test_without_a_valid_query_the_loss_is_0_and_pulls_nowhere(name, why):
    features1, features2 = random_features(seed=1), random_features(seed=2)
    maps = (features1.descriptors, features1.reliability, features2.descriptors, features2.reliability)
    for tensor in maps:
        tensor.requires_grad_()
    aflow = {"unknown flow": torch.nan, "flow leaves the image": 500.0, "no room for a query": 5.0}[why]
    config = replace(SMALL, reliability=name, border=7 if why == "no room for a query" else 3)
    loss, matches = reliability_loss(
        features1, features2, torch.full((2, 2, 14, 14), aflow), config, torch.Generator()
    )
    loss.backward()
    assert loss.item() == 0
    assert not matches.valid.any()
    assert all((tensor.grad == 0).all() for tensor in maps)


@every_loss
def test_queries_come_from_the_generator(name):
    config = replace(SMALL, reliability=name)
    features1, features2 = random_features(seed=1), random_features(seed=2)

    def loss(seed):
        generator = torch.Generator().manual_seed(seed)
        return reliability_loss(features1, features2, no_motion(), config, generator)[0].item()

    assert loss(1) == loss(1)
    assert loss(1) != loss(2)


def test_distractors_of_the_whole_batch_count():
    config = replace(SMALL, query_grid=True)
    features1, features2 = random_features(seed=1), random_features(seed=2)
    loss, matches = reliability_loss(features1, features2, no_motion(), config, torch.Generator())
    assert sampling.distractor_scores(matches).shape == (2, 9, 2 * 9)
    halves = [
        reliability_loss(
            DenseFeatures(*[t[i : i + 1] for t in vars(features1).values()]),
            DenseFeatures(*[t[i : i + 1] for t in vars(features2).values()]),
            no_motion(1),
            config,
            torch.Generator(),
        )[0]
        for i in (0, 1)
    ]
    assert loss.item() > (halves[0] + halves[1]).item() / 2


def test_a_new_reliability_loss_is_one_function_and_is_known_everywhere(monkeypatch):
    monkeypatch.setattr(module, "RELIABILITY_LOSSES", RELIABILITY_LOSSES.copy())

    @register
    def distrust(matches, config):
        return matches.reliability

    config = TrainConfig(loss=replace(SMALL, reliability="distrust")).loss
    features = with_reliability(random_features(), 0.25)
    assert small_loss(features, features, no_motion(), config).item() == pytest.approx(0.25)


def test_an_unknown_reliability_loss_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown reliability 'hadnet'.*known: ap, hardnet"):
        TrainConfig(loss=LossConfig(reliability="hadnet"))


def test_an_untrained_network_pays_the_margin_so_hardnet_from_scratch_wants_kappa_near_1():
    network = build_network(NetworkConfig("fast", channels=1, dim=32), seed=0).eval()
    images = torch.randn(2, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    pulls = {}
    for kappa in (0.5, 1.2):
        features1, features2 = network(images[0]), network(images[0] + 0.3 * images[1])
        config = replace(SMALL, reliability="hardnet", kappa=kappa)
        first = with_reliability(features1, 0.5)
        small_loss(first, features2, no_motion(side=64), config).backward()
        pulls[kappa] = -first.reliability.grad.sum().sign().item()
    assert pulls == {0.5: -1, 1.2: 1}
