"""A claim is written down, trained for and answered; of many claims few are accepted by chance."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from answers import checked
from click.testing import CliRunner

from evaluation.evaluation import Evaluation, PairScore, Timings
from evaluation.protocols import PROTOCOLS
from r2d2.collapse import CollapseSigns
from r2d2.storage.location import open_store
from runner.__main__ import main
from runner.compare.rounds import rounds_of
from runner.compare.rows import label_trials
from runner.record.definition import SweepDefinition
from runner.record.history import TRAIN, Record, write_json
from runner.record.sweep import StoredSweep
from runner.sweep.claim import Claim, claim_answer, claim_words
from search_spaces.sweep import Trial, load_sweep


@pytest.mark.parametrize(
    ("text", "variant", "baseline"),
    [
        ("dice beats cosine by 0.01", ("loss.similarity=dice",), ("loss.similarity=cosine",)),
        (
            "hardnet+dice  beats ap by 1e-2",
            ("loss.reliability=hardnet", "loss.similarity=dice"),
            ("loss.reliability=ap",),
        ),
        (
            "dice, optimiser.learning_rate=3e-4 beats dice by 0.01",
            ("loss.similarity=dice", "optimiser.learning_rate=3e-4"),
            ("loss.similarity=dice",),
        ),
    ],
)
def test_a_claim_names_losses_and_settings(text, variant, baseline):
    claim = Claim.parse(text)
    assert (claim.variant, claim.baseline, claim.gain) == (variant, baseline, 0.01)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("dice is better than cosine", "must read 'A beats B by GAIN'"),
        ("dice beats cosine by a lot", "must read 'A beats B by GAIN'"),
        ("dice beats cosine by much", "the gain of the claim is 'much'"),
        ("dice beats cosine by 0", "a number between 0 and 1"),
        ("dise beats cosine by 0.01", "unknown loss 'dise'; known: .* Did you mean 'dice'"),
        ("loss.sim=dice beats cosine by 0.01", "loss.sim"),
        ("cosine beats ap by 0.01", "are the same training"),
    ],
)
def test_a_claim_that_says_nothing_is_refused_in_a_sentence(text, says):
    with pytest.raises(ValueError, match=says):
        Claim.parse(text).trials()


def test_its_file_holds_two_rows_and_what_both_share_does_not_undo_the_claim(tmp_path):
    claim = Claim.parse("optimiser.learning_rate=3e-4 beats dice by 0.01")
    shared = ("epochs=2", "optimiser.learning_rate=1e-2", "data.photos=/photos")
    file = claim.write(tmp_path, shared, samples=False)
    sweep, question = load_sweep(str(file))
    assert file.stem == "optimiser-learning-rate-3e-4-beats-dice-by-0-01"
    assert question == f"{claim.text}?"
    first, second = (trial.config for trial in sweep.trials())
    assert (first.loss.similarity, first.optimiser.learning_rate, first.epochs) == ("dice", 1e-2, 2)
    assert (second.loss.similarity, second.optimiser.learning_rate) == ("cosine", 3e-4)
    trials = sweep.trials()
    assert sweep.baseline == label_trials(trials)[trials[0].key]


# The spread of seeds, and of seeds on sequences; the gain of a change that truly gains.
SEED, CELL, GAIN = 0.005, 0.015, 0.02
SEQUENCES, SEEDS = 24, 6
CLAIM = "optimiser.learning_rate={} beats optimiser.learning_rate=1e-4 by 0.02"


def begin(folder, claim):
    """The sweep of a claim as it is written down before the first score."""
    first = claim.trials(("epochs=1",))
    trials = [Trial(replace(one.config, seed=seed)) for seed in range(SEEDS) for one in first]
    on = {"protocol": "validation", "protocol_digest": PROTOCOLS["validation"].digest, "digest": "d" * 64}
    SweepDefinition(
        name=claim.name,
        metric="validation/mma_3px",
        mode="max",
        trials={trial.key: trial.config.to_dict() for trial in trials},
        search={},
        photos="p",
        benchmarks={"validation": on},
        init="",
        baseline=label_trials(first)[first[0].key],
        asked={"gain": claim.gain, "most_seeds": SEEDS, "margin": None},
    ).save(folder)
    return StoredSweep(open_store(folder))


def train(stored, trial, gains):
    """Leaves what a training leaves; its scores scatter as measured about its gain."""
    rng = np.random.default_rng(int(hashlib.sha256(trial.key.encode()).hexdigest()[:12], 16))
    level = gains.get(trial.config.optimiser.learning_rate, 0.0) + SEED * rng.standard_normal()
    shared = np.random.default_rng(0).uniform(0.3, 0.7, SEQUENCES)
    scores = shared + level + CELL * rng.standard_normal(SEQUENCES)
    scored = Evaluation(
        model="stub",
        model_digest=hashlib.sha256(trial.key.encode()).hexdigest(),
        protocol=PROTOCOLS["validation"],
        benchmark="held-out",
        benchmark_digest="d" * 64,
        pairs=tuple(
            PairScore(f"i_{n:02d}", "illumination", 2, 100, 90, 50, (float(score),) * 15)
            for n, score in enumerate(scores)
        ),
        timings=Timings(1.0, 0.5),
        collapse=CollapseSigns(0.1, 0.5),
        examples=(),
    )
    folder, history = stored.trial_folder(trial), stored.history(trial)
    write_json(folder / "config.json", trial.config.to_dict())
    write_json(history.folder / "table_001.validation.json", scored.to_json())
    metrics = {"train/loss_total": 1.0, "train/pairs": 36.0, "train/pairs_per_second": 0.1}
    history.write(Record(1, TRAIN, metrics, "uri"))
    scalars = {f"validation/{key}": value for key, value in scored.scalars().items()}
    history.write(Record(1, "validation", scalars, "uri", evaluation="table_001.validation.json"))


def answered(folder, rate, gains):
    """Trains what each round asks for until the claim is answered."""
    stored = begin(folder, Claim.parse(CLAIM.format(rate)))
    while due := rounds_of(stored).due:
        for trial in due:
            train(stored, trial, gains)
    return claim_answer(stored)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_of_100_changes_without_a_gain_few_are_accepted_and_true_gains_are_found(tmp_path):
    null = [f"{1 + n / 1000:.3f}e-3" for n in range(100)]
    true = [f"{2 + n / 1000:.3f}e-3" for n in range(10)]
    gains = {float(rate): GAIN for rate in true}
    answers = {rate: answered(tmp_path / rate, rate, gains) for rate in (*null, *true)}
    accepted = {rate for rate, found in answers.items() if found["answer"] == "better"}
    assert len(accepted & set(null)) <= 5
    assert len(accepted & set(true)) >= 8


def test_the_answer_has_what_its_reader_asks_next(tmp_path):
    found = answered(tmp_path, "2e-3", {2e-3: 0.1})
    assert (found["answer"], found["held"]) == ("better", "")
    assert found["low"] > 0
    assert found["asked"] == {"gain": 0.02, "most_seeds": SEEDS, "margin": None}
    # An epoch of 36 pairs, 0.1 a second, is a tenth of an hour.
    assert found["hours"] == pytest.approx(found["trainings"] / 10)
    assert found["trainings"] == 2 * found["seeds"] < found["most_trainings"] == 2 * SEEDS
    json.dumps(found, allow_nan=False)
    assert claim_words("a beats b", found).startswith("a beats b: better, +0.")


def test_a_claim_whose_later_training_fails_is_undecided_and_says_why(tmp_path):
    stored = begin(tmp_path, Claim.parse(CLAIM.format("2e-3")))
    for trial in rounds_of(stored).due:
        train(stored, trial, {})
    failed = rounds_of(stored).due[0]
    write_json(stored.trial_folder(failed) / "config.json", failed.config.to_dict())
    stored.history(failed).mark_failed("out of memory")
    while due := rounds_of(stored).due:
        for trial in due:
            train(stored, trial, {})
    found = claim_answer(stored)
    assert (found["answer"], found["seeds"]) == ("undecided", 2)
    assert "its training failed" in found["held"]


@pytest.mark.cluster
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray", "ignore::FutureWarning:ray")
def test_the_command_trains_answers_and_refuses_another_question_by_the_same_name(tmp_path):
    environment = {"R2D2_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    sizes = (
        "network.channels=1",
        "network.dim=16",
        "epochs=1",
        "data.pairs_per_epoch=8",
        "data.crop_size=64",
    )
    sizes += ("data.held_out=2", "data.max_shorter_side=320", "pairs_per_worker=4")
    options = [part for size in sizes for part in ("--set", size)]

    def ask(claim, *more):
        arguments = [
            "ask",
            claim,
            "--photos",
            "samples",
            "--name",
            "one",
            "--max-seeds",
            "2",
            *options,
            *more,
        ]
        return CliRunner().invoke(main, arguments, env=environment)

    result = ask("dice beats cosine by 0.3", "--json")
    found = checked(result.stdout)
    assert (found["claim"], found["trainings"]) == ("dice beats cosine by 0.3", 4)
    # So little trained, a network may have collapsed.
    assert found["held"] or found["seeds"] == 2
    assert result.exit_code == int(found["answer"] != "better"), result.stderr
    # Asked again, it trains nothing and says the same.
    assert checked(ask("dice beats cosine by 0.3", "--json").stdout) == found
    other = ask("dice beats cosine by 0.2")
    assert other.exit_code == 2
    assert "asked.gain was 0.3, is 0.2" in other.output
