"""A checkpoint continues a training bit for bit, is all there or not at all, and executes nothing."""

from __future__ import annotations

import io
import json
import math
import pickle
from pathlib import Path

import pytest
import torch

from r2d2 import checkpoint as checkpoint_module
from r2d2.checkpoint import (
    WEIGHTS,
    load_checkpoint,
    load_model,
    network_digest,
    restore_optimiser,
    save_checkpoint,
)
from r2d2.config import CONFIG_FILE, TrainConfig
from r2d2.formats.optimiser_file import OPTIMISER
from r2d2.losses.config import LossConfig
from r2d2.network import NETWORKS, build_network
from r2d2.network_config import NetworkConfig
from r2d2.version import code_version

SMALL = NetworkConfig("fast", 1, 8)
FILES = (WEIGHTS, CONFIG_FILE, OPTIMISER)


@pytest.fixture(scope="module")
def config():
    loss = LossConfig(similarity="dice", weight_peakiness=0.25)
    return TrainConfig(network=SMALL, loss=loss, seed=3, epochs=7)


@pytest.fixture
def folder(tmp_path, config):
    """A checkpoint after one epoch of a tiny training."""
    network = build_network(SMALL, seed=3)
    optimiser = adam(network)
    train_epoch(network, optimiser, epoch=0)
    save_checkpoint(tmp_path / "checkpoint", network, config, 1, optimiser, {"train/loss_total": 0.5})
    return tmp_path / "checkpoint"


def adam(network):
    return torch.optim.Adam(network.parameters(), lr=1e-3, weight_decay=5e-4)


def train_epoch(network, optimiser, epoch, steps=3):
    """Something to learn whose random numbers follow from the epoch, as in a real training."""
    network.train()
    generator = torch.Generator().manual_seed(epoch)
    for _ in range(steps):
        features = network(torch.randn(2, 3, 16, 16, generator=generator))
        optimiser.zero_grad()
        loss = features.repeatability.mean() + (features.reliability - 0.3).square().mean()
        (loss + features.descriptors[:, 0].mean()).backward()
        optimiser.step()


def assert_same_weights(network1, network2):
    state1, state2 = network1.state_dict(), network2.state_dict()
    assert list(state1) == list(state2)
    assert all(torch.equal(state1[name], state2[name]) for name in state1)


def assert_same_optimisers(optimiser1, optimiser2):
    state1, state2 = optimiser1.state_dict(), optimiser2.state_dict()
    assert state1["param_groups"] == state2["param_groups"]
    assert state1["state"].keys() == state2["state"].keys()
    for index, values in state1["state"].items():
        assert values.keys() == state2["state"][index].keys()
        assert all(torch.equal(value, state2["state"][index][name]) for name, value in values.items())


class Touches:
    """A pickle of it creates a file when it is loaded carelessly."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_checkpoint_in_mid_epoch_says_so_and_older_ones_are_of_the_end_of_one(folder, config):
    assert load_checkpoint(folder).step == 0
    save_checkpoint(folder, build_network(SMALL, seed=3), config, epoch=1, step=7)
    assert (load_checkpoint(folder).epoch, load_checkpoint(folder).step) == (1, 7)
    header = json.loads((folder / "config.json").read_text())
    del header["step"]
    (folder / "config.json").write_text(json.dumps(header))
    assert load_checkpoint(folder).step == 0


def test_everything_comes_back(folder, config):
    network = build_network(SMALL, seed=3)
    train_epoch(network, adam(network), epoch=0)
    saved = load_checkpoint(folder)
    assert_same_weights(saved.network, network)
    assert not saved.network.training
    assert saved.config == config
    assert saved.epoch == 1
    assert saved.metrics == {"train/loss_total": 0.5}
    assert saved.code_version == code_version()
    assert saved.digest == network_digest(network)


def test_two_epochs_are_one_epoch_a_checkpoint_and_one_epoch_bit_for_bit(folder):
    straight = build_network(SMALL, seed=3)
    straight_adam = adam(straight)
    for epoch in range(2):
        train_epoch(straight, straight_adam, epoch)

    saved = load_checkpoint(folder)
    resumed_adam = adam(saved.network)
    restore_optimiser(resumed_adam, saved)
    train_epoch(saved.network, resumed_adam, epoch=saved.epoch)

    assert_same_weights(saved.network, straight)
    assert_same_optimisers(resumed_adam, straight_adam)


def test_without_the_optimisers_state_the_second_epoch_is_another_one(folder):
    straight = build_network(SMALL, seed=3)
    straight_adam = adam(straight)
    for epoch in range(2):
        train_epoch(straight, straight_adam, epoch)
    network = load_checkpoint(folder).network
    train_epoch(network, adam(network), epoch=1)
    assert not torch.equal(network.ops[0].weight, straight.ops[0].weight)


def test_the_saved_learning_rate_is_restored_with_the_optimiser(folder):
    saved = load_checkpoint(folder)
    optimiser = torch.optim.Adam(saved.network.parameters(), lr=1.0)
    restore_optimiser(optimiser, saved)
    assert optimiser.param_groups[0]["lr"] == 1e-3
    assert optimiser.param_groups[0]["betas"] == (0.9, 0.999)


def test_an_optimiser_that_has_not_stepped_is_restored_too(tmp_path, config):
    network = build_network(SMALL, seed=0)
    save_checkpoint(tmp_path / "start", network, config, 0, adam(network))
    saved = load_checkpoint(tmp_path / "start")
    optimiser = adam(saved.network)
    restore_optimiser(optimiser, saved)
    assert optimiser.state_dict()["state"] == {}


def test_training_does_not_continue_without_an_optimiser_state(tmp_path, config):
    save_checkpoint(tmp_path / "start", build_network(SMALL, seed=0), config, 0)
    saved = load_checkpoint(tmp_path / "start")
    assert saved.optimiser_state is None
    assert not (tmp_path / "start" / OPTIMISER).exists()
    with pytest.raises(ValueError, match="saved without an optimiser"):
        restore_optimiser(adam(saved.network), saved)


def test_an_optimiser_of_other_parameters_is_refused(folder):
    saved = load_checkpoint(folder)
    with pytest.raises(
        ValueError, match=r"the optimiser has \[2\] parameters per group, the checkpoint \[22\]"
    ):
        restore_optimiser(adam(saved.network.clf), saved)


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize(("channels", "dim"), [(1, 8), (2, 5)])
def test_every_network_comes_back(tmp_path, name, channels, dim):
    network = build_network(NetworkConfig(name, channels, dim), seed=1)
    save_checkpoint(tmp_path / "c", network, TrainConfig(network=network.config), 0)
    saved = load_checkpoint(tmp_path / "c")
    assert saved.network.config == network.config
    assert_same_weights(saved.network, network)


def test_the_header_is_complete_readable_json(folder, config):
    header = json.loads((folder / CONFIG_FILE).read_text())
    assert header["config"] == config.to_dict()
    assert header["epoch"] == 1
    assert header["code_version"] == code_version()
    assert {path.name for path in folder.iterdir()} == set(FILES)


def test_metrics_that_are_not_finite_come_back_as_nan(tmp_path, config):
    metrics = {"nan": math.nan, "inf": math.inf, "one": 1}
    save_checkpoint(tmp_path / "c", build_network(SMALL, seed=0), config, 0, metrics=metrics)
    json.loads((tmp_path / "c" / CONFIG_FILE).read_text(), parse_constant=pytest.fail)
    saved = load_checkpoint(tmp_path / "c").metrics
    assert math.isnan(saved["nan"])
    assert math.isnan(saved["inf"])
    assert saved["one"] == 1.0


# The digest


def test_the_digest_knows_the_weights_and_the_network_and_nothing_else(tmp_path, config):
    network = build_network(SMALL, seed=0)
    digest = network_digest(network)
    assert network_digest(build_network(SMALL, seed=0).train()) == digest
    assert network_digest(build_network(SMALL, seed=1)) != digest
    assert network_digest(build_network(NetworkConfig("quad", 1, 8), seed=0)) != digest
    with torch.no_grad():
        network.sal.bias += 1e-6
    assert network_digest(network) != digest


def test_the_digest_depends_neither_on_optimiser_nor_on_epoch(tmp_path, config):
    network = build_network(SMALL, seed=0)
    save_checkpoint(tmp_path / "a", network, config, 0)
    save_checkpoint(tmp_path / "b", network, config, 5, adam(network), {"train/loss_total": 1.0})
    assert load_checkpoint(tmp_path / "a").digest == load_checkpoint(tmp_path / "b").digest


# Writing


def test_an_earlier_checkpoint_is_replaced(folder, config):
    save_checkpoint(folder, build_network(SMALL, seed=9), config, 2)
    assert load_checkpoint(folder).epoch == 2
    assert not (folder / OPTIMISER).exists()
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_an_empty_folder_becomes_a_checkpoint(tmp_path, config):
    (tmp_path / "c").mkdir()
    save_checkpoint(tmp_path / "c", build_network(SMALL, seed=0), config, 0)
    assert load_checkpoint(tmp_path / "c").epoch == 0


def test_a_checkpoint_in_a_folder_that_does_not_exist_makes_it(tmp_path, config):
    save_checkpoint(tmp_path / "a" / "b" / "c", build_network(SMALL, seed=0), config, 0)
    assert load_checkpoint(tmp_path / "a" / "b" / "c").epoch == 0


@pytest.mark.parametrize("writer", ["write_tensors", "write_optimiser"])
@pytest.mark.parametrize("fault", [OSError("no space left"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_earlier_checkpoint_and_nothing_else(
    folder, config, monkeypatch, writer, fault
):
    def fail(*_args):
        raise fault

    digest = load_checkpoint(folder).digest
    monkeypatch.setattr(checkpoint_module, writer, fail)
    network = build_network(SMALL, seed=9)
    with pytest.raises(type(fault)):
        save_checkpoint(folder, network, config, 2, adam(network))
    assert load_checkpoint(folder).digest == digest
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_folder_of_something_else_is_not_overwritten(tmp_path, config):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="holds something else than a checkpoint"):
        save_checkpoint(tmp_path, build_network(SMALL, seed=0), config, 0)
    assert (tmp_path / "thesis.tex").exists()


def test_a_file_is_not_overwritten(tmp_path, config):
    (tmp_path / "c").write_text("a file")
    with pytest.raises(ValueError, match="is a file; a checkpoint is a folder"):
        save_checkpoint(tmp_path / "c", build_network(SMALL, seed=0), config, 0)


# Reading what is no sound checkpoint


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ValueError, match=rf"{name} is missing"):
        load_checkpoint(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_named(folder, name, share):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(share * (len(content) - 2))])
    with pytest.raises(ValueError, match=rf"{name} is damaged"):
        load_checkpoint(folder)


@pytest.mark.parametrize("name", [WEIGHTS, OPTIMISER])
def test_a_single_changed_bit_is_noticed(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} is damaged"):
        load_checkpoint(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["torch", "old torch", 2, 3, 4, 5])
def test_a_pickle_is_refused_and_not_executed(folder, tmp_path, name, kind):
    hostile = {"weights": Touches(tmp_path / "executed")}
    if isinstance(kind, int):
        content = pickle.dumps(hostile, protocol=kind)
    else:
        buffer = io.BytesIO()
        torch.save(hostile, buffer, _use_new_zipfile_serialization=kind == "torch")
        content = buffer.getvalue()
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} is refused: it is a pickle"):
        load_checkpoint(folder)
    assert not (tmp_path / "executed").exists()


def test_a_pt_file_where_a_checkpoint_is_expected_is_refused(tmp_path):
    torch.save({"net": "Quad_L2Net_ConfCFS()", "state_dict": {}}, tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r"net\.pt is a file; a checkpoint is a folder with config\.json"):
        load_checkpoint(tmp_path / "net.pt")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no checkpoint .*nowhere"):
        load_checkpoint(tmp_path / "nowhere")


def edit_header(folder, **changes):
    header = json.loads((folder / CONFIG_FILE).read_text())
    (folder / CONFIG_FILE).write_text(json.dumps({**header, **changes}))


@pytest.mark.parametrize("dim", [7, 9, 128])
def test_weights_of_another_shape_are_refused(folder, config, dim):
    edit_header(folder, config={**config.to_dict(), "network": {"name": "fast", "channels": 1, "dim": dim}})
    with pytest.raises(
        ValueError, match=r"'ops\.23\.weight' in .*weights\.safetensors has shape \(8, 32, 2, 2\)"
    ):
        load_checkpoint(folder)


def test_weights_of_another_architecture_are_refused(folder, config):
    edit_header(folder, config={**config.to_dict(), "network": {"name": "quad", "channels": 1, "dim": 8}})
    with pytest.raises(ValueError, match=r"weights\.safetensors lacks 'ops\.9\.weight'"):
        load_checkpoint(folder)


def test_weights_of_another_checkpoint_are_refused(folder, config, tmp_path):
    save_checkpoint(tmp_path / "other", build_network(SMALL, seed=5), config, 1)
    (folder / WEIGHTS).write_bytes((tmp_path / "other" / WEIGHTS).read_bytes())
    with pytest.raises(ValueError, match=r"weights\.safetensors is damaged: its weights are not those"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"format": 99}, "not the header of a checkpoint of format 1"),
        ({"epoch": "1"}, "'epoch' is missing or of the wrong type"),
        ({"epoch": True}, "'epoch' is missing or of the wrong type"),
        ({"epoch": -1}, "'epoch' is -1"),
        ({"digest": None}, "'digest' is missing or of the wrong type"),
        ({"code_version": 1}, "'code_version' is missing or of the wrong type"),
        ({"metrics": {"loss": "low"}}, "'metrics' holds something else than numbers"),
        ({"config": {"speed": 1}}, "unknown key 'speed'; known: "),
        ({"config": {"seed": "x"}}, "seed is 'x'; it must be a whole number"),
        ({"optimiser": []}, "'optimiser' is missing or of the wrong type"),
    ],
)
def test_a_wrong_header_is_refused(folder, changes, sentence):
    edit_header(folder, **changes)
    with pytest.raises(ValueError, match=sentence) as refusal:
        load_checkpoint(folder)
    assert str(folder / CONFIG_FILE) in str(refusal.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense", "[" * 100_000, "\ufeff{}"])
def test_a_header_of_something_else_is_refused(folder, text):
    (folder / CONFIG_FILE).write_text(text)
    with pytest.raises(ValueError, match=r"config\.json is"):
        load_checkpoint(folder)


@pytest.mark.parametrize("groups", [None, [], [1], [{}], [{"params": [0]}], [{"params": list(range(23))}]])
def test_an_optimiser_header_of_other_parameters_is_refused(folder, groups):
    saved = json.loads((folder / CONFIG_FILE).read_text())["optimiser"]
    edit_header(folder, optimiser={**saved, "groups": groups})
    with pytest.raises(ValueError, match=r"config\.json is damaged: 'optimiser\.groups'"):
        load_checkpoint(folder)


def test_an_optimiser_state_of_another_network_is_refused(folder, tmp_path):
    other = build_network(NetworkConfig("fast", 1, 9), seed=0)
    optimiser = adam(other)
    train_epoch(other, optimiser, epoch=0)
    save_checkpoint(tmp_path / "other", other, TrainConfig(network=other.config), 1, optimiser)
    (folder / OPTIMISER).write_bytes((tmp_path / "other" / OPTIMISER).read_bytes())
    edit_header(folder, optimiser=json.loads((tmp_path / "other" / CONFIG_FILE).read_text())["optimiser"])
    with pytest.raises(ValueError, match=r"optimiser\.safetensors: '16\.exp_avg', .* fits no parameter"):
        load_checkpoint(folder)


# Models


def test_a_model_is_a_checkpoint_folder(folder, config):
    model = load_model(str(folder))
    saved = load_checkpoint(folder)
    assert (model.name, model.digest) == ("checkpoint", saved.digest)
    assert (model.config, model.epoch) == (config, 1)
    assert_same_weights(model.network, saved.network)


def test_a_model_is_an_upstream_file(tmp_path):
    network = build_network(SMALL, seed=2)
    content = {"net": "Fast_Quad_L2Net_ConfCFS(mchan=1, dim=8)", "state_dict": network.state_dict()}
    torch.save(content, tmp_path / "released.pt")
    model = load_model(tmp_path / "released.pt")
    assert (model.name, model.digest) == ("released", network_digest(network))
    assert (model.config, model.epoch) == (None, None)
    assert not model.network.training


@pytest.mark.parametrize("name", ["r2d2_WASF_N16", "faster2d2_WASF_N16", "study_dice"])
def test_released_networks_are_models(shared, name):
    assert load_model(shared / "weights" / f"{name}.pt").name == name


@pytest.mark.parametrize("name", ["nowhere", "nowhere.pt", "empty", "net.onnx"])
def test_anything_else_is_no_model_and_the_sentence_says_what_is(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "net.onnx").write_bytes(b"another kind of network")
    with pytest.raises(ValueError, match=rf"{name}.*a model is a checkpoint folder or an upstream \.pt file"):
        load_model(tmp_path / name)


def test_a_checkpoint_that_lacks_its_header_is_said_to_lack_it(folder):
    (folder / CONFIG_FILE).unlink()
    with pytest.raises(ValueError, match=r"config\.json is missing"):
        load_model(folder)
