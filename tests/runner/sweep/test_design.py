"""What a sweep trains on, how much, and how small a gain it shows, is said before it starts."""

import math
from dataclasses import replace

import pytest

from evaluation.statistics.power import smallest_detectable
from runner.record.command import RunOptions
from runner.settings import Settings
from runner.sweep.design import Design, design_of
from runner.sweep.plan import SweepOptions, plan_sweep

DESIGN = Design("/photos", 158, "photographs", 6, (158, 158), (95, 130), 9, 3, {"validation": 12})


def test_it_says_source_photographs_pairs_steps_and_the_smallest_gain():
    text = " ".join(DESIGN.lines())
    gain = smallest_detectable(9, 3, 12)
    assert "Trained on /photos: 158 photographs, and 6 photographs held out for validation." in text
    assert "158 pairs an epoch, 95 to 130 steps a trial." in text
    assert f"9 comparisons of 3 seeds: +{gain:.3f} on validation (12 sequences)" in text
    assert "Fewer than 200 steps change a network little" in text
    assert f"+{smallest_detectable(9, 6, 12):.3f} with 6 seeds" in text
    assert f"+{smallest_detectable(9, 3, 48):.3f} with 24 photographs held out" in text
    assert smallest_detectable(9, 3, 48) < gain
    assert smallest_detectable(9, 6, 12) < gain


def test_with_one_seed_no_gain_of_a_loss_is_shown():
    design = replace(DESIGN, seeds=1)
    assert math.isinf(design.gain("validation"))
    assert "One seed a row" in design.lines()[-1]
    assert "nothing about losses" in design.lines()[-1]


def test_a_design_that_is_large_enough_is_not_advised():
    lines = replace(DESIGN, steps=(9000, 9000), sequences={"hpatches": 108}).lines()
    assert "Fewer" not in " ".join(lines)
    assert "Smaller gains" not in " ".join(lines)


@pytest.fixture
def settings(tmp_path):
    return Settings.from_environment({"R2D2_HOME": str(tmp_path / "home")})


@pytest.mark.parametrize("name", ["similarities", "full_grid", "hyperparameters", "one_hour"])
def test_a_question_is_not_answered_with_the_samples_unless_they_are_asked_for(settings, name):
    with pytest.raises(ValueError, match=rf"'{name}' needs training data: .*--photos samples takes"):
        plan_sweep(name, settings, SweepOptions())


def test_samples_that_are_asked_for_are_taken_and_counted(settings):
    said = []
    options = SweepOptions(run=RunOptions(overrides=("data.photos=samples",)))
    plan = plan_sweep("similarities", settings, options, said.append)
    design = design_of(plan)
    assert (design.source, design.items, design.held_out) == ("samples", 10, 6)
    assert design.pairs == (10, 10)
    # One step of 8 of the 10 pairs, in each of 5 epochs.
    assert design.steps == (5, 5)
    # Five similarities and the untrained network, but for the control.
    assert (design.compared, design.seeds) == (5, 3)
    assert design.sequences == {"validation": 12}
    assert "checking 16 photographs" in said


def test_a_sweep_that_only_shows_that_all_works_may_have_the_samples(settings):
    plan = plan_sweep("smoke", settings, SweepOptions())
    assert design_of(plan).source == "samples"
    assert (plan.definition.baseline, plan.definition.names) == ("", {})
