"""Soft average precision: the reference, cases worked out by hand, gradients."""

from __future__ import annotations

import pytest
import torch

from r2d2.losses import average_precision as module
from r2d2.losses.average_precision import BINS, average_precision, bin_weights


@pytest.fixture
def reference(golden):
    return {name: torch.from_numpy(array) for name, array in golden("average_precision").items()}


def random_scores(rows, columns, low=0.0, high=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(rows, columns, generator=generator, dtype=torch.float64) * (high - low) + low


def triangle_weights(scores, bins):
    """The definition, bin by bin."""
    centres = 1 - torch.arange(bins, dtype=torch.float64) / (bins - 1)
    inside = scores.clamp(0, 1)[..., None]
    return (1 - (inside - centres).abs() * (bins - 1)).clamp_min(0)


def test_values_and_gradient_equal_the_reference(reference):
    scores = reference["scores"].clone().requires_grad_()
    values = average_precision(scores, reference["labels"], int(reference["nq"]))
    torch.testing.assert_close(values, reference["ap"], rtol=1e-5, atol=0)
    values.sum().backward()
    expected = reference["grad_of_sum"]
    torch.testing.assert_close(scores.grad, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("bins", [2, 5, BINS])
def test_weights_are_those_of_the_definition(bins):
    scores = random_scores(6, 30, -0.5, 1.5)
    expected = triangle_weights(scores, bins).sum(dim=1)
    torch.testing.assert_close(bin_weights(scores, bins=bins), expected)


def test_every_score_weighs_1_and_is_flat_outside_0_to_1():
    scores = torch.tensor([[-0.7], [0.0], [0.3], [1.0], [1.0000001]])
    weights = bin_weights(scores)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(5))
    assert weights[0].argmax() == weights[1].argmax() == BINS - 1
    assert weights[3].argmax() == weights[4].argmax() == 0


@pytest.mark.parametrize(
    ("scores", "labels", "expected"),
    [
        ([1.0, 0.0, 0.0], [1, 0, 0], 1.0),  # the positive is alone on top
        ([0.0, 1.0, 1.0], [1, 0, 0], 1 / 3),  # it comes last of three
        ([1.0, 1.0, 0.0], [1, 0, 0], 1 / 2),  # it shares the first bin with a negative
        ([1.0, 0.0, 1.0, 0.0], [1, 1, 0, 0], 1 / 2 * 1 / 2 + 1 / 2 * 2 / 4),  # two positives
        ([0.5 / 19, 0.0], [1, 0], 1 / 2 * 1 + 1 / 2 * 1 / 2),  # half in the last bin, half in the one before
        ([0.7, 0.2], [0, 0], 0.0),  # no positive
        ([-0.9, -0.1], [1, 0], 1 / 2),  # both below 0: not to be told apart
    ],
)
def test_worked_out_by_hand(scores, labels, expected):
    value = average_precision(torch.tensor([scores]), torch.tensor([labels]).bool())
    assert value.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("positives", [1, 4])
def test_gradient(positives):
    scores = random_scores(3, 12, -0.4, 1.2).requires_grad_()
    labels = torch.arange(12).expand(3, -1) < positives
    assert torch.autograd.gradcheck(lambda s: average_precision(s, labels, 7), scores)


def test_a_positive_is_pulled_up_and_a_negative_pushed_down():
    scores = torch.tensor([[0.49, 0.51, 0.1]], requires_grad=True)
    average_precision(scores, torch.tensor([[True, False, False]])).sum().backward()
    assert scores.grad[0, 0] > 0
    assert scores.grad[0, 1] < 0
    assert scores.grad[0, 2] == 0


def test_scores_outside_0_to_1_are_not_moved():
    scores = torch.tensor([[-0.3, 1.2, 0.5]], requires_grad=True)
    average_precision(scores, torch.tensor([[True, False, True]])).sum().backward()
    assert scores.grad[0, :2].tolist() == [0, 0]


def test_large_inputs_are_worked_through_in_parts_with_the_same_result(monkeypatch):
    scores = random_scores(10, 30).requires_grad_()
    labels = random_scores(10, 30, seed=1) > 0.8
    results = []
    for chunk in (2**20, 70):
        monkeypatch.setattr(module, "_CHUNK", chunk)
        scores.grad = None
        values = average_precision(scores, labels)
        values.sum().backward()
        results.append((values.detach(), scores.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_no_rows_and_no_scores():
    assert average_precision(torch.zeros(0, 5), torch.zeros(0, 5, dtype=torch.bool)).shape == (0,)
    assert average_precision(torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.bool)).tolist() == [0, 0]


def test_a_nan_score_gives_nan_not_a_crash():
    value = average_precision(torch.tensor([[torch.nan, 0.5], [0.7, 0.5]]), torch.tensor([[True, False]] * 2))
    assert value[0].isnan()
    assert value[1].isfinite()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("bins", [2, BINS])
def test_sums_of_a_gpu_and_the_scatter_of_a_cpu_are_the_same_histogram(monkeypatch, masked, bins):
    scores = random_scores(12, 3000, -0.3, 1.1)
    scores[:, :3] = torch.tensor([0.0, 1.0, 0.5])
    mask = random_scores(12, 3000, seed=1) > 0.4 if masked else None
    expected = module.scattered(scores, mask, bins)
    torch.testing.assert_close(module.summed(scores, mask, bins), expected, rtol=0, atol=1e-9)
    in_float32 = module.summed(scores.float(), mask, bins)
    torch.testing.assert_close(in_float32.double(), expected, rtol=1e-5, atol=3000 * 2e-7)


def test_a_nan_score_gives_nan_on_a_gpu_too():
    weights = module.summed(torch.tensor([[0.3, torch.nan], [0.2, 0.4]]), None, BINS)
    assert weights[0].isnan().any()
    assert not weights[1].isnan().any()
