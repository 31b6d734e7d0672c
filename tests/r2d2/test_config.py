"""A configuration is complete, frozen and strict, and what it refuses it says in one sentence."""

import dataclasses
import json
import re

import pytest

from r2d2.config import CHOICES, TrainConfig, with_override


def test_defaults_are_those_of_the_paper():
    config = TrainConfig()
    assert (config.optimiser.learning_rate, config.optimiser.weight_decay) == (1e-4, 5e-4)
    assert (config.epochs, config.pairs_per_worker, config.data.crop_size) == (25, 8, 192)
    assert (config.loss.reliability, config.loss.similarity, config.loss.patch_size) == ("ap", "cosine", 16)


def test_survives_json():
    config = TrainConfig.from_dict({"loss": {"similarity": "dice"}, "seed": 3})
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().seed = 1


def test_flat_has_dotted_keys():
    assert TrainConfig().flat()["loss.similarity"] == "cosine"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"loss": {"similarity": "dise"}},
            "unknown similarity 'dise' (loss.similarity); known: cosine, czek",
        ),
        ({"loss": {"reliability": "pa"}}, "unknown reliability 'pa'"),
        ({"network": {"name": "quick"}}, "unknown network 'quick' (network.name); known: fast, quad"),
        ({"los": {}}, "unknown key 'los'; known: compute, data, epochs"),
        ({"loss": {"similarty": "dice"}}, "unknown key 'similarty' in 'loss.similarty'; known: anchor_swap"),
        ({"epochs": "five"}, "epochs is 'five'; it must be a whole number"),
        ({"epochs": True}, "epochs is True; it must be a whole number"),
        ({"epochs": -1}, "epochs is -1; it must be at least 0"),
        ({"optimiser": {"learning_rate": float("nan")}}, "learning_rate is nan; it must be at least 0"),
        ({"loss": {"ap_floor": 2}}, "loss.ap_floor is 2.0; it must be between 0 and 1"),
        ({"loss": {"patch_size": 15}}, "loss.patch_size is 15; it must be even"),
        ({"loss": {"patch_size": 256}}, "loss.patch_size (256) is larger than data.crop_size (192)"),
        ({"data": {"crop_size": 32}}, "data.crop_size (32) leaves no pixel inside loss.border (16)"),
        (
            {"data": {"min_shorter_side": 600, "max_shorter_side": 500}},
            "is larger than data.max_shorter_side",
        ),
        (
            {"compute": {"precision": "float16"}},
            "unknown precision 'float16' (compute.precision); known: bfloat16, float32",
        ),
        ({"loss": "dice"}, "loss is 'dice'; it must be a dictionary"),
    ],
)
def test_refuses_with_a_sentence(values, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        TrainConfig.from_dict(values)


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("loss.similarity=dice", ("loss", "similarity"), "dice"),
        ("epochs=3", ("epochs",), 3),
        ("optimiser.learning_rate=1e-3", ("optimiser", "learning_rate"), 1e-3),
        ("loss.anchor_swap=True", ("loss", "anchor_swap"), True),
        ("data.photos=/a=b", ("data", "photos"), "/a=b"),
    ],
)
def test_an_override_is_parsed_by_the_type_of_its_field(assignment, path, value):
    values = with_override({"seed": 1}, assignment)
    config = TrainConfig.from_dict(values).to_dict()
    for name in path:
        config = config[name]
    assert config == value
    assert type(config) is type(value)
    assert values["seed"] == 1


@pytest.mark.parametrize(
    ("assignment", "sentence"),
    [
        ("epochs", "'epochs' is not an assignment"),
        ("epochs=3.5", "epochs is '3.5'; it must be a whole number"),
        ("loss.anchor_swap=maybe", "must be true or false"),
        ("loss=dice", "'loss' is a group of settings; set one of its keys: reliability"),
        ("los.similarity=dice", "unknown key 'los' in 'los.similarity'"),
        ("epochs.x=3", "unknown key 'epochs.x': 'epochs' has no parts"),
    ],
)
def test_an_override_that_does_not_fit_is_refused(assignment, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        with_override({}, assignment)


def test_an_override_leaves_the_dictionary_it_was_given_alone():
    values = {"loss": {"similarity": "dice"}}
    with_override(values, "loss.similarity=jaccard")
    assert values == {"loss": {"similarity": "dice"}}


def test_the_shipped_names_are_those_of_the_registries():
    for choice in CHOICES.values():
        assert choice.shipped == choice.names
