"""What every similarity promises, whichever exist: values, range, gradients, and how pixels are left out."""

from __future__ import annotations

import inspect
import itertools
import math
import re
import sys
from pathlib import Path

import pytest
import torch

from r2d2.config import TrainConfig
from r2d2.losses import similarity as module
from r2d2.losses.config import LossConfig
from r2d2.losses.similarity import SIMILARITIES, cut_patches, register, similarity_loss
from r2d2.warp import pixel_grid

every_similarity = pytest.mark.parametrize("name", sorted(SIMILARITIES))
# Those of the study, whose values were worked out elsewhere; a new one may have no such numbers.
with_reference = pytest.mark.parametrize(
    "name", ["cosine", "czekanowski", "dice", "jaccard", "squared_chord"]
)

# The smallest value, where it is not 0.
LOWEST = {"squared_chord": -1}


def random_maps(*shape, seed=0, dtype=torch.float32):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) * 0.9 + 0.05


def no_motion(batch, height, width):
    return pixel_grid(height, width).expand(batch, -1, -1, -1).clone()


@with_reference
def test_values_of_patches_equal_the_reference(losses, name):
    values = SIMILARITIES[name](losses["similarity/patches1"], losses["similarity/patches2"])
    torch.testing.assert_close(values.double(), losses[f"similarity/{name}"], rtol=1e-5, atol=0)


@with_reference
def test_loss_of_masked_maps_equals_the_reference(losses, reference, name):
    features1, features2, aflow = reference()
    loss = similarity_loss(features1.repeatability, features2.repeatability, aflow, name, 16)
    assert loss.item() == pytest.approx(losses[f"masked/{name}_loss"].item(), rel=1e-5)


def test_loss_and_gradient_without_masked_pixels_equal_the_reference(losses, reference):
    features1, features2, aflow = reference()
    loss = similarity_loss(features1.repeatability[:1], features2.repeatability[:1], aflow[:1], "cosine", 16)
    assert loss.item() == pytest.approx(losses["cosine_first_pair_loss"].item(), rel=1e-5)
    loss.backward()
    for number, features in enumerate((features1, features2), start=1):
        expected = losses[f"cosine_first_pair_loss/grad_repeatability{number}"]
        largest = expected.abs().max().item()
        torch.testing.assert_close(features.repeatability.grad[:1], expected, rtol=1e-5, atol=1e-5 * largest)


@every_similarity
def test_identical_maps_cost_nothing(name):
    maps = random_maps(2, 1, 32, 40)
    assert similarity_loss(maps, maps, no_motion(2, 32, 40), name, 16).item() == pytest.approx(0, abs=1e-5)


@every_similarity
def test_flat_maps_cost_nothing_which_is_why_peakiness_exists(name):
    flat = torch.full((1, 1, 32, 32), 0.735)
    assert similarity_loss(flat, flat, no_motion(1, 32, 32), name, 16).item() == pytest.approx(0, abs=1e-5)


@every_similarity
def test_patches_are_compared_one_by_one_alike_in_both_directions_and_within_the_range(name):
    patches1, patches2 = random_maps(50, 64, seed=1), random_maps(50, 64, seed=2)
    values = SIMILARITIES[name](patches1, patches2)
    assert values.shape == (50,)
    torch.testing.assert_close(values, SIMILARITIES[name](patches2, patches1))
    torch.testing.assert_close(values[7:8], SIMILARITIES[name](patches1[7:8], patches2[7:8]))
    assert (values < 1).all()
    assert (values > LOWEST.get(name, 0)).all()


@every_similarity
def test_patches_that_share_nothing_are_as_different_as_can_be(name):
    left, right = torch.tensor([[0.5, 0.3, 0, 0]]), torch.tensor([[0, 0, 0.9, 0.1]])
    assert SIMILARITIES[name](left, right).item() == LOWEST.get(name, 0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cosine", 1.0),
        ("dice", 2 * 2 / (1 + 4)),
        ("jaccard", 2 / (1 + 4 - 2)),
        ("czekanowski", 2 * 1 / 3),
        ("squared_chord", 1.0),
    ],
)
def test_twice_as_bright_a_patch_worked_out_by_hand(name, expected):
    patch = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    assert SIMILARITIES[name](patch, 2 * patch).item() == pytest.approx(expected, rel=1e-6)


def test_jaccard_follows_from_dice_and_dice_of_unit_patches_is_the_cosine():
    patches1, patches2 = random_maps(9, 64, seed=1), random_maps(9, 64, seed=2)
    dice = SIMILARITIES["dice"](patches1, patches2)
    torch.testing.assert_close(SIMILARITIES["jaccard"](patches1, patches2), dice / (2 - dice))
    unit1, unit2 = (torch.nn.functional.normalize(patches, dim=1) for patches in (patches1, patches2))
    torch.testing.assert_close(SIMILARITIES["dice"](unit1, unit2), SIMILARITIES["cosine"](patches1, patches2))


def test_squared_chord_of_patches_with_zeros_is_exact():
    p, q = torch.tensor([[0.5, 0.5, 0.0, 0.0]]), torch.tensor([[0.25, 0.25, 0.5, 0.0]])
    expected = 2 * (2 * math.sqrt(0.5 * 0.25)) - 1
    assert SIMILARITIES["squared_chord"](p, q).item() == pytest.approx(expected, abs=1e-6)


@every_similarity
def test_gradient_of_patches(name):
    patches1, patches2 = random_maps(3, 16, seed=1, dtype=float), random_maps(3, 16, seed=2, dtype=float)
    assert torch.autograd.gradcheck(
        SIMILARITIES[name], (patches1.requires_grad_(), patches2.requires_grad_())
    )


@every_similarity
def test_gradient_of_the_loss_through_warping_and_masking(name):
    maps1, maps2 = random_maps(2, 1, 10, 9, seed=1, dtype=float), random_maps(2, 1, 8, 9, seed=2, dtype=float)
    aflow = no_motion(2, 10, 9).double() + 0.3
    aflow[0, :, :3, 2:7] = torch.nan
    inputs = (maps1.requires_grad_(), maps2.requires_grad_())
    assert torch.autograd.gradcheck(lambda a, b: similarity_loss(a, b, aflow, name, 4), inputs)


@every_similarity
@pytest.mark.parametrize("scale1", [0, 1e-30, 1e-12, 1e-4, 1])
@pytest.mark.parametrize("scale2", [0, 1e-20, 1])
def test_values_and_gradients_of_dark_patches_are_finite(name, scale1, scale2):
    patches1 = (random_maps(4, 64, seed=1) * scale1).requires_grad_()
    patches2 = (random_maps(4, 64, seed=2) * scale2).requires_grad_()
    values = SIMILARITIES[name](patches1, patches2)
    values.sum().backward()
    for tensor in (values, patches1.grad, patches2.grad):
        assert tensor.isfinite().all()


@every_similarity
def test_pixels_without_partner_do_not_matter(name):
    maps1, maps2 = random_maps(1, 1, 32, 32, seed=1), random_maps(1, 1, 32, 32, seed=2)
    aflow = no_motion(1, 32, 32)
    aflow[..., 4:12, 20:] = torch.nan
    aflow[:, 0, 20:, 5] = 31.01
    aflow[:, 1, 30, 7] = -0.01
    unseen = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    unseen[..., 4:12, 20:] = unseen[..., 20:, 5] = unseen[..., 30, 7] = True
    changed = torch.where(unseen, random_maps(1, 1, 32, 32, seed=3), maps1).requires_grad_()
    loss = similarity_loss(changed, maps2, aflow, name, 16)
    assert loss.item() == similarity_loss(maps1, maps2, aflow, name, 16).item()
    loss.backward()
    assert (changed.grad[unseen] == 0).all()
    assert (changed.grad[~unseen] != 0).all()


@every_similarity
def test_patches_without_a_valid_pixel_are_left_out_of_the_mean(name):
    maps1, maps2 = random_maps(1, 1, 16, 48, seed=1), random_maps(1, 1, 16, 48, seed=2)
    aflow = no_motion(1, 16, 48)
    aflow[..., 16:] = torch.nan
    seen = similarity_loss(maps1[..., :16], maps2, aflow[..., :16], name, 16)
    half_seen = SIMILARITIES[name](
        cut_patches(torch.where(torch.arange(16) < 8, maps1[..., 8:24], 0), 16),
        cut_patches(torch.where(torch.arange(16) < 8, maps2[..., 8:24], 0), 16),
    )
    expected = (seen + 1 - half_seen.squeeze()) / 2
    torch.testing.assert_close(similarity_loss(maps1, maps2, aflow, name, 16), expected)


@every_similarity
def test_no_valid_pixel_costs_nothing_and_pulls_nowhere(name):
    maps1, maps2 = random_maps(2, 1, 32, 32).requires_grad_(), random_maps(2, 1, 32, 32).requires_grad_()
    loss = similarity_loss(maps1, maps2, torch.full((2, 2, 32, 32), torch.nan), name, 16)
    loss.backward()
    assert loss.item() == 0
    assert (maps1.grad == 0).all()
    assert (maps2.grad == 0).all()


def test_patches_overlap_by_half_and_rows_and_columns_that_fill_none_are_dropped():
    maps = torch.arange(2 * 11 * 14.0).view(2, 1, 11, 14)
    patches = cut_patches(maps, 4)
    assert patches.shape == (2 * 4 * 6, 16)
    torch.testing.assert_close(patches[0].view(4, 4), maps[0, 0, :4, :4])
    torch.testing.assert_close(patches[1].view(4, 4), maps[0, 0, :4, 2:6])
    torch.testing.assert_close(patches[-1].view(4, 4), maps[1, 0, 6:10, 10:14])


def test_a_patch_larger_than_the_map_is_refused():
    with pytest.raises(ValueError, match=r"32 px \(loss.patch_size\) does not fit into maps of 40 x 24 px"):
        cut_patches(torch.zeros(1, 1, 24, 40), 32)


def test_a_new_similarity_is_one_function_and_is_known_everywhere(monkeypatch):
    monkeypatch.setattr(module, "SIMILARITIES", SIMILARITIES.copy())

    @register
    def made_by_this_test(patches1, patches2):
        return patches1.minimum(patches2).sum(dim=1) / patches1.maximum(patches2).sum(dim=1).clamp_min(1e-6)

    config = TrainConfig(loss=LossConfig(similarity="made_by_this_test"))
    maps = random_maps(1, 1, 32, 32)
    loss = similarity_loss(maps, maps, no_motion(1, 32, 32), config.loss.similarity, 16)
    assert loss.item() == pytest.approx(0, abs=1e-5)


def test_an_unknown_similarity_is_refused_with_the_known_ones():
    with pytest.raises(
        ValueError, match=r"unknown similarity 'dise'.*known: .*cosine, .*Did you mean 'dice'"
    ):
        TrainConfig(loss=LossConfig(similarity="dise"))


CONTRIBUTING = Path(__file__).parents[3] / "CONTRIBUTING.md"


@pytest.fixture
def pasted():
    """The similarity of CONTRIBUTING.md, as if it were pasted into the module; its name."""
    section = CONTRIBUTING.read_text(encoding="utf-8").partition("## Add a similarity")[2]
    code = re.search(r"```python\n(.*?)```", section, re.S)[1]
    name = re.search(r"def (\w+)", code)[1]
    # Someone may have pasted it for good.
    there = SIMILARITIES.pop(name, None)
    exec(code, dict(vars(module)))
    yield name
    del SIMILARITIES[name]
    if there is not None:
        SIMILARITIES[name] = there


def cases_of(function, name):
    """The arguments of every case of a test that is run with every similarity, for one of them."""
    marks = [mark.args for mark in function.pytestmark if mark.args[0] != "name"]
    for values in itertools.product(*(choices for _, choices in marks)):
        yield {"name": name} | dict(zip((argument for argument, _ in marks), values, strict=True))


def test_the_example_of_contributing_keeps_what_every_similarity_promises(pasted):
    functions = dict(inspect.getmembers(sys.modules[__name__], inspect.isfunction)).values()
    # Marks are equal where their names are: those of `with_reference` are, as long as there is no new one.
    tests = [
        one for one in functions if any(m is every_similarity.mark for m in getattr(one, "pytestmark", []))
    ]
    assert len(tests) >= 9
    for function in tests:
        for arguments in cases_of(function, pasted):
            function(**arguments)
    loss = TrainConfig.from_dict({"loss": {"similarity": pasted}}).loss
    assert loss.similarity == pasted
