"""What the network promises: the released architecture, unit descriptors, maps in range, seeded weights."""

from __future__ import annotations

import pytest
import torch

from r2d2.network import MIN_SIDE, NETWORKS, R2D2Network, build_network, network_from_state
from r2d2.network_config import NetworkConfig

MAPS = ("descriptors", "reliability", "repeatability")


def random_image(height, width, batch=1):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


def reference_network(arrays, name):
    state = {key.removeprefix("state/"): torch.tensor(a) for key, a in arrays.items() if key[:6] == "state/"}
    return network_from_state(NetworkConfig(name=name, channels=1, dim=32), state, "the reference")


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("image", ["1", "2"])
def test_maps_equal_the_reference(golden, name, mode, image):
    arrays = golden(f"network_{name}")
    network = reference_network(arrays, name).train(mode == "train")
    with torch.no_grad():
        features = network(torch.tensor(arrays[f"image{image}"]))
    for map_name in MAPS:
        expected = torch.tensor(arrays[f"{mode}/{map_name}{image}"])
        torch.testing.assert_close(getattr(features, map_name), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_parameter_names_and_their_order_are_those_of_the_reference(golden, name):
    released = [key.removeprefix("state/") for key in golden(f"network_{name}") if key.startswith("state/")]
    assert list(build_network(NetworkConfig(name, 1, 32), seed=0).state_dict()) == released


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize(("channels", "dim"), [(1, 8), (2, 17), (3, 1)])
@pytest.mark.parametrize(("height", "width"), [(16, 24), (17, 23), (MIN_SIDE, 31), (MIN_SIDE, MIN_SIDE)])
def test_any_width_and_any_image_size(name, channels, dim, height, width):
    network = build_network(NetworkConfig(name, channels, dim), seed=0)
    features = network(random_image(height, width, batch=2))
    if name == "fast":
        height, width = 2 * (height // 2), 2 * (width // 2)
    assert features.descriptors.shape == (2, dim, height, width)
    assert features.reliability.shape == features.repeatability.shape == (2, 1, height, width)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_descriptors_have_unit_length_and_maps_lie_between_0_and_1(name):
    features = build_network(NetworkConfig(name, 1, 16), seed=0)(random_image(20, 30))
    torch.testing.assert_close(features.descriptors.norm(dim=1), torch.ones(1, 20, 30))
    assert (features.reliability >= 0).all()
    assert (features.reliability <= 1).all()
    assert (features.repeatability >= 0).all()
    assert (features.repeatability < 1).all()


@pytest.mark.parametrize(("channels", "count"), [(4, 0.486e6), (6, 1.0e6)])
def test_number_of_weights_is_the_published_one(channels, count):
    state = R2D2Network(NetworkConfig("quad", channels, 128)).state_dict()
    assert sum(tensor.numel() for tensor in state.values()) == pytest.approx(count, rel=0.1)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_weight_gets_a_finite_gradient(name):
    network = build_network(NetworkConfig(name, 1, 8), seed=0)
    features = network(random_image(16, 16, batch=2))
    (features.descriptors[:, 0] + features.reliability[:, 0] + features.repeatability[:, 0]).mean().backward()
    for weight_name, weight in network.named_parameters():
        assert weight.grad is not None, weight_name
        assert torch.isfinite(weight.grad).all(), weight_name


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_black_image_gives_finite_maps(name):
    features = build_network(NetworkConfig(name, 1, 8), seed=0).eval()(torch.zeros(1, 3, 16, 16))
    assert all(torch.isfinite(getattr(features, map_name)).all() for map_name in MAPS)


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize(("height", "width"), [(1, 1), (MIN_SIDE - 1, 100), (100, MIN_SIDE - 1), (0, 10)])
def test_a_very_small_image_is_refused_with_its_size(name, height, width):
    network = build_network(NetworkConfig(name, 1, 8), seed=0)
    with pytest.raises(ValueError, match=rf"{width} x {height} pixels; the smallest is 4 x 4"):
        network(torch.zeros(1, 3, height, width))


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (torch.zeros(3, 16, 16), r"shape \(3, 16, 16\); it must be \(B, 3, H, W\)"),
        (torch.zeros(1, 1, 16, 16), r"shape \(1, 1, 16, 16\)"),
        (torch.zeros(1, 3, 16, 16, dtype=torch.uint8), "uint8; it must be floating point"),
    ],
)
def test_what_is_no_image_is_refused(image, sentence):
    with pytest.raises(ValueError, match=sentence):
        build_network(NetworkConfig("fast", 1, 8), seed=0)(image)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_same_seed_same_weights_and_another_seed_others(name):
    config = NetworkConfig(name, 1, 8)
    first, again, other = (build_network(config, seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["ops.0.weight"], other["ops.0.weight"])


def test_seeded_weights_are_pytorchs_default_ones():
    config = NetworkConfig("fast", 1, 8)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        default = R2D2Network(config).state_dict()
    assert all(
        torch.equal(default[key], value) for key, value in build_network(config, 5).state_dict().items()
    )


def test_a_seeded_network_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    build_network(NetworkConfig("fast", 1, 8), seed=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_unseeded_network_follows_the_global_random_state():
    config = NetworkConfig("fast", 1, 8)
    weights = []
    for _ in range(2):
        with torch.random.fork_rng():
            torch.manual_seed(5)
            weights.append(build_network(config).state_dict()["ops.0.weight"])
    assert torch.equal(*weights)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (NetworkConfig("fats"), "unknown network 'fats'; known: fast, quad"),
        (NetworkConfig("fast", channels=0), "network.channels is 0; it must be from 1 to 64"),
        (NetworkConfig("fast", dim=-1), "network.dim is -1; it must be from 1 to 4096"),
    ],
)
def test_an_impossible_network_is_refused(config, sentence):
    with pytest.raises(ValueError, match=sentence):
        build_network(config)


def without(state, name):
    return {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: without(s, "clf.bias"), "net.pt lacks 'clf.bias', which a network 'fast' with channels=1"),
        (lambda s: {**s, "more": torch.zeros(1)}, "net.pt has 'more', which a network .* does not have"),
        (
            lambda s: {**s, "sal.bias": torch.zeros(2)},
            r"'sal.bias' in net.pt has shape \(2,\); .* needs \(1",
        ),
        (
            lambda s: {**s, "sal.bias": torch.zeros(1, dtype=torch.int64)},
            "'sal.bias' in net.pt holds torch.int64",
        ),
        (lambda s: {**s, "sal.bias": torch.zeros(1).to_sparse()}, "'sal.bias' in net.pt is no plain"),
        (
            lambda s: {**s, "sal.bias": torch.zeros(1, device="meta")},
            "'sal.bias' in net.pt is no plain",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(change, sentence):
    config = NetworkConfig("fast", 1, 8)
    state = build_network(config, seed=0).state_dict()
    with pytest.raises(ValueError, match=sentence):
        network_from_state(config, change(state), "net.pt")


def test_the_maps_of_a_pixel_without_features_and_their_gradients_are_finite():
    network = build_network(NetworkConfig("fast", channels=1, dim=8), seed=0)
    x = torch.zeros(1, 8, 2, 2, requires_grad=True)
    maps = network._maps(x)
    (maps.descriptors.sum() + maps.reliability.sum() + maps.repeatability.sum()).backward()
    assert all(tensor.isfinite().all() for tensor in (*vars(maps).values(), x.grad))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_network_may_be_converted(dtype):
    network = build_network(NetworkConfig("fast", channels=1, dim=8), seed=0).to(dtype).eval()
    with torch.no_grad():
        maps = network(torch.randn(1, 3, 16, 16, dtype=dtype))
    assert maps.descriptors.isfinite().all()
