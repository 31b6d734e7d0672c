"""A name that is not known is answered with the known ones, and the one that was probably meant."""

import pytest

from r2d2.config import TrainConfig, with_override
from r2d2.unknown import unknown


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("stduy", "unknown sweep 'stduy'; known: demo, study. Did you mean 'study'?"),
        ("Demo", "unknown sweep 'Demo'; known: demo, study. Did you mean 'demo'?"),
        ("xyz", "unknown sweep 'xyz'; known: demo, study"),
    ],
)
def test_the_known_name_that_is_most_like_it_is_asked_for(name, sentence):
    assert unknown("sweep", name, ["demo", "study"]) == sentence


def test_without_known_names_it_says_so():
    assert unknown("sweep", "mine", [], where=" in /home") == "unknown sweep 'mine' in /home; known: none"


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("learning_rate", "optimiser.learning_rate"),
        ("optimiser.lr_rate", "optimiser.learning_rate"),
        ("data.crop", "data.crop_size"),
        ("los.similarity", "loss"),
        ("epoch", "epochs"),
    ],
)
def test_a_key_is_looked_for_in_every_group(key, meant):
    with pytest.raises(ValueError, match=rf"unknown key .*Did you mean '{meant}'\?$"):
        with_override({}, f"{key}=1")


def test_a_choice_is_asked_for_too():
    with pytest.raises(ValueError, match=r"unknown similarity 'dise' .*Did you mean 'dice'\?$"):
        TrainConfig.from_dict({"loss": {"similarity": "dise"}})
