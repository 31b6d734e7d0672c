"""A sweep's plan: everything is checked, and what names a place names it for every process."""

import numpy as np
import pytest
from PIL import Image

from runner.plan import SweepOptions, plan_sweep
from runner.settings import Settings


@pytest.fixture
def settings(tmp_path):
    return Settings.from_environment({"R2D2_HOME": str(tmp_path / "home")})


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        pixels = rng.integers(0, 255, (96, 128, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def test_a_relative_folder_of_photographs_is_named_in_full(photos, settings, monkeypatch):
    # Workers run in folders of their own, where a relative path names nothing.
    monkeypatch.chdir(photos.parent)
    plan = plan_sweep("smoke", settings, SweepOptions(overrides=("data.photos=photos",)))
    assert {trial.config.data.photos for trial in (*plan.trials, *plan.baselines)} == {str(photos)}


def test_trials_have_the_same_names_however_the_folder_is_named(photos, settings, monkeypatch):
    monkeypatch.chdir(photos.parent)
    keys = []
    for name in ("photos", "./photos", str(photos)):
        plan = plan_sweep("smoke", settings, SweepOptions(overrides=(f"data.photos={name}",)))
        keys.append([trial.key for trial in plan.trials])
    assert keys[0] == keys[1] == keys[2]


def test_a_searcher_searches_with_the_full_name_too(photos, settings, monkeypatch):
    monkeypatch.chdir(photos.parent)
    plan = plan_sweep(
        "hyperparameters", settings, SweepOptions(overrides=("data.photos=photos", "data.held_out=1"))
    )
    assert plan.space["data"] == {"photos": str(photos), "held_out": 1}


def test_the_samples_keep_their_name(settings):
    plan = plan_sweep("smoke", settings, SweepOptions())
    assert {trial.config.data.photos for trial in plan.trials} == {"samples"}
