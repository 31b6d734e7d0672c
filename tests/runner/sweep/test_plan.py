"""A sweep's plan: everything is checked, and what names a place names it for every process."""

import shutil
from dataclasses import replace

import miniatures
import numpy as np
import pytest
from PIL import Image

from runner.record.command import RunOptions
from runner.settings import Settings
from runner.sweep.estimate import steps_per_epoch
from runner.sweep.plan import SweepOptions, plan_sweep


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
    plan = plan_sweep("smoke", settings, SweepOptions(run=RunOptions(overrides=("data.photos=photos",))))
    assert {trial.config.data.photos for trial in (*plan.trials, *plan.starts)} == {str(photos)}


def test_trials_have_the_same_names_however_the_folder_is_named(photos, settings, monkeypatch):
    monkeypatch.chdir(photos.parent)
    keys = []
    for name in ("photos", "./photos", str(photos)):
        plan = plan_sweep("smoke", settings, SweepOptions(run=RunOptions(overrides=(f"data.photos={name}",))))
        keys.append([trial.key for trial in plan.trials])
    assert keys[0] == keys[1] == keys[2]


def test_a_searcher_searches_with_the_full_name_too(photos, settings, monkeypatch):
    monkeypatch.chdir(photos.parent)
    plan = plan_sweep(
        "hyperparameters",
        settings,
        SweepOptions(run=RunOptions(overrides=("data.photos=photos", "data.held_out=1"))),
    )
    assert plan.space["data"] == {"photos": str(photos), "held_out": 1}


def test_the_samples_keep_their_name(settings):
    plan = plan_sweep("smoke", settings, SweepOptions())
    assert {trial.config.data.photos for trial in plan.trials} == {"samples"}


def test_places_of_sources_are_named_in_full_and_counted(settings, tmp_path, monkeypatch):
    miniatures.write_wasf(tmp_path)
    monkeypatch.chdir(tmp_path)
    plans = [
        plan_sweep(
            "smoke",
            settings,
            SweepOptions(
                "mix",
                RunOptions((f"data.sources={text}", "data.pairs_per_epoch=0", "pairs_per_worker=2")),
            ),
        )
        for text in ("WASF=.", f"wasf={tmp_path}")
    ]
    keys = [[trial.key for trial in plan.trials] for plan in plans]
    assert keys[0] == keys[1]
    assert {trial.config.data.sources for trial in plans[0].trials} == {f"wasf={tmp_path}"}
    held_out = plans[0].trials[0].config.data.held_out
    training = plans[0].data.training
    assert len(plans[0].data.held_out) == held_out
    assert training.pairs == len(training) <= 6 + 6 + 6 + 3 - held_out
    assert plans[0].definition.photos == f"{training.digest} {plans[0].data.held_out.digest}"
    assert steps_per_epoch(plans[0], plans[0].trials[0]) == training.pairs // 2


def test_other_contents_of_a_source_are_another_definition(settings, tmp_path):
    miniatures.write_wasf(tmp_path)
    options = SweepOptions(name="mix", run=RunOptions(overrides=(f"data.sources=wasf={tmp_path}",)))
    first = plan_sweep("smoke", settings, options).definition
    miniatures.write_flow(tmp_path / "aachen", count=4)
    path = tmp_path / "aachen/optical_flow/mask/0_1.png"
    miniatures.save(path, ~miniatures.known_partners())
    assert plan_sweep("smoke", settings, options).definition.photos != first.photos


def test_a_wrong_source_is_refused_before_anything_starts(settings):
    with pytest.raises(ValueError, match="unknown source 'wob'; known: aachen, flow"):
        plan_sweep("smoke", settings, SweepOptions(run=RunOptions(overrides=("data.sources=wob=/data",))))


def test_photographs_beside_sources_are_refused(settings, tmp_path):
    overrides = (f"data.photos={tmp_path}", f"data.sources=photos={tmp_path}")
    with pytest.raises(ValueError, match=r"data.sources \('photos=.*'\) takes the place of data.photos"):
        plan_sweep("smoke", settings, SweepOptions(run=RunOptions(overrides=overrides)))


def test_a_test_benchmark_decides_only_if_the_user_says_so(photos, settings, tmp_path):
    file = tmp_path / "tuned.py"
    file.write_text(
        '"""Which loss wins on the test?"""\n'
        "from search_spaces.sweep import Sweep\n"
        'sweep = Sweep(space={"epochs": 1}, metric="hpatches/mma_3px")\n'
    )
    sequence = tmp_path / "benchmark/i_one"
    sequence.mkdir(parents=True)
    for number in range(1, 7):
        shutil.copy(photos / "0.png", sequence / f"{number}.png")
        if number > 1:
            np.savetxt(sequence / f"H_1_{number}", np.eye(3))
    settings = replace(settings, hpatches=str(sequence.parent))
    options = SweepOptions(run=RunOptions((f"data.photos={photos}", "data.held_out=1")))
    with pytest.raises(ValueError, match=r"a score on a test: .* or give --choose-on-test"):
        plan_sweep(str(file), settings, options)
    plan = plan_sweep(str(file), settings, replace(options, choose_on_test=True))
    assert plan.definition.metric == "hpatches/mma_3px"
    # What was said once counts for those who continue it.
    plan.definition.save(plan.store)
    assert plan_sweep(str(file), settings, options).definition == plan.definition
