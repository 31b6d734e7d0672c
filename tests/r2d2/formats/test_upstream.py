"""Released `.pt` files are imported; nothing in them is executed."""

from __future__ import annotations

import collections
import pickle
import random
import zipfile
from pathlib import Path

import pytest
import torch

from r2d2.formats.upstream import UPSTREAM_NETWORKS, load_upstream, parse_network
from r2d2.network import build_network
from r2d2.network_config import NetworkConfig

SMALL = NetworkConfig("fast", 1, 8)
CALL = "Fast_Quad_L2Net_ConfCFS(mchan=1, dim=8)"
RELEASED = {
    "r2d2_WASF_N16": NetworkConfig("quad"),
    "faster2d2_WASF_N16": NetworkConfig("fast"),
    "study_dice": NetworkConfig("fast"),
}


def weights(seed=7):
    return build_network(SMALL, seed=seed).state_dict()


def write(path, state, net=CALL, old_format=False, **more):
    content = {"net": net, "state_dict": state, **more}
    torch.save(content, path, _use_new_zipfile_serialization=not old_format)
    return path


def assert_holds(network, state):
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


class Touches:
    """A pickle of it creates a file when it is loaded carelessly."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", sorted(RELEASED))
def test_released_networks_are_imported(shared, name):
    network = load_upstream(shared / "weights" / f"{name}.pt")
    assert network.config == RELEASED[name]
    assert not network.training
    assert sum(value.numel() for value in network.state_dict().values()) == 485_803


@pytest.mark.parametrize("old_format", [False, True])
def test_weights_arrive_unchanged(tmp_path, old_format):
    state = weights()
    network = load_upstream(write(tmp_path / "net.pt", state, old_format=old_format))
    assert network.config == SMALL
    assert_holds(network, state)


def test_the_prefix_of_data_parallel_training_is_stripped(tmp_path):
    state = weights()
    prefixed = collections.OrderedDict((f"module.{key}", value) for key, value in state.items())
    assert_holds(load_upstream(write(tmp_path / "net.pt", prefixed)), state)


def test_batch_counters_may_be_missing(tmp_path):
    state = weights()
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    assert len(old) < len(state)
    assert_holds(load_upstream(write(tmp_path / "net.pt", old)), state)


@pytest.mark.parametrize("old_format", [False, True])
def test_the_optimisers_state_beside_the_weights_is_no_obstacle(tmp_path, old_format):
    state = weights()
    optimiser = {
        "state": collections.defaultdict(dict, {0: {"step": 3}}),
        "more": collections.defaultdict(list),
    }
    path = write(tmp_path / "net.pt", state, old_format=old_format, optimizer=optimiser)
    assert_holds(load_upstream(path), state)


def test_half_precision_weights_become_single_precision(tmp_path):
    state = {key: value.half() if value.is_floating_point() else value for key, value in weights().items()}
    network = load_upstream(write(tmp_path / "net.pt", state))
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


@pytest.mark.parametrize("upstream", sorted(UPSTREAM_NETWORKS))
def test_the_name_is_parsed(upstream):
    name = UPSTREAM_NETWORKS[upstream]
    assert parse_network(f"{upstream}()") == NetworkConfig(name, 4, 128)
    assert parse_network(f" {upstream}( dim=32,mchan = 6 )\n") == NetworkConfig(name, 6, 32)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("L2Net()", "unknown network 'L2Net'; known: Fast_Quad_L2Net_ConfCFS, Quad_L2Net_ConfCFS"),
        ("Quad_L2Net_ConfCFS", "must be a call"),
        ("Quad_L2Net_ConfCFS(4)", "must be a call"),
        ("Quad_L2Net_ConfCFS(*range(3))", "must be a call"),
        ("nets.Quad_L2Net_ConfCFS()", "must be a call"),
        ("Quad_L2Net_ConfCFS(); x", "must be a call"),
        ("Quad_L2Net_ConfCFS(", "must be a call"),
        ("Quad_L2Net_ConfCFS()\0", "must be a call"),
        ("(" * 190, "must be a call"),
        ("-" * 199 + "1", "must be a call"),
        ("Quad_L2Net_ConfCFS(mchan=" + "4" * 300 + ")", "must be a call"),
        ("", "must be a call"),
        (None, "must be a call"),
        (b"Quad_L2Net_ConfCFS()", "must be a call"),
        ("Quad_L2Net_ConfCFS(width=4)", "unknown argument 'width'; known: dim, mchan"),
        ("Quad_L2Net_ConfCFS(**{'mchan': 4})", "unknown argument 'None'"),
        ("Quad_L2Net_ConfCFS(mchan=2+2)", "'mchan' must be a whole number"),
        ("Quad_L2Net_ConfCFS(mchan=True)", "'mchan' must be a whole number"),
        ("Quad_L2Net_ConfCFS(mchan=0)", "'mchan' must be a whole number of at least 1"),
        ("Quad_L2Net_ConfCFS(dim=128.0)", "'dim' must be a whole number"),
    ],
)
def test_any_other_name_is_refused(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        parse_network(text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('pathlib').Path({marker!r}).touch()",
        "Quad_L2Net_ConfCFS(mchan=__import__('pathlib').Path({marker!r}).touch())",
        "(lambda: open({marker!r}, 'w'))()",
    ],
)
def test_code_in_the_name_is_refused_and_not_executed(tmp_path, text):
    marker = tmp_path / "executed"
    path = write(tmp_path / "net.pt", weights(), net=text.format(marker=str(marker)))
    with pytest.raises(ValueError, match=r"net\.pt: "):
        load_upstream(path)
    assert not marker.exists()


@pytest.mark.parametrize("place", ["top", "state", "beside"])
@pytest.mark.parametrize("kind", ["zip", "old", "pickle"])
def test_code_in_the_pickle_is_refused_and_not_executed(tmp_path, place, kind):
    path, marker = tmp_path / "net.pt", tmp_path / "executed"
    hostile = Touches(marker)
    content = {
        "top": hostile,
        "state": {"net": CALL, "state_dict": {**weights(), "more": hostile}},
        "beside": {"net": CALL, "state_dict": weights(), "optimizer": hostile},
    }[place]
    if kind == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(ValueError, match=r"net\.pt is refused: .* more than plain weights"):
        load_upstream(path)
    assert not marker.exists()
    if kind != "pickle":
        torch.load(path, weights_only=False)
        assert marker.exists(), "the test's pickle is harmless"


def test_the_sentence_names_the_forbidden_thing_and_gives_no_advice_to_load_it_all_the_same(tmp_path):
    torch.save(Touches(tmp_path / "executed"), tmp_path / "net.pt")
    with pytest.raises(
        ValueError, match=r"it holds '__builtin__\.getattr', which is more than plain weights"
    ) as refusal:
        load_upstream(tmp_path / "net.pt")
    assert "add_safe_globals" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_importing_does_not_widen_what_pytorch_loads_elsewhere(tmp_path):
    # PyTorch lists a set, whose order is any.
    before = set(torch.serialization.get_safe_globals())
    load_upstream(write(tmp_path / "net.pt", weights()))
    assert set(torch.serialization.get_safe_globals()) == before


@pytest.mark.parametrize("old_format", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, share, old_format):
    path = write(tmp_path / "net.pt", weights(), old_format=old_format)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"net\.pt is refused"):
        load_upstream(path)


@pytest.mark.parametrize("content", [b"not a network", b"\x80\x02N.", b"\x80\x04\x95", b"PK\x03\x04"])
def test_another_kind_of_file_is_refused(tmp_path, content):
    path = tmp_path / "net.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"net\.pt is"):
        load_upstream(path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([1, 2], "must be a dictionary with 'net' and 'state_dict'"),
        ({"net": CALL}, "must be a dictionary with 'net' and 'state_dict'"),
        ({"net": CALL, "state_dict": [1]}, "'state_dict' must be a dictionary of tensors"),
        ({"net": CALL, "state_dict": {"clf.bias": 3}}, "'clf.bias' in its 'state_dict' is no tensor"),
        ({"net": CALL, "state_dict": {5: torch.zeros(1)}}, "'5' in its 'state_dict' is no tensor"),
        ({"net": CALL, "state_dict": {}}, "lacks 'ops.0.weight'"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, content, sentence):
    torch.save(content, tmp_path / "net.pt")
    with pytest.raises(ValueError, match=sentence) as refusal:
        load_upstream(tmp_path / "net.pt")
    assert "net.pt" in str(refusal.value)


@pytest.mark.parametrize("net", ["Quad_L2Net_ConfCFS(mchan=1, dim=8)", "Fast_Quad_L2Net_ConfCFS()"])
def test_weights_of_another_network_are_refused(tmp_path, net):
    path = write(tmp_path / "net.pt", weights(), net=net)
    with pytest.raises(ValueError, match=r"net\.pt (has|lacks) "):
        load_upstream(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no file .*net\.pt"):
        load_upstream(tmp_path / "net.pt")


def test_records_that_unpack_to_more_are_refused_before_they_are_read(tmp_path):
    path = write(tmp_path / "net.pt", weights())
    with zipfile.ZipFile(path) as stored, zipfile.ZipFile(tmp_path / "packed.pt", "w") as packed:
        for name in stored.namelist():
            packed.writestr(name, stored.read(name), zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=r"packed\.pt is refused: .*its \d+ records become \d+ bytes"):
        load_upstream(tmp_path / "packed.pt")


def test_a_list_of_records_of_any_length_is_refused_before_it_is_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "net.pt", "w") as archive:
        for number in range(25_000):
            archive.writestr(str(number), b"")
    with pytest.raises(
        ValueError, match=r"directory of the zip archive has 12\d{5} bytes, more than 1048576"
    ):
        load_upstream(tmp_path / "net.pt")


@pytest.mark.parametrize(
    "call", ["Quad_L2Net_ConfCFS(mchan=1000000000)", "Quad_L2Net_ConfCFS(dim=99999999999999)"]
)
def test_dimensions_that_no_network_has_are_one_sentence(tmp_path, call):
    with pytest.raises(ValueError, match=r"net\.pt: network\.(channels|dim) is \d+; it must be from 1 to"):
        load_upstream(write(tmp_path / "net.pt", weights(), net=call))


@pytest.mark.parametrize("old_format", [False, True])
def test_random_damage_gives_a_network_or_a_sentence_and_nothing_else(tmp_path, old_format):
    path = write(tmp_path / "net.pt", weights(), old_format=old_format)
    sound, rng, refused = bytearray(path.read_bytes()), random.Random(0), 0
    for _ in range(60):
        bad = bytearray(sound)
        for _ in range(8):
            bad[rng.randrange(1500)] = rng.randrange(256)
        path.write_bytes(bad)
        try:
            load_upstream(path)
        except ValueError:
            refused += 1
    assert refused > 20
