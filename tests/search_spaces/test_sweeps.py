"""Every sweep of the folder can be expanded and every trial built, in seconds and without a cluster."""

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest
from ray import tune

from r2d2.config import SCRATCH, TrainConfig
from r2d2.losses.reliability import RELIABILITY_LOSSES
from r2d2.losses.similarity import SIMILARITIES
from runner.compare.rows import find_baselines, label_trials
from search_spaces.sweep import RELEASED, Sweep, Trial, describe_sweep, load_sweep, sweep_names

NOT_NUMBERS = {name for name, value in TrainConfig().flat().items() if isinstance(value, str | bool)}


@pytest.mark.parametrize("name", sweep_names())
def test_every_sweep_expands_to_valid_trials(name):
    sweep, question = load_sweep(name)
    trials = sweep.trials()
    assert question.splitlines()[0].endswith("?")
    assert trials
    assert len({trial.key for trial in trials}) == len(trials)
    assert all(trial.config.epochs > 0 for trial in trials)


# A similarity that somebody adds makes more trials; the docstrings count those of the study.
OF_THE_STUDY = {"cosine", "czekanowski", "dice", "jaccard", "squared_chord"}


@pytest.mark.parametrize("name", sweep_names())
def test_the_docstring_says_the_question_and_the_number_of_trials(name):
    sweep, text = load_sweep(name)
    counted = len([trial for trial in sweep.trials() if trial.config.loss.similarity in OF_THE_STUDY])
    count = f"{counted}" if sweep.search_alg is None else f"up to {sweep.num_samples}"
    assert describe_sweep(name) == (text.splitlines()[0], count)


@pytest.mark.parametrize("name", sweep_names())
def test_expanding_twice_gives_the_same_trials(name):
    sweep, _ = load_sweep(name)
    assert [t.key for t in sweep.trials()] == [t.key for t in sweep.trials()]


@pytest.mark.parametrize("name", ["similarities", "full_grid"])
def test_a_new_similarity_appears_in_the_sweeps_by_itself(name):
    sweep, _ = load_sweep(name)
    assert {t.config.loss.similarity for t in sweep.trials()} == set(SIMILARITIES)


def test_the_study_has_nine_rows_and_a_control_and_says_what_the_nine_were_called():
    sweep, question = load_sweep("study")
    trials = sweep.trials()
    rows = {t.variant for t in trials} | {
        b.variant for b in sweep.starts_of(trials) if b.config.init == RELEASED
    }
    assert len(sweep.names) == 9
    assert rows - set(sweep.names) == {"ap+cosine (fine-tuned)"}
    assert set(sweep.names) <= rows
    described = " ".join(question.split())
    assert all(name in described for name in sweep.names.values())
    assert "data.sources=wasf=PLACE" in described
    assert all(sum(t.variant == row for t in trials) == 3 for row in {t.variant for t in trials})


def test_the_full_grid_is_a_full_grid():
    sweep, _ = load_sweep("full_grid")
    assert len(sweep.trials()) == len(RELIABILITY_LOSSES) * len(SIMILARITIES) * 2 * 3


def test_hyperparameters_are_searched_with_a_scheduler():
    sweep, _ = load_sweep("hyperparameters")
    assert sweep.search_alg is not None
    assert sweep.scheduler is not None
    assert len({t.config.optimiser.learning_rate for t in sweep.trials()}) == sweep.num_samples


def test_starts_are_the_networks_that_trials_start_from_each_once():
    sweep, _ = load_sweep("study")
    starts = sweep.starts_of(sweep.trials())
    assert [(one.config.init, one.config.seed) for one in starts if one.config.init == SCRATCH] == [
        (SCRATCH, 0),
        (SCRATCH, 1),
        (SCRATCH, 2),
    ]
    assert [one.variant for one in starts if one.config.init == RELEASED] == ["released network"]


@pytest.mark.parametrize("key", ["starting_networks", "baselines"])
def test_a_sweep_may_leave_the_starting_networks_out_also_by_the_former_key(key):
    space = {"loss": {"similarity": "dice"}}
    without = Sweep(space=space, **{key: False})
    assert without.starts_of(without.trials()) == []
    # A command may ask for more samples.
    changed = replace(without, num_samples=2)
    assert not changed.starting_networks
    assert Sweep(space=space).starts_of(without.trials())


@pytest.mark.parametrize("name", sweep_names())
def test_trials_that_start_from_the_same_network_share_a_start(name):
    sweep, _ = load_sweep(name)
    trials = sweep.trials()
    starts = [(b.config.network, b.config.init, b.config.seed) for b in sweep.starts_of(trials)]
    assert len(starts) == len(set(starts))
    # A sweep that was begun goes on with the names that its starts have.
    assert sweep.starts_of(trials)[0] == trials[0].start
    assert set(starts) == {
        (t.config.network, t.config.init, t.config.seed if t.config.init == SCRATCH else 0) for t in trials
    }


def test_overrides_apply_to_every_trial_and_leave_no_twins():
    sweep, _ = load_sweep("smoke")
    trials = sweep.trials(["loss.similarity=jaccard", "epochs=7"])
    assert [(t.config.loss.similarity, t.config.epochs) for t in trials] == [("jaccard", 7)]


def test_a_sweep_of_ones_own(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        '"""Mine?"""\nfrom ray import tune\nfrom search_spaces.sweep import Sweep\n'
        'sweep = Sweep(space={"seed": tune.grid_search([4, 5])})\n'
    )
    sweep, question = load_sweep(str(file))
    assert question == "Mine?"
    assert [t.config.seed for t in sweep.trials()] == [4, 5]


def test_the_sweep_of_contributing_is_one(tmp_path):
    text = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", text.partition("## Add a sweep")[2], re.S)[1]
    (tmp_path / "question.py").write_text(code)
    sweep, question = load_sweep(str(tmp_path / "question.py"))
    trials = sweep.trials()
    assert question.splitlines()[0].endswith("?")
    assert len(trials) == 12
    labels = label_trials(trials)
    assert find_baselines(trials, labels, sweep.baseline) == {
        f"ap+{similarity} (scratch), patch_size={size}": f"ap+cosine (scratch), patch_size={size}"
        for similarity in ("cosine", "dice")
        for size in (16, 32)
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x = 1\n", "defines no sweep"),
        ("import nothing_of_that_name\n", "cannot be read"),
        ("sweep = (", "cannot be read"),
    ],
)
def test_a_file_without_a_sweep_is_refused(tmp_path, text, sentence):
    file = tmp_path / "mine.py"
    file.write_text(text)
    with pytest.raises(ValueError, match=sentence):
        load_sweep(str(file))


def test_unknown_sweeps_and_missing_files_are_refused():
    with pytest.raises(ValueError, match="unknown sweep 'stduy'; known: demo, full_grid"):
        load_sweep("stduy")
    with pytest.raises(ValueError, match=r"there is no file 'nowhere\.py'"):
        load_sweep("nowhere.py")


def test_a_key_is_made_from_what_differs_from_the_defaults_only():
    assert TrainConfig().changed() == {}
    plain = Trial(TrainConfig())
    assert plain.key == f"ap-cosine-scratch-s0-{hashlib.sha256(b'{}').hexdigest()[:8]}"
    dice = Trial(TrainConfig.from_dict({"loss": {"similarity": "dice"}, "optimiser": {"warmup_steps": 0}}))
    assert dice.config.changed() == {"loss.similarity": "dice"}
    digest = hashlib.sha256(b'{"loss.similarity": "dice"}').hexdigest()[:8]
    assert dice.key == f"ap-dice-scratch-s0-{digest}"


@pytest.mark.parametrize("name", [n for n in TrainConfig().flat() if n not in NOT_NUMBERS])
def test_every_number_of_a_configuration_is_part_of_its_key(name):
    value = TrainConfig().flat()[name]
    changed = Sweep(space={}).trials([f"{name}={value / 2 if isinstance(value, float) else value + 2}"])
    assert changed[0].key != Trial(TrainConfig()).key


def test_an_unknown_key_in_a_space_is_refused():
    with pytest.raises(ValueError, match="unknown key 'los'; known"):
        Sweep(space={"los": {"similarity": "dice"}}).trials()


def test_a_mode_other_than_min_and_max_is_refused():
    with pytest.raises(ValueError, match="mode is 'best'; it must be 'min' or 'max'"):
        Sweep(space={}, mode="best")


def test_each_repetition_of_a_sampled_space_draws_anew_and_keeps_what_was_drawn():
    space = {"optimiser": {"learning_rate": tune.uniform(1e-4, 1e-2)}, "seed": tune.grid_search([0, 1])}
    few, more = (Sweep(space=space, num_samples=count).trials() for count in (1, 3))
    assert [len({trial.key for trial in trials}) for trials in (few, more)] == [2, 6]
    assert more[:2] == few
    assert Sweep(space=space).is_sampled
    assert not Sweep(space={"seed": tune.grid_search([0, 1])}).is_sampled
