"""One epoch: the loss falls, faults are named before they do harm, and resuming changes nothing."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
from dataclasses import replace

import pytest
import torch

from r2d2.config import DataConfig, TrainConfig
from r2d2.containers import DenseFeatures, PairBatch
from r2d2.data.loader import epoch_loader
from r2d2.data.photos import open_photos
from r2d2.data.share import Share
from r2d2.losses.config import LossConfig
from r2d2.losses.pair_loss import pair_loss
from r2d2.losses.reliability import RELIABILITY_LOSSES
from r2d2.losses.similarity import SIMILARITIES
from r2d2.network import build_network
from r2d2.network_config import NetworkConfig
from r2d2.schedule import OptimiserConfig
from r2d2.training.device import OutOfMemory
from r2d2.training.epoch import make_optimiser, train_epoch
from r2d2.training.metrics import StepReport, combine_workers, summarise
from r2d2.training.siamese import SiameseNetwork
from r2d2.training.step import NonFiniteLoss, query_generator
from r2d2.warp import pixel_grid

SIDE, SHIFT = 48, 3
CONFIG = TrainConfig(
    network=NetworkConfig("fast", channels=1, dim=16),
    loss=LossConfig(border=8, query_stride=4, patch_size=8),
    optimiser=OptimiserConfig(learning_rate=3e-3),
)


def make_batch(seed=0, pairs=2):
    """Image 2 is image 1 moved by 3 px to the left: a smooth random texture."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(pairs, 3, 18, 18, generator=generator)
    texture = torch.nn.functional.interpolate(coarse, size=(SIDE, SIDE + SHIFT), mode="bicubic")
    aflow = pixel_grid(SIDE, SIDE) - torch.tensor([SHIFT, 0.0]).view(2, 1, 1)
    return PairBatch(
        texture[..., :SIDE],
        texture[..., SHIFT:],
        aflow.expand(pairs, -1, -1, -1).clone(),
        tuple(f"photo{seed}.jpg pair {i}" for i in range(pairs)),
    )


def without_flow(batch, pair):
    aflow = batch.aflow.clone()
    aflow[pair] = torch.nan
    return replace(batch, aflow=aflow)


@pytest.fixture
def siamese():
    return SiameseNetwork(build_network(CONFIG.network, seed=0))


def train(siamese, batches, config=CONFIG, optimiser=None, epoch=1, rank=0):
    optimiser = optimiser or make_optimiser(siamese, config)
    return list(train_epoch(siamese, batches, config, optimiser, epoch, Share((rank,), rank + 1, rank + 1)))


def weights(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def assert_equal_weights(first, second):
    for name, tensor in weights(first).items():
        assert torch.equal(tensor, weights(second)[name]), name


@pytest.mark.parametrize("reliability", sorted(RELIABILITY_LOSSES))
def test_the_loss_falls(siamese, reliability):
    config = replace(CONFIG, loss=replace(CONFIG.loss, reliability=reliability))
    reports = train(siamese, [make_batch()] * 40, config)
    start, end = (sum(r.total for r in part) / 5 for part in (reports[:5], reports[-5:]))
    assert end < 0.85 * start


@pytest.mark.parametrize("similarity", sorted(SIMILARITIES))
def test_every_similarity_trains(siamese, similarity):
    config = replace(CONFIG, loss=replace(CONFIG.loss, similarity=similarity))
    before = weights(siamese)
    report = train(siamese, [make_batch()], config)[-1]
    assert math.isfinite(report.total)
    assert not torch.equal(before["network.sal.weight"], siamese.network.sal.weight)


def test_a_report_says_what_the_step_did(siamese):
    batch = replace(without_flow(make_batch(), pair=1), refused=(("broken.jpg", "truncated"),))
    first, second = train(siamese, [batch, make_batch(1, pairs=3)])
    assert (first.step, second.step) == (0, 1)
    assert (first.pairs, second.pairs) == (2, 3)
    assert (first.invalid_pairs, second.invalid_pairs) == (1, 0)
    assert (first.refused, second.refused) == ((("broken.jpg", "truncated"),), ())
    assert first.total == pytest.approx(sum(first.terms.values()))
    assert first.statistics["pairs_without_query"] == 1
    assert "repeatability_std" in first.statistics
    assert first.elapsed > 0


def test_steps_are_done_one_by_one_as_they_are_asked_for(siamese):
    steps = train_epoch(siamese, [make_batch()] * 3, CONFIG, make_optimiser(siamese, CONFIG), epoch=1)
    before = weights(siamese)
    next(steps)
    after = weights(siamese)
    assert not torch.equal(before["network.sal.weight"], after["network.sal.weight"])
    assert torch.equal(after["network.sal.weight"], siamese.network.sal.weight)


def test_a_batch_without_any_flow_trains_peakiness_only(siamese):
    batch = without_flow(make_batch(), pair=slice(None))
    report = train(siamese, [batch])[0]
    assert report.invalid_pairs == 2
    assert report.terms["reliability"] == report.terms["similarity"] == 0
    assert report.total == report.terms["peakiness"]


def test_a_nan_loss_names_its_samples_and_leaves_the_weights_alone(siamese):
    batch = make_batch(seed=7)
    batch.image1[0, 0, 5, 5] = torch.nan
    before = [p.detach().clone() for p in siamese.parameters()]
    optimiser = make_optimiser(siamese, CONFIG)
    with pytest.raises(NonFiniteLoss, match=r"not finite.*photo7.jpg pair 0, photo7.jpg pair 1") as caught:
        train(siamese, [batch], optimiser=optimiser)
    assert caught.value.samples == batch.samples
    assert all(torch.equal(a, b) for a, b in zip(before, siamese.parameters(), strict=True))
    assert not optimiser.state


def test_an_infinite_gradient_of_a_finite_loss_is_found_too(siamese):
    siamese.network.clf.weight.register_hook(lambda gradient: gradient * torch.inf)
    before = [p.detach().clone() for p in siamese.parameters()]
    with pytest.raises(NonFiniteLoss, match=r"the gradient of the loss is not finite.*photo0.jpg pair 0"):
        train(siamese, [make_batch()])
    assert all(torch.equal(a, b) for a, b in zip(before, siamese.parameters(), strict=True))


def test_the_optimiser_is_adam_as_configured(siamese):
    config = replace(CONFIG, optimiser=OptimiserConfig(learning_rate=0.02, weight_decay=0.3))
    optimiser = make_optimiser(siamese, config)
    assert type(optimiser) is torch.optim.Adam
    (group,) = optimiser.param_groups
    assert (group["lr"], group["weight_decay"], group["betas"]) == (0.02, 0.3, (0.9, 0.999))
    assert len(group["params"]) == len(list(siamese.parameters()))


SCHEDULED = replace(
    CONFIG,
    epochs=2,
    optimiser=OptimiserConfig(learning_rate=0.01, schedule="linear", warmup_steps=1, final_share=0.1),
)


def test_every_step_has_the_learning_rate_of_its_number_in_the_whole_training(siamese):
    optimiser = make_optimiser(siamese, SCHEDULED)
    batches = [make_batch(), make_batch(1)]
    rates = [r.learning_rate for e in (1, 2) for r in train(siamese, batches, SCHEDULED, optimiser, e)]
    assert rates == pytest.approx([0.01, 0.01, 0.0055, 0.001])
    assert optimiser.param_groups[0]["lr"] == rates[-1]


def test_the_learning_rate_of_a_step_is_that_of_its_update(siamese):
    # Adam's first update moves every weight by the learning rate, whatever the gradient's size.
    config = replace(SCHEDULED, optimiser=replace(SCHEDULED.optimiser, warmup_steps=4, weight_decay=0.0))
    before = siamese.network.sal.weight.detach().clone()
    next(train_epoch(siamese, [make_batch()] * 2, config, make_optimiser(siamese, config), epoch=1))
    moved = (siamese.network.sal.weight.detach() - before).abs()
    assert moved.max().item() == pytest.approx(0.0025, rel=1e-3)


def test_a_training_resumed_in_mid_epoch_is_exactly_the_same(siamese):
    batches = [make_batch(step) for step in range(4)]
    optimiser = make_optimiser(siamese, SCHEDULED)
    steps = train_epoch(siamese, batches, SCHEDULED, optimiser, epoch=1)
    first = list(itertools.islice(steps, 3))
    saved = copy.deepcopy((siamese.state_dict(), optimiser.state_dict()))
    (last,) = steps

    again = SiameseNetwork(build_network(CONFIG.network, seed=5))
    optimiser = make_optimiser(again, SCHEDULED)
    again.load_state_dict(saved[0])
    optimiser.load_state_dict(saved[1])
    (resumed,) = train_epoch(again, batches[3:], SCHEDULED, optimiser, epoch=1, start_step=3)
    assert replace(resumed, elapsed=0.0) == replace(last, elapsed=0.0)
    assert [report.step for report in (*first, resumed)] == [0, 1, 2, 3]
    assert_equal_weights(siamese, again)


def gradient_of(share, batches):
    """The gradient of one step, and the network's running statistics after it."""
    siamese = SiameseNetwork(build_network(CONFIG.network, seed=0))
    frozen = replace(CONFIG, optimiser=replace(CONFIG.optimiser, learning_rate=0.0))
    optimiser = make_optimiser(siamese, frozen)
    reports = list(train_epoch(siamese, batches, frozen, optimiser, epoch=1, share=share))
    return reports, [p.grad for p in siamese.parameters()], list(siamese.buffers())


@pytest.mark.parametrize("of", [2, 3])
def test_one_worker_computes_the_parts_of_several_with_the_same_gradient_and_statistics(of):
    batches = [make_batch(seed) for seed in range(of)]
    reports, gradient, buffers = gradient_of(Share.of_worker(0, 1, of), batches)
    alone = [gradient_of(Share((part,), of, of), [batches[part]]) for part in range(of)]
    for ours, *theirs in zip(gradient, *(gradient for _, gradient, _ in alone), strict=True):
        torch.testing.assert_close(ours, sum(theirs) / of, rtol=1e-4, atol=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(buffers, alone[0][2], strict=True))
    assert [(r.step, r.part, r.total, r.statistics) for r in reports] == [
        (r.step, r.part, r.total, r.statistics) for (r,), _, _ in alone
    ]


def test_workers_of_unequal_shares_have_the_mean_over_parts_as_mean_of_their_gradients():
    batches = [make_batch(seed) for seed in range(3)]
    _, whole, _ = gradient_of(Share.of_worker(0, 1, 3), batches)
    _, two, _ = gradient_of(Share.of_worker(0, 2, 3), [batches[0], batches[2]])
    _, one, _ = gradient_of(Share.of_worker(1, 2, 3), [batches[1]])
    for expected, a, b in zip(whole, two, one, strict=True):
        torch.testing.assert_close((a + b) / 2, expected, rtol=1e-4, atol=1e-6)


def test_pairs_whose_pixels_are_made_on_the_device_are_trained_on_as_others_are(siamese):
    data = DataConfig(crop_size=SIDE, pixels="device", pairs_per_epoch=4)
    config = replace(CONFIG, data=data, pairs_per_worker=2)
    batches = list(epoch_loader(open_photos("samples"), config, epoch=1))
    rendered = [batch.to(torch.device("cpu")) for batch in batches]
    other = copy.deepcopy(siamese)
    reports = train(siamese, batches, config)
    expected = train(other, rendered, config)
    assert [(r.total, r.terms, r.pairs, r.invalid_pairs) for r in reports] == [
        (r.total, r.terms, r.pairs, r.invalid_pairs) for r in expected
    ]
    assert sum(r.pairs for r in reports) == 4
    assert_equal_weights(siamese, other)


def test_too_little_memory_for_the_pixels_of_a_batch_is_said_like_that_of_a_step(siamese):
    class Batches(list):
        def __iter__(self):
            raise MemoryError

    with pytest.raises(OutOfMemory, match="8 pairs of 192"):
        train(siamese, Batches([make_batch()]))


def test_queries_differ_by_seed_epoch_part_and_step_and_by_nothing_else():
    keys = [
        (0, 1, 0, 0),
        (1, 1, 0, 0),
        (0, 2, 0, 0),
        (0, 1, 1, 0),
        (0, 1, 0, 1),
        (0, 0, 1, 1),
    ]
    # Trainings that earlier versions began go on with the same queries.
    assert query_generator(1, 2, 3, 4).initial_seed() == 4251844491
    draws = [torch.randint(1000, (50,), generator=query_generator(*key)).tolist() for key in keys]
    assert len({tuple(draw) for draw in draws}) == len(keys)
    torch.manual_seed(9)
    assert torch.randint(1000, (50,), generator=query_generator(*keys[0])).tolist() == draws[0]


@pytest.mark.parametrize("config", [CONFIG, SCHEDULED])
def test_a_training_resumed_at_the_end_of_an_epoch_is_exactly_the_same(siamese, config):
    batches = {epoch: [make_batch(10 * epoch + step) for step in range(2)] for epoch in (1, 2)}
    optimiser = make_optimiser(siamese, config)
    train(siamese, batches[1], config, optimiser, epoch=1)
    saved = copy.deepcopy((siamese.state_dict(), optimiser.state_dict()))
    undisturbed = train(siamese, batches[2], config, optimiser, epoch=2)

    torch.manual_seed(123)
    again = SiameseNetwork(build_network(CONFIG.network, seed=5))
    optimiser = make_optimiser(again, config)
    again.load_state_dict(saved[0])
    optimiser.load_state_dict(saved[1])
    resumed = train(again, batches[2], config, optimiser, epoch=2)
    assert [(r.total, r.learning_rate) for r in resumed] == [(r.total, r.learning_rate) for r in undisturbed]
    assert_equal_weights(siamese, again)


def test_images_1_and_2_are_normalised_by_their_own_statistics(siamese):
    batch = make_batch()
    siamese.train()
    features1, features2 = siamese(batch.image1, batch.image2 * 3 + 1)
    torch.testing.assert_close(siamese.network(batch.image1).descriptors, features1.descriptors)
    torch.testing.assert_close(siamese.network(batch.image2 * 3 + 1).descriptors, features2.descriptors)


def test_frozen_statistics_stay_frozen_in_training():
    siamese = SiameseNetwork(build_network(CONFIG.network, seed=0), frozen_statistics=True)
    before = weights(siamese)
    train(siamese, [make_batch()])
    after = weights(siamese)
    statistics = [name for name in before if "running" in name]
    assert statistics
    assert all(torch.equal(before[name], after[name]) for name in statistics)
    assert siamese.network.training


def split(features, half):
    return DenseFeatures(*[tensor[half] for tensor in vars(features).values()])


@pytest.mark.parametrize("reliability", sorted(RELIABILITY_LOSSES))
def test_the_mean_gradient_of_two_half_batches_is_that_of_the_mean_of_their_losses(reliability):
    """What data-parallel training with two workers computes: queries fixed, distractors of the same half."""
    config = replace(CONFIG.loss, query_grid=True, reliability=reliability)
    siamese = SiameseNetwork(build_network(CONFIG.network, seed=0), frozen_statistics=True).train()
    batch, halves = without_flow(make_batch(pairs=4), pair=3), (slice(0, 2), slice(2, 4))

    features1, features2 = siamese(batch.image1, batch.image2)
    losses = [
        pair_loss(split(features1, h), split(features2, h), batch.aflow[h], config, torch.Generator()).total
        for h in halves
    ]
    whole = torch.autograd.grad(sum(losses) / 2, list(siamese.parameters()))

    workers = []
    for h in halves:
        features = siamese(batch.image1[h], batch.image2[h])
        loss = pair_loss(*features, batch.aflow[h], config, torch.Generator()).total
        workers.append(torch.autograd.grad(loss, list(siamese.parameters())))
    for expected, first, second in zip(whole, *workers, strict=True):
        torch.testing.assert_close((first + second) / 2, expected, rtol=1e-4, atol=1e-6)


def report(step, total=1.0, pairs=2, invalid=0, refused=(), queries=10.0, reliability=0.5, deviation=0.1):
    statistics = {
        "valid_queries": queries,
        "pairs_without_query": float(invalid),
        "query_reliability": reliability,
        "repeatability_std": deviation,
    }
    terms = {"similarity": total / 2}
    return StepReport(
        step, 0, total, terms, statistics, pairs, invalid, refused, 0.5, learning_rate=0.1 / (step + 1)
    )


def test_summary_of_an_epoch():
    bad = ("bad.jpg", "truncated")
    reports = [
        report(0, 1.0, invalid=1, refused=(bad,), queries=30.0, reliability=0.4),
        report(1, 3.0, refused=(bad, ("worse.jpg", "empty")), queries=10.0, reliability=0.8),
    ]
    assert summarise(reports) == pytest.approx(
        {
            "train/loss_total": 2.0,
            "train/loss_similarity": 1.0,
            "train/valid_queries": 20.0,
            "train/query_reliability": 0.5,
            "train/pairs": 4,
            "train/invalid_pairs": 1,
            "train/pairs_without_query": 1,
            "train/refused_photos": 2,
            "train/pairs_per_second": 4.0,
            "train/learning_rate": 0.05,
            "warning_signs/repeatability_std": 0.1,
        }
    )


def test_signs_of_a_collapse_are_those_of_the_end_of_the_epoch():
    reports = [report(step, deviation=0.3 if step < 90 else 0.001) for step in range(100)]
    assert summarise(reports)["warning_signs/repeatability_std"] == pytest.approx(0.001)


def test_an_epoch_without_valid_queries_has_no_reliability_to_report():
    assert "train/query_reliability" not in summarise([report(0, queries=0.0, reliability=0.0)])


def test_workers_are_combined_by_sums_of_counts_and_means_of_the_rest():
    workers = [summarise([report(0, 1.0, invalid=1)]), summarise([report(0, 2.0, queries=0.0)])]
    combined = combine_workers(workers)
    assert combined["train/loss_total"] == 1.5
    assert combined["train/invalid_pairs"] == 1
    assert combined["train/pairs"] == 4
    assert combined["train/pairs_per_second"] == 8
    assert combined["train/query_reliability"] == 0.5


def test_every_metric_of_a_real_epoch_is_a_number_of_a_known_group(siamese):
    metrics = summarise(train(siamese, [make_batch(0), make_batch(1)]))
    assert {key.partition("/")[0] for key in metrics} == {"train", "warning_signs"}
    assert all(isinstance(value, float) for value in metrics.values())
    assert {f"train/loss_{name}" for name in ("total", "reliability", "similarity", "peakiness")} <= set(
        metrics
    )


def test_a_loss_that_is_not_finite_survives_the_way_from_a_worker_to_the_driver():
    error = pickle.loads(pickle.dumps(NonFiniteLoss("the loss is NaN", ("a.jpg", "b.jpg"))))
    assert error.samples == ("a.jpg", "b.jpg")
    assert str(error) == "the loss is NaN; the batch was: a.jpg, b.jpg"
