"""A sweep with a question trains what its next round needs, and its stored scores alone say what that is."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from answers import checked
from click.testing import CliRunner

from evaluation.evaluation import Evaluation, PairScore, Timings
from evaluation.protocols import PROTOCOLS
from evaluation.statistics.rounds import Question
from r2d2.collapse import CollapseSigns
from r2d2.config import LossConfig, TrainConfig
from r2d2.storage.location import open_store
from runner.__main__ import main
from runner.compare.report import USUAL_SPREAD, known_spread, spread_of, sweep_report
from runner.compare.rounds import rounds_of
from runner.record.definition import SweepDefinition
from runner.record.history import TRAIN, Record, write_json
from runner.record.sweep import StoredSweep
from runner.settings import Settings
from search_spaces.sweep import Trial

SEEDS = 8
GAINS = {"cosine": 0.0, "dice": 0.1, "jaccard": 0.0}
DICE, JACCARD = "ap+dice (scratch)", "ap+jaccard (scratch)"
DIGEST = "d" * 64


def trials():
    """All rounds: the seeds of the first one first."""
    return [
        Trial(TrainConfig(loss=LossConfig(similarity=name), seed=seed, epochs=1))
        for seed in range(SEEDS)
        for name in GAINS
    ]


@pytest.fixture
def sweep(tmp_path):
    store = open_store(tmp_path / "sweeps" / "asked")
    SweepDefinition(
        name="asked",
        metric="validation/mma_3px",
        mode="max",
        trials={trial.key: trial.config.to_dict() for trial in trials()},
        search={},
        photos="",
        benchmarks={
            "validation": {
                "protocol": "validation",
                "protocol_digest": PROTOCOLS["validation"].digest,
                "digest": DIGEST,
            }
        },
        init="",
        baseline="ap+cosine",
        asked={"gain": 0.02, "most_seeds": SEEDS, "margin": 0.05},
    ).save(store)
    return StoredSweep(store)


HEALTHY, FLAT = CollapseSigns(0.1, 0.5), CollapseSigns(0.0, 0.0)


def finish(sweep, trial, collapse=HEALTHY):
    """What a training leaves: its scores follow from its loss and its seed."""
    similarity = trial.config.loss.similarity
    rng = np.random.default_rng((trial.config.seed, list(GAINS).index(similarity)))
    shared = np.random.default_rng(0).uniform(0.3, 0.7, 12)
    level = GAINS[similarity] + 0.005 * rng.standard_normal()
    pairs = tuple(
        PairScore(f"i_{n:02d}", "illumination", 2, 100, 90, 50, (float(score + level),) * 15)
        for n, score in enumerate(shared + 0.015 * rng.standard_normal(12))
    )
    scored = Evaluation(
        model="stub",
        model_digest=hashlib.sha256(trial.key.encode()).hexdigest(),
        protocol=PROTOCOLS["validation"],
        benchmark="held-out",
        benchmark_digest=DIGEST,
        pairs=pairs,
        timings=Timings(1.0, 0.5),
        collapse=collapse,
        examples=(),
    )
    folder = sweep.trial_folder(trial)
    write_json(folder / "config.json", trial.config.to_dict())
    history = sweep.history(trial)
    write_json(history.folder / "table_001.validation.json", scored.to_json())
    scalars = {f"validation/{key}": value for key, value in scored.scalars().items()}
    history.write(Record(1, TRAIN, {"train/loss_total": 1.0}, str(folder / "checkpoint_001")))
    history.write(
        Record(
            1, "validation", scalars, str(folder / "checkpoint_001"), evaluation="table_001.validation.json"
        )
    )


def fail(sweep, trial):
    write_json(sweep.trial_folder(trial) / "config.json", trial.config.to_dict())
    sweep.history(trial).mark_failed("out of memory")


def run(sweep, at_a_time=100):
    """Trains what is due until nothing is; returns how many trainings that took, and the end."""
    count = 0
    while due := rounds_of(sweep).due:
        for trial in due[:at_a_time]:
            finish(sweep, trial)
            count += 1
    return count, rounds_of(sweep)


def test_the_first_round_is_two_seeds_of_every_row(sweep):
    rounds = rounds_of(sweep)
    assert [(t.config.loss.similarity, t.config.seed) for t in rounds.due] == [
        (name, seed) for seed in (0, 1) for name in ("dice", "jaccard", "cosine")
    ]
    assert rounds.words == "Goes on after 0 of at most 24 trainings: no variant was tested yet."


def test_it_stops_when_every_variant_is_decided(sweep):
    count, rounds = run(sweep)
    assert {row: one.answer for row, one in rounds.decisions.items()} == {
        DICE: "better",
        JACCARD: "equivalent",
    }
    assert count < 24
    # What is decided first gets no more seeds; the control goes on with the others.
    assert rounds.decisions[DICE].seeds <= rounds.decisions[JACCARD].seeds
    assert rounds.words == f"Ended after {count} of at most 24 trainings: 1 better, 1 equivalent."


def test_however_often_it_is_interrupted_it_decides_the_same(sweep, tmp_path):
    other = StoredSweep(open_store(tmp_path / "other"))
    sweep.definition.save(other.store)
    assert run(sweep) == run(other, at_a_time=1)


def test_the_report_has_the_answers_as_verdicts(sweep):
    run(sweep)
    report = sweep_report(sweep)
    assert (report.words(DICE), report.words(JACCARD)) == ("better", "equivalent")
    assert "1 better" in report.finding
    assert "1 equivalent" in report.finding
    assert any(caution.startswith("Verdicts were reached round by round") for caution in report.cautions)
    decision = rounds_of(sweep).decisions[DICE]
    row = report.difference(DICE)
    assert (row.estimate, row.low, row.high) == (decision.estimate, decision.low, decision.high)


def test_another_metric_has_verdicts_of_its_own(sweep):
    run(sweep)
    assert sweep_report(sweep, metric="validation/mma_1px").words(JACCARD) == "no difference shown"


def test_a_failed_training_holds_its_variant_back_and_no_other(sweep):
    fail(sweep, next(t for t in rounds_of(sweep).due if t.config.loss.similarity == "jaccard"))
    _, rounds = run(sweep)
    assert rounds.decisions[DICE].answer == "better"
    assert rounds.held == {JACCARD: "its training failed"}
    assert "1 held back (its training failed)" in rounds.words
    assert JACCARD not in rounds.decisions


def test_a_failed_training_is_due_again_when_the_sweep_is_resumed(sweep):
    failed = rounds_of(sweep).due[1]
    fail(sweep, failed)
    assert failed in rounds_of(sweep, failed=()).due
    assert failed not in rounds_of(sweep).due


def test_a_failed_control_holds_back_all_that_are_compared_with_it(sweep):
    fail(sweep, next(t for t in rounds_of(sweep).due if t.config.loss.similarity == "cosine"))
    rounds = rounds_of(sweep)
    assert rounds.due == ()
    assert set(rounds.held.values()) == {"of its baseline: its training failed"}


def test_a_collapsed_variant_is_held_back(sweep):
    for trial in rounds_of(sweep).due:
        finish(sweep, trial, FLAT if trial.config.loss.similarity == "dice" else HEALTHY)
    rounds = rounds_of(sweep)
    assert rounds.held == {DICE: "it has collapsed"}
    assert {trial.config.loss.similarity for trial in rounds.due} <= {"cosine", "jaccard"}


def test_another_question_is_refused(sweep):
    other = replace(sweep.definition, asked={"gain": 0.01, "most_seeds": SEEDS, "margin": 0.05})
    with pytest.raises(ValueError, match=r"asked.gain was 0.02, is 0.01"):
        sweep.definition.require_same(other, "here")


def test_a_sweep_without_a_question_has_no_rounds(sweep):
    replace(sweep.definition, asked={}).save(sweep.store)
    assert rounds_of(sweep) is None
    assert sweep.definition.asks is None


def test_a_question_survives_being_stored(sweep):
    assert sweep.definition.asks == Question(0.02, SEEDS, 0.05)


def test_the_spread_of_scores_is_that_of_the_trainings(sweep):
    """A seed scatters by 0.005, and by 0.015 on each sequence; a difference has twice these variances."""
    for trial in trials():
        finish(sweep, trial)
    spread = spread_of(sweep_report(sweep))
    assert spread.source == "of the sweep 'asked'"
    assert spread.variances.seed == pytest.approx(2 * 0.005**2, rel=0.7)
    assert spread.variances.cell == pytest.approx(2 * 0.015**2, rel=0.3)


def test_a_new_sweep_has_the_spread_of_one_that_is_scored_alike(sweep, tmp_path):
    settings = Settings.from_environment({"R2D2_HOME": str(tmp_path)})
    new = replace(sweep.definition, name="new")
    assert known_spread(settings, new) is USUAL_SPREAD
    run(sweep)
    assert known_spread(settings, new).source == "of the sweep 'asked'"
    assert known_spread(settings, replace(new, metric="validation/mma_1px")) is USUAL_SPREAD


def test_a_damaged_sweep_beside_does_not_hide_the_spread_of_the_others(sweep, tmp_path):
    settings = Settings.from_environment({"R2D2_HOME": str(tmp_path)})
    run(sweep)
    settings.sweeps.below("damaged").write("sweep.json", b"{")
    alike = StoredSweep(settings.sweep("alike"))
    replace(sweep.definition, name="alike").save(alike.store)
    alike.store.write("trials/a/config.json", b"{")
    assert known_spread(settings, replace(sweep.definition, name="new")).source == "of the sweep 'asked'"


def test_power_shows_how_often_a_gain_is_found(sweep, tmp_path, monkeypatch):
    monkeypatch.setenv("R2D2_HOME", str(tmp_path))
    refused = CliRunner().invoke(main, ["power", "asked"])
    assert refused.exit_code == 2
    run(sweep)
    shown = CliRunner().invoke(main, ["power", "asked", "--gain", "0.05"])
    assert shown.exit_code == 0
    assert "gain 0.05" in shown.output
    assert "2 compared rows, 12 sequences" in shown.output
    answer = checked(CliRunner().invoke(main, ["power", "asked", "--gain", "0.05", "--json"]).stdout)
    assert (answer["rows"], answer["sequences"], len(answer["shares"])) == (2, 12, 10)
    shares = [line.split("|")[-1] for line in shown.output.splitlines() if "%" in line]
    assert len(shares) == 10
