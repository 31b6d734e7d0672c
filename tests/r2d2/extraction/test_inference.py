"""What extraction computes with less work is what the network says."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch

from r2d2.checkpoint import load_model
from r2d2.extraction import inference, keypoints
from r2d2.extraction.inference import FastNetwork
from r2d2.extraction.keypoints import Extractor, arithmetic, extract_keypoints
from r2d2.extraction.pyramid import tiles
from r2d2.extraction.settings import ExtractionSettings
from r2d2.network import MIN_SIDE, NETWORKS, build_network
from r2d2.network_config import NetworkConfig

SETTINGS = ExtractionSettings(min_size=0, min_scale=0.3, min_reliability=0, min_repeatability=0)
EXACT = dataclasses.replace(SETTINGS, exact=True)
CPU = torch.device("cpu")


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def trained(name, channels=1, dim=8):
    """A network whose normalisations have statistics of their own, as after some training."""
    network = build_network(NetworkConfig(name, channels, dim), seed=0).train()
    with torch.no_grad():
        for seed in range(10):
            network(noise(2, 3, 32, 32, seed=seed) * 2 + 1)
    return network.eval()


def every_pixel(height, width):
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return rows.flatten(), columns.flatten()


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize(("height", "width"), [(MIN_SIDE, MIN_SIDE), (40, 56), (33, 47)])
@pytest.mark.parametrize("band", [1, 3000, inference.BAND_BYTES])
def test_maps_and_descriptors_are_those_of_the_network(monkeypatch, name, height, width, band):
    monkeypatch.setattr(inference, "BAND_BYTES", band)
    network, image = trained(name), noise(1, 3, height, width)
    with torch.inference_mode():
        expected, maps = network(image), FastNetwork(network, torch.float32)(image)
    torch.testing.assert_close(maps.reliability, expected.reliability[0, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(maps.repeatability, expected.repeatability[0, 0], atol=1e-5, rtol=0)
    described = maps.describe(*every_pixel(*maps.reliability.shape))
    torch.testing.assert_close(described, expected.descriptors[0].flatten(1).T, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_16_bits_come_near_and_leave_no_plateaus(name, precision):
    network, image = trained(name), noise(1, 3, 64, 96)
    with torch.inference_mode():
        expected, maps = network(image), FastNetwork(network, precision)(image)
    torch.testing.assert_close(maps.reliability, expected.reliability[0, 0], atol=0.02, rtol=0)
    torch.testing.assert_close(maps.repeatability, expected.repeatability[0, 0], atol=0.02, rtol=0)
    # bfloat16 has 128 numbers between 0.5 and 1.
    assert len(maps.repeatability.unique()) > 0.5 * maps.repeatability.numel()
    assert maps.features.dtype == torch.float32


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_images_smaller_than_the_dilation_of_a_kernel(name, precision):
    network = trained(name)
    for height, width in [(MIN_SIDE, MIN_SIDE), (MIN_SIDE, 20), (20, MIN_SIDE + 1), (9, 9)]:
        image = noise(1, 3, height, width)
        with torch.inference_mode():
            expected, maps = network(image), FastNetwork(network, precision)(image)
        tolerance = 1e-5 if precision == torch.float32 else 0.1
        torch.testing.assert_close(maps.reliability, expected.reliability[0, 0], atol=tolerance, rtol=0)
        torch.testing.assert_close(maps.repeatability, expected.repeatability[0, 0], atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_keypoints_are_those_of_the_exact_path(name):
    network, image = trained(name), noise(3, 61, 83)
    folded = dataclasses.replace(SETTINGS, precision="float32")
    fast, exact = (extract_keypoints(network, image, settings) for settings in (folded, EXACT))
    places = [{tuple(row) for row in found.keypoints.round(2).tolist()} for found in (fast, exact)]
    assert len(places[0] & places[1]) >= 0.99 * max(map(len, places))
    np.testing.assert_allclose(fast.scores[:100], exact.scores[:100], atol=1e-5, rtol=0)


def test_weights_that_change_change_the_keypoints():
    network, image = trained("fast"), noise(3, 40, 40)
    before = extract_keypoints(network, image, SETTINGS)
    extractor = Extractor(network, SETTINGS)
    with torch.no_grad():
        network.ops[0].weight.mul_(-1)
    after = extract_keypoints(network, image, SETTINGS)
    assert not np.array_equal(before.scores, after.scores)
    # An extractor keeps the weights it was made with.
    np.testing.assert_array_equal(extractor(image).scores, before.scores)


def test_the_arithmetic_has_a_name(monkeypatch):
    assert arithmetic(EXACT, CPU) == arithmetic(EXACT, torch.device("cuda")) == "float32"
    assert arithmetic(SETTINGS, torch.device("cuda")) == "float16"
    for able, name in (({}, "float32-folded"), ({"amx_bf16": True}, "bfloat16")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able)
        assert arithmetic(SETTINGS, CPU) == name
    for device in (CPU, torch.device("cuda")):
        for precision, name in (
            ("float32", "float32-folded"),
            ("float16", "float16"),
            ("bfloat16", "bfloat16"),
        ):
            assert arithmetic(dataclasses.replace(SETTINGS, precision=precision), device) == name


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize("settings", [SETTINGS, EXACT])
def test_tiles_change_nothing(monkeypatch, name, settings):
    network, image = trained(name), noise(3, 97, 131)
    # In 16 bits a tile may round otherwise.
    settings = dataclasses.replace(settings, min_scale=0.8, precision="float32")
    whole = extract_keypoints(network, image, settings)
    monkeypatch.setattr("r2d2.extraction.pyramid.TILE_PIXELS", 3000)
    tiled = extract_keypoints(network, image, settings)
    assert len(whole) == len(tiled) > 200
    order, other = (np.lexsort(found.keypoints.T) for found in (whole, tiled))
    np.testing.assert_array_equal(whole.keypoints[order], tiled.keypoints[other])
    np.testing.assert_allclose(whole.scores[order], tiled.scores[other], atol=1e-5, rtol=0)
    np.testing.assert_allclose(whole.descriptors[order], tiled.descriptors[other], atol=1e-4, rtol=0)


def test_kept_memory_is_given_back_between_tiles_and_before_images_of_another_size(monkeypatch):
    given = []
    monkeypatch.setattr(keypoints, "give_back", lambda: given.append(True))
    extract, counts = Extractor(trained("fast"), dataclasses.replace(SETTINGS, min_scale=1)), []
    for shape in ((3, 97, 131), (3, 97, 131), (3, 131, 97)):
        extract(noise(*shape))
        counts.append(len(given))
    assert counts == [1, 1, 2]
    monkeypatch.setattr("r2d2.extraction.pyramid.TILE_PIXELS", 3000)
    extract(noise(3, 131, 97))
    assert len(given) == 2 + len(tiles(131, 97)) > 6


MEMORY = """
import resource, sys
import torch
from r2d2.checkpoint import load_model
from r2d2.extraction.settings import ExtractionSettings
from r2d2.extraction.keypoints import extract_keypoints
network = load_model(sys.argv[1]).network
settings = ExtractionSettings(exact=sys.argv[2] == "exact")
if sys.argv[3] == "full":
    # The largest level only: it holds the most, and three quarters of the time are saved.
    settings = ExtractionSettings(exact=settings.exact, max_size=9999, min_scale=0.9, min_reliability=0)
torch.set_num_threads(2)
assert len(extract_keypoints(network, torch.rand(3, 3648, 5472), settings))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.real_size
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("name", "arithmetic", "size"),
    [
        ("r2d2_WASF_N16", "fast", "default"),
        ("r2d2_WASF_N16", "exact", "default"),
        ("faster2d2_WASF_N16", "fast", "full"),
        ("faster2d2_WASF_N16", "exact", "full"),
    ],
)
def test_20_megapixels_fit_into_4_gibibytes(shared, name, arithmetic, size):
    command = [sys.executable, "-c", MEMORY, str(shared / "weights" / f"{name}.pt"), arithmetic, size]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(answer.stdout) < 4
    assert load_model(shared / "weights" / f"{name}.pt").network.config.channels == 4
