"""The HardNet loss: the reference, cases worked out by hand, gradients."""

from __future__ import annotations

import math

import pytest
import torch

from r2d2.losses.reliability import distance_matrix, hardest_in_batch


@pytest.fixture
def reference(golden):
    return {name: torch.from_numpy(array) for name, array in golden("hardnet").items()}


def unit(count, dim, seed):
    vectors = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(vectors, dim=1)


def on_circle(*degrees):
    return torch.tensor([[math.cos(math.radians(a)), math.sin(math.radians(a))] for a in degrees])


def test_loss_of_each_anchor_equals_the_reference(reference):
    losses = hardest_in_batch(reference["anchors"], reference["positives"])
    torch.testing.assert_close(losses.double(), reference["per_anchor_loss"], rtol=1e-5, atol=1e-6)
    assert losses.mean().item() == pytest.approx(reference["loss"].item(), rel=1e-5)


def test_loss_with_anchor_swap_equals_the_reference(reference):
    losses = hardest_in_batch(reference["anchors"], reference["positives"], anchor_swap=True)
    assert losses.mean().item() == pytest.approx(reference["loss_anchor_swap"].item(), rel=1e-5)


def test_worked_out_by_hand_on_a_circle():
    anchors, positives = on_circle(0, 90), on_circle(0, 60)
    row, column = 1 + 0.001 - 1, 1 + 2 * math.sin(math.radians(15)) - math.sqrt(2)
    swapped = 1 + 2 * math.sin(math.radians(15)) - 1
    torch.testing.assert_close(
        hardest_in_batch(anchors, positives), torch.tensor([row, column]), atol=1e-5, rtol=0
    )
    # The first anchor is nearer to the second positive than the second anchor is to the first.
    torch.testing.assert_close(
        hardest_in_batch(anchors, positives, anchor_swap=True),
        torch.tensor([row, swapped]),
        atol=1e-5,
        rtol=0,
    )


def test_what_shows_the_same_is_no_negative():
    anchors = on_circle(0, 0, 90)
    expected = [max(0, 1 + 0.001 - math.sqrt(2))] * 3
    assert hardest_in_batch(anchors, anchors).tolist() == pytest.approx(expected, abs=1e-5)


def test_excluded_positives_are_no_negatives():
    anchors, positives = unit(5, 4, seed=1), unit(5, 4, seed=2)
    excluded = torch.zeros(5, 5, dtype=torch.bool)
    excluded[0, 1:4] = True
    alone = hardest_in_batch(anchors[[0, 4]], positives[[0, 4]])
    torch.testing.assert_close(hardest_in_batch(anchors, positives, excluded)[0], alone[0])


@pytest.mark.parametrize("count", [0, 1, 3])
def test_an_anchor_without_negatives_costs_nothing(count):
    anchors, positives = unit(count, 4, seed=1).requires_grad_(), unit(count, 4, seed=2).requires_grad_()
    losses = hardest_in_batch(anchors, positives, torch.ones(count, count, dtype=torch.bool))
    losses.sum().backward()
    assert losses.tolist() == [0] * count
    assert (anchors.grad == 0).all()


@pytest.mark.parametrize("anchor_swap", [False, True])
def test_gradient(anchor_swap):
    inputs = (unit(6, 5, seed=1).requires_grad_(), unit(6, 5, seed=2).requires_grad_())
    assert torch.autograd.gradcheck(lambda a, p: hardest_in_batch(a, p, anchor_swap=anchor_swap), inputs)


def test_distances_of_equal_descriptors_are_finite_and_so_is_their_gradient():
    anchors = unit(4, 128, seed=1).float().requires_grad_()
    distances = distance_matrix(anchors, anchors)
    distances.sum().backward()
    assert distances.diagonal().tolist() == pytest.approx([1e-3] * 4, abs=5e-4)
    assert anchors.grad.isfinite().all()
