"""Peakiness: the reference, flat and peaky maps, gradient."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from r2d2.losses.peakiness import peakiness_loss


def random_map(*shape, dtype=torch.float32):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def test_loss_and_gradient_equal_the_reference(losses, reference):
    features1, features2, _ = reference()
    loss = (peakiness_loss(features1.repeatability, 16) + peakiness_loss(features2.repeatability, 16)) / 2
    assert loss.item() == pytest.approx(losses["peaky"].item(), rel=1e-5)
    loss.backward()
    for number, features in enumerate((features1, features2), start=1):
        expected = losses[f"peaky/grad_repeatability{number}"]
        torch.testing.assert_close(
            features.repeatability.grad, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item()
        )


@pytest.mark.parametrize("patch_size", [2, 6, 16])
def test_rows_then_columns_give_the_same_as_squares(patch_size):
    maps = random_map(2, 1, 21, 30)
    smooth = F.avg_pool2d(maps, 3, stride=1, padding=1)
    side, margin = patch_size + 1, patch_size // 2
    highest = F.max_pool2d(smooth, side, stride=1, padding=margin)
    mean = F.avg_pool2d(smooth, side, stride=1, padding=margin)
    expected = 1 - (highest - mean).mean()
    torch.testing.assert_close(peakiness_loss(maps, patch_size), expected)


def test_a_flat_map_costs_most_in_its_middle_and_a_map_of_zeros_everywhere():
    assert peakiness_loss(torch.zeros(1, 1, 32, 32), 16).item() == 1
    # Only the border, where zeros count in the mean, is not flat.
    large_and_flat = torch.full((1, 1, 300, 300), 0.735)
    assert peakiness_loss(large_and_flat, 4).item() == pytest.approx(1, abs=0.02)


def test_one_peak_in_each_surrounding_is_best():
    peaky = torch.zeros(1, 1, 63, 63)
    for row in (3, 4, 5):
        for column in (3, 4, 5):
            peaky[..., row::9, column::9] = 1.0
    assert peakiness_loss(peaky, 8) < peakiness_loss(random_map(1, 1, 63, 63), 8)
    assert peakiness_loss(peaky, 8).item() == pytest.approx(1 / 9, abs=0.05)


def test_gradient():
    maps = random_map(2, 1, 9, 8, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda m: peakiness_loss(m, 4), maps)


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_the_gradient_of_a_flat_map_is_finite(value):
    flat = torch.full((1, 1, 20, 20), value, requires_grad=True)
    peakiness_loss(flat, 8).backward()
    assert flat.grad.isfinite().all()
