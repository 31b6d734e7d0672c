"""A sweep whose definition has changed is not resumed, and the difference is named."""

import dataclasses

import pytest

from r2d2.config import TrainConfig
from runner.record.definition import SweepDefinition

DICE = {"loss": {"similarity": "dice"}, "epochs": 5, "seed": 0}
COSINE = {"loss": {"similarity": "cosine"}, "epochs": 5, "seed": 0}


@pytest.fixture
def definition():
    return SweepDefinition(
        name="mine",
        metric="validation/mma_3px",
        mode="max",
        trials={"a": DICE, "b": COSINE},
        search={},
        photos="123",
        benchmarks={"validation": {"protocol": "validation", "digest": "456"}},
        init="",
    )


def test_comes_back_as_it_was_saved(definition, tmp_path):
    definition.save(tmp_path)
    assert SweepDefinition.load(tmp_path) == definition


def test_there_is_none_in_a_new_folder(tmp_path):
    assert SweepDefinition.load(tmp_path) is None


def test_the_same_definition_is_resumed(definition, tmp_path):
    definition.require_same(definition, tmp_path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"photos": "124"}, "photos was 123, is 124"),
        (
            {"trials": {"d": DICE | {"epochs": 6}, "b": COSINE}},
            "definition: epochs was 5, is 6. Give",
        ),
        (
            {"trials": {"d": DICE | {"seed": 1}, "e": COSINE | {"seed": 1}}},
            "definition: seed was 0, is 1 in 2 trials. Give",
        ),
        ({"trials": {"a": DICE}}, "definition: the trial b is gone. Give"),
        ({"trials": {"a": DICE, "b": COSINE, "c": {}}}, "definition: the trial c is new. Give"),
        (
            {"benchmarks": {"validation": {"protocol": "d2net", "digest": "456"}}},
            "protocol was validation, is d2net",
        ),
    ],
)
def test_a_changed_definition_is_refused_with_the_difference(definition, tmp_path, change, sentence):
    with pytest.raises(ValueError, match="was started with another definition") as error:
        definition.require_same(dataclasses.replace(definition, **change), tmp_path)
    assert sentence in str(error.value)
    assert "--name" in str(error.value)


def test_a_definition_from_before_a_setting_existed_is_that_with_its_default(definition, tmp_path):
    complete = TrainConfig.from_dict(DICE).to_dict()
    older = {**complete, "optimiser": {"learning_rate": 1e-4, "weight_decay": 5e-4}}
    older.pop("num_workers")
    before, now = (dataclasses.replace(definition, trials={"a": trial}) for trial in (older, complete))
    before.save(tmp_path)
    loaded = SweepDefinition.load(tmp_path)
    loaded.require_same(now, tmp_path)
    cosine = {**complete, "optimiser": {**complete["optimiser"], "schedule": "cosine"}}
    changed = dataclasses.replace(now, trials={"b": cosine})
    assert loaded.differences(changed) == ["optimiser.schedule was constant, is cosine"]


def test_a_setting_that_is_no_more_is_named(definition):
    changed = dataclasses.replace(definition, trials={"a": {**DICE, "momentum": 0.9}, "b": COSINE})
    assert changed.differences(definition) == ["momentum is gone"]


def test_a_damaged_definition_is_refused(tmp_path):
    (tmp_path / "sweep.json").write_text('{"name": "mine"')
    with pytest.raises(ValueError, match="is damaged"):
        SweepDefinition.load(tmp_path)
