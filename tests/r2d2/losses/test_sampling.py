"""Queries, their partners, neighbours and distractors."""

from __future__ import annotations

import pytest
import torch

from r2d2.containers import DenseFeatures
from r2d2.losses import sampling
from r2d2.losses.config import LossConfig
from r2d2.losses.sampling import draw_positions, match, near_in_same_image, offsets, window_scores
from r2d2.warp import pixel_grid

CPU = torch.device("cpu")
GRID = LossConfig(query_grid=True)


def random_features(batch=2, dim=8, height=24, width=30, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    descriptors = torch.randn(batch, dim, height, width, generator=generator, dtype=dtype)
    maps = torch.rand(2, batch, 1, height, width, generator=generator, dtype=dtype)
    return DenseFeatures(torch.nn.functional.normalize(descriptors, dim=1), maps[0], maps[1])


def match_on_grid(features1, features2, aflow):
    height, width = features1.descriptors.shape[2:]
    positions = draw_positions(height, width, GRID, torch.Generator())
    return match(features1, features2, aflow, positions, positions)


@pytest.mark.parametrize("second", [False, True])
def test_scores_labels_and_reliability_equal_the_reference(losses, reference, second):
    matches = match_on_grid(*reference(second))
    names = ("second/sampler_%s" if second else "sampler/%s") % "{}"
    torch.testing.assert_close(matches.valid.flatten(), losses[names.format("valid")].flatten())
    torch.testing.assert_close(matches.reliability.flatten(), losses[names.format("reliability")].flatten())
    scores = [
        sampling.positive_scores(matches)[..., None],
        sampling.negative_scores(matches),
        sampling.distractor_scores(matches),
    ]
    found, expected = torch.cat(scores, dim=2).flatten(0, 1), losses[names.format("scores")]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_random_positions_keep_from_the_border_and_come_from_the_generator_alone():
    config = LossConfig(border=5, query_stride=2)
    first = draw_positions(40, 30, config, torch.Generator().manual_seed(1))
    assert first.shape == ((40 - 10) * (30 - 10) // 4, 2)
    assert first.amin(dim=0).tolist() == [5, 5]
    assert first.amax(dim=0).tolist() == [24, 34]
    torch.manual_seed(7)
    assert torch.equal(first, draw_positions(40, 30, config, torch.Generator().manual_seed(1)))
    assert not torch.equal(first, draw_positions(40, 30, config, torch.Generator().manual_seed(2)))


def test_grid_positions_go_row_by_row_from_the_border():
    positions = draw_positions(
        8, 10, LossConfig(border=2, query_stride=3, query_grid=True), torch.Generator()
    )
    assert positions.tolist() == [[2, 2], [5, 2], [2, 5], [5, 5]]


@pytest.mark.parametrize("grid", [False, True])
def test_a_map_without_room_has_no_positions(grid):
    config = LossConfig(border=16, query_grid=grid)
    assert draw_positions(32, 200, config, torch.Generator()).shape == (0, 2)
    assert draw_positions(10, 200, config, torch.Generator()).shape == (0, 2)


def test_29_offsets_are_right_and_80_are_wrong():
    right, wrong = offsets(0, 3, CPU), offsets(5, 7, CPU)
    assert (len(right), len(wrong)) == (29, 80)
    assert right[0].tolist() == [0, -3]
    assert wrong[:3].tolist() == [[0, -7], [-3, -6], [-2, -6]]
    assert [3, 4] in wrong.tolist()
    assert [3, 3] not in wrong.tolist() + right.tolist()


@pytest.mark.parametrize(
    ("flow", "truth", "valid"),
    [
        ((-0.5, 0.0), (0, 0), True),  # halves go up
        ((-0.51, 0.0), (-1, 0), False),
        ((3.5, 2.49), (4, 2), True),
        ((29.49, 23.49), (29, 23), True),
        ((29.5, 23.0), (30, 23), False),
        ((5.0, torch.nan), (5, -1e4), False),
        ((torch.inf, -torch.inf), (1e4, -1e4), False),
        ((1e30, 0.0), (1e4, 0), False),
    ],
)
def test_truth_is_rounded_and_must_lie_in_image_2(flow, truth, valid):
    features = random_features(batch=1)
    aflow = torch.tensor(flow).view(1, 2, 1, 1).expand(1, 2, 24, 30)
    query = torch.tensor([[10, 10]])
    matches = match(features, features, aflow, query, query)
    assert matches.truth.flatten().tolist() == list(truth)
    assert matches.valid.item() is valid
    assert sampling.negative_scores(matches).isfinite().all()


def test_the_best_pixel_near_the_truth_is_the_positive_and_gives_its_reliability():
    features1, features2 = random_features(batch=1, seed=1), random_features(batch=1, seed=2)
    features2.descriptors[0, :, 13, 12] = features1.descriptors[0, :, 10, 10]  # 2, 2 beside the truth: right
    features2.descriptors[0, :, 14, 13] = features1.descriptors[0, :, 10, 10]  # 3, 3 beside: ignored
    aflow = pixel_grid(24, 30)[None] + torch.tensor([0.0, 1.0]).view(1, 2, 1, 1)
    query = torch.tensor([[10, 10]])
    matches = match(features1, features2, aflow, query, query)
    assert sampling.positive_scores(matches).item() == pytest.approx(1)
    expected = (features1.reliability[0, 0, 10, 10] + features2.reliability[0, 0, 13, 12]) / 2
    assert matches.reliability.item() == pytest.approx(expected.item())
    assert sampling.negative_scores(matches).max() < 0.999


def test_windows_are_clamped_to_the_image():
    features = random_features(batch=1)
    corner = torch.zeros(1, 2, 24, 30)
    query = torch.tensor([[10, 10]])
    scores = sampling.negative_scores(match(features, features, corner, query, query)).flatten()
    anchor = features.descriptors[0, :, 10, 10]
    x, y = offsets(5, 7, CPU).clamp_min(0).T
    torch.testing.assert_close(scores, anchor @ features.descriptors[0][:, y, x])


def test_distractors_strictly_nearer_than_5_px_in_the_same_image_score_0():
    features = random_features(batch=2)
    aflow = pixel_grid(24, 30).expand(2, -1, -1, -1)
    query = torch.tensor([[10, 10]])
    distractors = torch.tensor([[10, 10], [14, 12], [13, 14], [15, 10], [20, 20]])  # 0, 4.5, 5, 5, 14 px away
    scores = sampling.distractor_scores(match(features, features, aflow, query, distractors))
    assert scores.shape == (2, 1, 2 * 5)
    x, y = distractors.T
    for image in (0, 1):
        expected = torch.einsum(
            "d,bdn->bn", features.descriptors[image, :, 10, 10], features.descriptors[..., y, x]
        )
        expected[image, :2] = 0
        torch.testing.assert_close(scores[image, 0], expected.flatten())


def test_near_positions_are_looked_for_in_the_same_image_only():
    truth = torch.tensor([[[0.0, 0.0], [4.0, 0.0]], [[0.0, 0.0], [5.0, 0.0]]])
    assert near_in_same_image(truth, truth).int().tolist() == [
        [1, 1, 0, 0],
        [1, 1, 0, 0],
        [0, 0, 1, 0],
        [0, 0, 0, 1],
    ]


@pytest.mark.parametrize("dim", [3, 16, 37])
def test_window_scores_are_dot_products_and_have_a_gradient(dim):
    features = random_features(batch=2, dim=dim, height=5, width=4, dtype=torch.float64)
    anchors = torch.randn(2, 3, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    index = torch.randint(0, 20, (2, 3, 6), generator=torch.Generator().manual_seed(2))
    rows = features.descriptors.flatten(2).transpose(1, 2)
    expected = torch.stack([torch.einsum("qod,qd->qo", rows[b][index[b]], anchors[b]) for b in (0, 1)])
    torch.testing.assert_close(window_scores(anchors, features.descriptors, index), expected)
    inputs = (anchors.requires_grad_(), features.descriptors.requires_grad_())
    assert torch.autograd.gradcheck(lambda a, d: window_scores(a, d, index), inputs)


def test_neighbours_are_never_held_with_all_their_channels():
    features = random_features(batch=2, dim=64, height=64, width=64)
    features.descriptors.requires_grad_()
    kept = {}

    def keep(tensor):
        kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        matches = match_on_grid(features, features, pixel_grid(64, 64).expand(2, -1, -1, -1))
        scores = sampling.negative_scores(matches)
    batch, count, neighbours = scores.shape
    beyond_the_maps = sum(kept.values()) - features.descriptors.numel()
    assert beyond_the_maps < batch * count * neighbours * 64 / 4
