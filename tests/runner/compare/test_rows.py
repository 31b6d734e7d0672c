"""Each row is compared with the baseline that its sweep's file names, whatever the order of rows."""

import pytest

from runner.compare.rows import find_baselines, find_row, label_trials
from search_spaces.sweep import Trial, load_sweep


def study():
    sweep, _ = load_sweep("study")
    trials = sweep.trials()
    return sweep, [*sweep.starts_of(trials), *trials]


@pytest.mark.parametrize("backwards", [False, True])
def test_rows_of_the_study_are_compared_with_the_cosine_of_their_start(backwards):
    sweep, trials = study()
    trials = trials[::-1] if backwards else trials
    found = find_baselines(trials, label_trials(trials), sweep.baseline)
    assert found == {
        trial.variant: "ap+cosine (scratch)" if trial.config.init == "scratch" else "ap+cosine (fine-tuned)"
        for trial in trials
    }
    assert found["released network"] == "ap+cosine (fine-tuned)"
    assert found["untrained network"] == "ap+cosine (scratch)"


def test_of_rows_that_differ_in_more_the_one_with_the_most_equal_settings_is_taken():
    sweep, _ = load_sweep("similarities")
    trials = [t for noise in (25.0, 10.0) for t in sweep.trials([f"data.noise={noise}"])]
    found = find_baselines(trials, label_trials(trials), "ap+cosine")
    assert found["ap+dice (scratch), noise=10"] == "ap+cosine (scratch), noise=10"
    assert found["ap+dice (scratch), noise=25"] == "ap+cosine (scratch), noise=25"


def test_a_baseline_may_be_one_row_for_all():
    _, trials = study()
    labels = label_trials(trials)
    assert set(find_baselines(trials, labels, "hardnet+dice (fine-tuned)").values()) == {
        "hardnet+dice (fine-tuned)"
    }


def test_a_baseline_that_is_no_row_of_this_table_compares_nothing():
    trials = [Trial(t.config) for t in load_sweep("smoke")[0].trials()]
    assert find_baselines(trials, label_trials(trials), "ap+jaccard") == {}


@pytest.mark.parametrize("text", ["ap+dice (fine-tuned) · Dice", "ap+dice (fine-tuned)", "Dice"])
def test_a_person_may_name_a_row_by_either_of_its_names(text):
    sweep, trials = study()
    rows = set(label_trials(trials, sweep.names).values())
    assert find_row(text, rows) == "ap+dice (fine-tuned) · Dice"


def test_unknown_and_ambiguous_rows_are_refused():
    rows = ["ap+dice (scratch), noise=1", "ap+dice (scratch), noise=2"]
    with pytest.raises(ValueError, match=r"may be any of these rows: ap.dice .scratch., noise=1; ap"):
        find_row("ap+dice (scratch)", rows)
    with pytest.raises(ValueError, match=r"unknown baseline 'ap.dise'; known: .*"):
        find_row("ap+dise", rows)
