"""Every setting is listed with what a person needs to set it."""

import pytest

from r2d2.config import TrainConfig, entries, find_entries


def test_the_list_is_complete():
    assert {e.key: e.default for e in entries()} == TrainConfig().flat()
    assert all(e.doc and e.allowed for e in entries())


@pytest.mark.parametrize(
    ("part", "keys"),
    [
        ("similarity", ["loss.similarity", "loss.weight_similarity"]),
        ("loss.bor", ["loss.border"]),
        ("Adam", []),
        ("grey levels", ["data.noise"]),
    ],
)
def test_settings_are_found_by_a_part_of_their_name_else_of_their_meaning(part, keys):
    if keys:
        assert [e.key for e in find_entries(part)] == keys
    else:
        with pytest.raises(ValueError, match="no setting is called like 'Adam'; r2d2 settings lists all"):
            find_entries(part)


def test_a_misspelt_one_is_asked_for():
    with pytest.raises(ValueError, match=r"Did you mean 'optimiser.learning_rate'\?$"):
        find_entries("lerning_rate")


@pytest.mark.parametrize(
    ("key", "allowed"),
    [
        ("data.tilt", "a number, between 0 and 2"),
        ("epochs", "a whole number, at least 0"),
        ("network.name", "fast, quad"),
        ("loss.query_grid", "true or false"),
    ],
)
def test_allowed_values_are_said_in_words(key, allowed):
    assert next(e for e in entries() if e.key == key).allowed == allowed
