"""Batches arrive in order, a network is compiled or says why not, too little memory has one sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from r2d2.config import TrainConfig
from r2d2.containers import PairBatch
from r2d2.network import build_network
from r2d2.network_config import NetworkConfig
from r2d2.training.device import ahead, compile_network, enough_memory
from r2d2.training.out_of_memory import OutOfMemory

CPU = torch.device("cpu")


def batch(number):
    images = torch.full((2, 1, 3, 8, 8), float(number))
    return PairBatch(images[0], images[1], torch.zeros(1, 2, 8, 8), (f"pair {number}",))


def test_on_a_cpu_no_batch_is_asked_for_ahead_and_none_is_lost():
    asked = []

    def batches():
        for number in range(3):
            asked.append(number)
            yield batch(number)

    for number, (came, on_device) in enumerate(ahead(batches(), CPU)):
        assert asked == list(range(number + 1))
        assert came.samples == on_device.samples == (f"pair {number}",)
        assert torch.equal(on_device.image1, came.image1)
    assert asked == [0, 1, 2]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: copies ahead cannot be tested")
def test_on_a_gpu_batches_are_copied_ahead_in_order():
    device = torch.device("cuda")
    pairs = list(ahead((batch(number) for number in range(5)), device))
    assert [int(copied.image1.mean()) for _, copied in pairs] == [0, 1, 2, 3, 4]
    assert all(copied.image1.device.type == "cuda" for _, copied in pairs)


def test_where_nothing_can_be_compiled_the_setting_is_refused_with_the_reason(monkeypatch):
    def fail(_):
        raise RuntimeError("No working C++ compiler found\nand a long story")

    monkeypatch.setattr(torch, "compile", lambda _: fail)
    network = build_network(NetworkConfig("fast", channels=1, dim=4), seed=0)
    sentence = (
        r"compute.compile is true, but .* does not work for cpu.*: No working C\+\+ compiler found; install"
    )
    with pytest.raises(ValueError, match=sentence):
        compile_network(network, CPU)


# PyTorch's own, of its compiler.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.slow
def test_a_compiled_network_answers_the_same_and_keeps_its_names():
    image = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    network, plain = (build_network(NetworkConfig("fast", channels=1, dim=4), seed=0) for _ in range(2))
    compile_network(network, CPU)
    found, expected = network(image), plain(image)
    for name, tensor in vars(expected).items():
        torch.testing.assert_close(getattr(found, name), tensor, rtol=1e-4, atol=1e-5)
    found.repeatability.sum().backward()
    expected.repeatability.sum().backward()
    torch.testing.assert_close(network.sal.weight.grad, plain.sal.weight.grad, rtol=1e-4, atol=1e-5)
    assert list(network.state_dict()) == list(plain.state_dict())


def test_too_little_memory_says_what_to_lower():
    sentence = r"8 pairs of 192 x 192 px .* memory of cpu \(.* GiB, .* free; .*\); lower pairs_per_worker"
    with pytest.raises(OutOfMemory, match=sentence), enough_memory(TrainConfig(), CPU):
        torch.empty(2**60)


def test_too_little_memory_of_python_says_it_too_and_counts_the_pieces():
    with pytest.raises(OutOfMemory, match="4 pairs of 192"), enough_memory(TrainConfig(), CPU, pieces=2):
        raise MemoryError


def test_too_little_memory_of_a_gpu_says_it_too():
    gpu = torch.device("cuda:0")
    with pytest.raises(OutOfMemory, match="memory of cuda:0"), enough_memory(TrainConfig(), gpu):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shapes"), enough_memory(TrainConfig(), CPU):
        raise RuntimeError("shapes do not fit")


IN_LITTLE_MEMORY = """
import resource
import sys
from pathlib import Path

import torch

from r2d2.training.out_of_memory import OutOfMemory
from r2d2.losses.config import LossConfig
from r2d2.network_config import NetworkConfig
from r2d2.config import TrainConfig
from r2d2.containers import PairBatch
from r2d2.geometry import pixel_grid
from r2d2.network import build_network
from r2d2.data.share import Share
from r2d2.training.siamese import SiameseNetwork
from r2d2.training.epoch import make_optimiser, train_epoch

PAIRS, SIDE = 16, 96
pieces, limit = int(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(1)
loss = LossConfig(border=8, query_stride=16)
config = TrainConfig(NetworkConfig("fast", 8, 32), loss, pairs_per_worker=PAIRS)
siamese = SiameseNetwork(build_network(config.network, seed=0))
images = torch.randn(PAIRS, 3, SIDE, SIDE)
batch = PairBatch(images, images, pixel_grid(SIDE, SIDE).repeat(PAIRS, 1, 1, 1), ("pair",) * PAIRS)
if limit:
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    steps = train_epoch(siamese, [batch], config, make_optimiser(siamese, config), 1, Share(pieces=pieces))
    print([report.pairs for report in steps])
except OutOfMemory as error:
    print(error)
peak = next(l for l in Path("/proc/self/status").read_text().splitlines() if "VmPeak" in l)
print(int(peak.split()[1]) * 1024)
"""


def step_in_memory(pieces, limit=0):
    """Does a step in a process that may have so many bytes (0: any); what it says, and its peak in bytes."""
    command = [sys.executable, "-c", IN_LITTLE_MEMORY, str(pieces), str(limit)]
    said, peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return said, int(peak)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")
@pytest.mark.slow
def test_half_the_pairs_at_a_time_fit_where_all_of_them_do_not():
    (_, whole), (_, half) = step_in_memory(1), step_in_memory(2)
    limit = (whole + half) // 2
    assert step_in_memory(2, limit)[0] == "[8, 8]"
    refused, _ = step_in_memory(1, limit)
    assert refused.startswith("16 pairs of 192 x 192 px at a time do not fit into the memory of cpu (")
