"""The loss of a batch: the weighted sum, what is counted, and that nothing ever makes it NaN."""

from __future__ import annotations

import pytest
import torch

from r2d2.containers import DenseFeatures
from r2d2.losses.config import LossConfig
from r2d2.losses.pair_loss import pair_loss
from r2d2.losses.reliability import RELIABILITY_LOSSES
from r2d2.losses.similarity import SIMILARITIES
from r2d2.warp import pixel_grid

SIDE = 24
SMALL = {"border": 4, "query_stride": 4, "patch_size": 8}


def random_features(seed, batch=2, height=SIDE, width=SIDE):
    generator = torch.Generator().manual_seed(seed)
    descriptors = torch.randn(batch, 6, height, width, generator=generator)
    maps = torch.rand(2, batch, 1, height, width, generator=generator)
    return DenseFeatures(torch.nn.functional.normalize(descriptors, dim=1), maps[0], maps[1])


def no_motion(batch=2, height=SIDE, width=SIDE):
    return pixel_grid(height, width).expand(batch, -1, -1, -1).clone()


def loss_of(features1, features2, aflow, **settings):
    return pair_loss(features1, features2, aflow, LossConfig(**SMALL | settings), torch.Generator())


def with_maps(features, **values):
    maps = {name: torch.full_like(getattr(features, name), value) for name, value in values.items()}
    return DenseFeatures(**vars(features) | maps)


def situation(name):
    features1, features2, aflow = random_features(1), random_features(2), no_motion()
    if name == "no flow":
        aflow[:] = torch.nan
    elif name == "flow of one pair":
        aflow[1] = torch.nan
    elif name == "flow of one pixel":
        aflow[:, :, torch.arange(SIDE) != 9] = torch.nan
        aflow[..., torch.arange(SIDE) != 9] = torch.nan
    elif name == "flow leaves the image":
        aflow += 1000
    elif name == "infinite flow":
        aflow[:] = torch.inf
    elif name == "negative scores":
        features2 = DenseFeatures(-features1.descriptors, features2.reliability, features2.repeatability)
    elif name == "equal images":
        features2 = features1
    elif name == "equal descriptors everywhere":
        flat = features1.descriptors[:1, :, :1, :1].expand_as(features1.descriptors)
        features1 = DenseFeatures(flat, features1.reliability, features1.repeatability)
        features2 = DenseFeatures(flat, features2.reliability, features2.repeatability)
    else:
        values = {
            "descriptors of zeros": {"descriptors": 0.0},
            "flat maps": {"repeatability": 0.735, "reliability": 0.5},
            "maps of zeros": {"repeatability": 0.0, "reliability": 0.0},
            "tiny maps": {"repeatability": 1e-30, "reliability": 1e-30},
            "maps of ones": {"repeatability": 1.0, "reliability": 1.0},
        }[name]
        features1, features2 = with_maps(features1, **values), with_maps(features2, **values)
    return features1, features2, aflow


SITUATIONS = [
    "no flow",
    "flow of one pair",
    "flow of one pixel",
    "flow leaves the image",
    "infinite flow",
    "negative scores",
    "equal images",
    "equal descriptors everywhere",
    "descriptors of zeros",
    "flat maps",
    "maps of zeros",
    "tiny maps",
    "maps of ones",
]


@pytest.mark.parametrize("reliability", sorted(RELIABILITY_LOSSES))
@pytest.mark.parametrize("similarity", sorted(SIMILARITIES))
@pytest.mark.parametrize("name", SITUATIONS)
def test_value_and_gradients_are_finite(name, reliability, similarity):
    features1, features2, aflow = situation(name)
    leaves = [t.detach().clone().requires_grad_() for f in (features1, features2) for t in vars(f).values()]
    loss = loss_of(
        DenseFeatures(*leaves[:3]),
        DenseFeatures(*leaves[3:]),
        aflow,
        reliability=reliability,
        similarity=similarity,
    )
    loss.total.backward()
    assert loss.total.isfinite()
    assert all(leaf.grad.isfinite().all() for leaf in leaves)


def test_total_is_the_weighted_sum_of_the_terms():
    inputs = random_features(1), random_features(2), no_motion()
    loss = loss_of(*inputs, weight_reliability=2.0, weight_similarity=0.5, weight_peakiness=3.0)
    terms = loss.terms
    assert list(terms) == ["reliability", "similarity", "peakiness"]
    expected = 2 * terms["reliability"] + 0.5 * terms["similarity"] + 3 * terms["peakiness"]
    torch.testing.assert_close(loss.total, expected)
    assert not any(term.requires_grad for term in terms.values())


@pytest.mark.parametrize("weighted", ["reliability", "similarity", "peakiness"])
def test_a_term_without_weight_pulls_nowhere(weighted):
    leaves = [t.requires_grad_() for t in vars(random_features(1)).values()]
    weights = {
        f"weight_{name}": float(name == weighted) for name in ("reliability", "similarity", "peakiness")
    }
    loss_of(DenseFeatures(*leaves), random_features(2), no_motion(), **weights).total.backward()
    descriptors, reliability, repeatability = (bool((leaf.grad != 0).any()) for leaf in leaves)
    assert descriptors == reliability == (weighted == "reliability")
    assert repeatability == (weighted != "reliability")


def test_queries_are_counted():
    features1, features2 = random_features(1), with_maps(random_features(2), reliability=0.5)
    features1 = with_maps(features1, reliability=0.7)
    aflow = no_motion()
    aflow[1] = torch.nan
    statistics = loss_of(features1, features2, aflow, query_grid=True).statistics
    assert statistics == pytest.approx(
        {"valid_queries": 16, "pairs_without_query": 1, "query_reliability": 0.6}
    )
    aflow[0] = torch.nan
    statistics = loss_of(features1, features2, aflow, query_grid=True).statistics
    assert statistics == {"valid_queries": 0, "pairs_without_query": 2, "query_reliability": 0}


def test_flow_beyond_maps_that_are_a_pixel_smaller_is_ignored():
    maps = random_features(1, height=24, width=26), random_features(2, height=24, width=26)
    odd = no_motion(height=25, width=27)
    assert loss_of(*maps, odd).total.item() == loss_of(*maps, odd[..., :24, :26]).total.item()


def test_image_2_may_have_another_size():
    loss = loss_of(random_features(1), random_features(2, height=30, width=40), no_motion())
    assert loss.total.isfinite()


@pytest.mark.real_size
def test_a_full_size_batch_keeps_less_beside_its_maps_than_the_descriptors_of_one_image_take():
    features = [random_features(seed, batch=8, height=192, width=192) for seed in (1, 2)]
    features = [
        DenseFeatures(
            f.descriptors.repeat(1, 22, 1, 1)[:, :128].contiguous().requires_grad_(),
            f.reliability,
            f.repeatability,
        )
        for f in features
    ]
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        pair_loss(*features, no_motion(8, 192, 192), LossConfig(), torch.Generator()).total.backward()
    maps = features[0].descriptors.untyped_storage().nbytes()
    assert sum(kept.values()) < 3 * maps
