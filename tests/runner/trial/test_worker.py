"""Data-parallel workers compute what one worker would, where the loss allows it."""

import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

from r2d2.config import TrainConfig
from r2d2.containers import PairBatch
from r2d2.data.share import Share
from r2d2.losses.config import LossConfig
from r2d2.losses.pair_loss import pair_loss
from r2d2.network import build_network
from r2d2.network_config import NetworkConfig
from r2d2.schedule import OptimiserConfig
from r2d2.training.epoch import make_optimiser, train_epoch
from r2d2.training.siamese import SiameseNetwork
from r2d2.warp import pixel_grid
from runner.trial.worker import data_parallel

CONFIG = NetworkConfig(name="fast", channels=1, dim=16)
# Fixed queries: random ones would differ between one worker and two.
LOSS = LossConfig(query_grid=True)
PAIRS, SIDE = 4, 64
SCHEDULED = TrainConfig(
    network=CONFIG, loss=LOSS, epochs=2, optimiser=OptimiserConfig(0.01, schedule="linear", final_share=0.1)
)


def batch():
    generator = torch.Generator().manual_seed(0)
    images1 = torch.randn(PAIRS, 3, SIDE, SIDE, generator=generator)
    images2 = images1 + 0.1 * torch.randn(PAIRS, 3, SIDE, SIDE, generator=generator)
    return images1, images2, pixel_grid(SIDE, SIDE).expand(PAIRS, 2, SIDE, SIDE).contiguous()


def loss_of(siamese, part: slice):
    image1, image2, aflow = (tensor[part] for tensor in batch())
    return pair_loss(*siamese(image1, image2), aflow, LOSS, torch.Generator().manual_seed(0)).total


def gradients(siamese) -> dict[str, torch.Tensor]:
    return {n.removeprefix("module."): p.grad.clone() for n, p in siamese.named_parameters()}


def frozen_network():
    return SiameseNetwork(build_network(CONFIG, seed=0), frozen_statistics=True).train()


def scheduled_training(rank: int):
    """The learning rates of two epochs of two steps, and the weights after them."""
    siamese = data_parallel(frozen_network(), 2)
    optimiser = make_optimiser(siamese, SCHEDULED)
    half = slice(rank * PAIRS // 2, (rank + 1) * PAIRS // 2)
    batches = [PairBatch(*(tensor[half] for tensor in batch()), ("pair",) * (PAIRS // 2))] * 2
    steps = [
        step
        for e in (1, 2)
        for step in train_epoch(siamese, batches, SCHEDULED, optimiser, e, Share((rank,), 2, 2))
    ]
    return [step.learning_rate for step in steps], [p.detach() for p in siamese.parameters()]


def worker(rank: int, port: int, path: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        siamese = data_parallel(frozen_network(), 2)
        half = PAIRS // 2
        loss_of(siamese, slice(rank * half, (rank + 1) * half)).backward()
        torch.save(gradients(siamese), f"{path}/{rank}.pt")
        torch.save(scheduled_training(rank), f"{path}/training_{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder_of_two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gradients")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(worker, (port, str(folder)), nprocs=2)
    return folder


@pytest.fixture(scope="module")
def two_workers(folder_of_two):
    return [torch.load(folder_of_two / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def test_two_workers_with_half_the_batch_give_the_gradients_of_one_with_all_of_it(two_workers):
    # One worker, the whole batch; distractors come from the same half, as they do in the workers.
    siamese, half = frozen_network(), PAIRS // 2
    ((loss_of(siamese, slice(0, half)) + loss_of(siamese, slice(half, PAIRS))) / 2).backward()
    expected = gradients(siamese)
    assert expected.keys() == two_workers[0].keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(two_workers[0][name], gradient, rtol=1e-4, atol=1e-7)


def test_both_workers_hold_the_same_gradients(two_workers):
    for name, gradient in two_workers[0].items():
        assert torch.equal(gradient, two_workers[1][name])


def test_the_halves_alone_differ(two_workers):
    # Otherwise the first test would pass without any exchange between workers.
    siamese = frozen_network()
    loss_of(siamese, slice(0, PAIRS // 2)).backward()
    alone = gradients(siamese)
    assert any(not torch.allclose(alone[n], g, rtol=1e-2) for n, g in two_workers[0].items())


def test_both_workers_take_their_steps_at_the_same_scheduled_rates_and_stay_equal(folder_of_two):
    trained = [torch.load(folder_of_two / f"training_{rank}.pt", weights_only=True) for rank in (0, 1)]
    (rates, weights), (other_rates, other_weights) = trained
    assert rates == pytest.approx([0.01, 0.007, 0.004, 0.001])
    assert rates == other_rates
    assert all(torch.equal(a, b) for a, b in zip(weights, other_weights, strict=True))


def test_one_worker_needs_no_exchange():
    siamese = frozen_network()
    assert data_parallel(siamese, 1) is siamese
