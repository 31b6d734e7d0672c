"""A sweep with a question is planned with as many seeds as it is worth, or refused in one sentence."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from runner.__main__ import main
from runner.record.command import RunOptions
from runner.settings import Settings
from runner.sweep.plan import SweepOptions
from runner.sweep.question import Asked, plan_question, question_lines

SMALL = ("network.channels=1", "network.dim=32", "epochs=1", "data.pairs_per_epoch=8")
FILE = '''"""Which similarity?"""
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from search_spaces.sweep import Sweep
sweep = Sweep(
    space={"loss": {"similarity": tune.grid_search(["cosine", "dice"])}},
    baseline="ap+cosine", samples=True, %s
)
'''


@pytest.fixture
def settings(tmp_path):
    return Settings.from_environment({"R2D2_HOME": str(tmp_path / "home")})


def own_sweep(tmp_path, more=""):
    path = tmp_path / "which.py"
    path.write_text(FILE % more)
    return str(path)


def planned(source, settings, **asked):
    options = SweepOptions(run=RunOptions(overrides=SMALL))
    return plan_question(source, settings, options, Asked(**{"gain": 0.02, **asked}), print)


def test_all_rounds_are_planned_the_first_seeds_first(tmp_path, settings):
    plan = planned(own_sweep(tmp_path), settings, most_seeds=4)
    assert [(t.config.seed, t.config.loss.similarity) for t in plan.trials] == [
        (seed, name) for seed in range(4) for name in ("cosine", "dice")
    ]
    # Further seeds' starting networks answer nothing.
    assert [trial.config.seed for trial in plan.starts] == [0, 1]


def test_a_sweeps_own_seeds_come_first(tmp_path, settings):
    path = Path(own_sweep(tmp_path))
    path.write_text(path.read_text().replace('"dice"])}', '"dice"])}, "seed": tune.grid_search([7, 3])'))
    plan = planned(str(path), settings, most_seeds=4)
    assert list(dict.fromkeys(t.config.seed for t in plan.trials)) == [3, 7, 8, 9]


def test_without_a_limit_there_are_as_many_seeds_as_find_the_gain(tmp_path, settings):
    few = planned(own_sweep(tmp_path), settings, gain=0.1).options.asked.most_seeds
    many = planned(own_sweep(tmp_path), settings, gain=0.03).options.asked.most_seeds
    assert 3 <= few < many


def test_a_budget_holds_as_many_rounds_as_fit(tmp_path, settings):
    source = own_sweep(tmp_path)
    small = planned(source, settings, budget=2.0).options.asked.most_seeds
    assert small > 2
    with pytest.raises(ValueError, match=r"a budget of 1e-06 h holds no round: 2 seeds of 2 rows take about"):
        planned(source, settings, budget=1e-6)


def test_what_it_will_take_is_said_before_it_starts(tmp_path, settings):
    lines = question_lines(planned(own_sweep(tmp_path), settings, most_seeds=6), settings)
    assert "at most 6 seeds of 2 rows, 12 trainings" in lines[0]
    assert any("all gain" in line and "is found in" in line for line in lines)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('scheduler=lambda: ASHAScheduler(time_attr="epoch")', "a scheduler that stops trials"),
        ("search_alg=dict", "a searcher"),
        ('metric="train/loss_total"', "compares scores of image pairs"),
    ],
)
def test_a_sweep_that_cannot_answer_is_refused(tmp_path, settings, more, said):
    with pytest.raises(ValueError, match=said):
        planned(own_sweep(tmp_path, more), settings, most_seeds=3)


def test_a_sweep_without_a_control_is_refused(tmp_path, settings):
    path = Path(own_sweep(tmp_path))
    path.write_text(path.read_text().replace('baseline="ap+cosine", ', ""))
    with pytest.raises(ValueError, match="this sweep has none"):
        planned(str(path), settings, most_seeds=3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--margin", "0.01"), "belong to --decide"),
        (("--decide", "0.01", "--max-seeds", "4", "--budget", "4h"), "give one of them"),
        (("--decide", "0.01", "--budget", "soon"), "is no time"),
        (("--decide", "0"), "is not in the range"),
        (("--decide", "0.01", "--margin", "0"), "is not in the range"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(arguments, said, tmp_path, monkeypatch):
    monkeypatch.setenv("R2D2_HOME", str(tmp_path))
    result = CliRunner().invoke(main, ["sweep", "smoke", *arguments])
    assert result.exit_code == 2
    assert said in f"{result.output}{result.exception}"
