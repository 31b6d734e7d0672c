"""What a sweep's folder holds is enough for its table, with everything that distinguishes its rows."""

import io
import json
import re
import shutil
from dataclasses import replace

import pytest
from rich.console import Console

from evaluation.pictures.examples import pack_examples
from evaluation.report.page import to_html
from evaluation.report.text import to_answer, to_json, to_markdown
from r2d2.config import TrainConfig
from runner.cli.compare import show_report
from runner.compare.report import sweep_report
from runner.compare.stored import compared, labels_of, latest
from runner.compare.terminal import differences
from runner.record.definition import SweepDefinition
from runner.record.history import TRAIN, Record, write_json
from runner.record.looks import Ledger
from runner.record.sweep import StoredSweep
from search_spaces.sweep import Trial


@pytest.fixture
def stored(tmp_path):
    """Writes the folder of a sweep of the given configurations."""

    def write(*configs: dict) -> StoredSweep:
        sweep = StoredSweep(tmp_path / "sweeps" / "mine")
        trials = [Trial(TrainConfig.from_dict(config)) for config in configs]
        for trial in trials:
            folder = sweep.trial_folder(trial)
            folder.mkdir(parents=True)
            (folder / "config.json").write_text(json.dumps(trial.config.to_dict()))
            sweep.history(trial).write(Record(trial.config.epochs, TRAIN, {"train/loss_total": 1.0}, "uri"))
        keys = {trial.key: trial.config.to_dict() for trial in trials}
        SweepDefinition("mine", "train/loss_total", "min", keys, {}, "", {}, "").save(sweep.folder)
        return sweep

    return write


def labels(sweep: StoredSweep) -> list[str]:
    found = labels_of(sweep)
    return sorted(set(found.values()))


def test_seeds_share_a_row_and_losses_do_not(stored):
    sweep = stored({"seed": 0}, {"seed": 1}, {"loss": {"similarity": "dice"}})
    assert labels(sweep) == ["ap+cosine (scratch)", "ap+dice (scratch)"]
    assert [row.networks for row in sweep_report(sweep).variants] == [2, 1]


def test_a_row_says_what_else_is_varied(stored):
    sweep = stored({"optimiser": {"learning_rate": 1e-3}}, {"optimiser": {"learning_rate": 2e-4}})
    assert labels(sweep) == [
        "ap+cosine (scratch), learning_rate=0.0002",
        "ap+cosine (scratch), learning_rate=0.001",
    ]


def test_a_starting_network_is_told_apart_by_its_architecture_only(stored):
    sweep = stored({"epochs": 0}, {"pairs_per_worker": 2}, {"pairs_per_worker": 4})
    assert "untrained network" in labels(sweep)


def test_starting_networks_of_two_architectures_are_two_rows(stored):
    configs = [{"epochs": epochs, "network": {"dim": dim}} for epochs in (0, 25) for dim in (32, 64)]
    assert labels(stored(*configs))[2:] == ["untrained network, dim=32", "untrained network, dim=64"]


def test_the_first_trained_row_of_the_definition_comes_first(stored, make_evaluation):
    sweep = stored({"epochs": 0}, {"loss": {"similarity": "dice"}}, {"loss": {"similarity": "cosine"}})
    for trial in sweep.trials():
        write_score(sweep.history(trial), make_evaluation())
    names = ["ap+dice (scratch)", "ap+cosine (scratch)", "untrained network"]
    assert [one.name for one in compared(sweep, "validation")[0]] == names
    assert not any(one.evaluations for one in compared(sweep, "hpatches")[0])


def scored_study(stored, make_evaluation, scored=("dice", "cosine")):
    """A study of two losses, two starts and two seeds, whose file names its baseline and a row."""
    sweep = stored(
        *(
            {"loss": {"similarity": similarity}, "init": init, "seed": seed}
            for similarity in ("dice", "cosine")
            for init in ("scratch", "released")
            for seed in (0, 1)
        )
    )
    benchmark = {"validation": {"protocol": "validation"}}
    names = {"ap+dice (fine-tuned)": "Dice"}
    definition = replace(sweep.definition, benchmarks=benchmark, metric="validation/mma_3px", mode="max")
    replace(definition, baseline="ap+cosine", names=names).save(sweep.folder)
    for number, trial in enumerate(sweep.trials()):
        if trial.config.loss.similarity in scored:
            evaluation = replace(make_evaluation(number / 100), model_digest=str(number) * 64)
            write_score(sweep.history(trial), evaluation)
    return sweep


def test_differences_are_to_the_baseline_of_the_same_start_and_to_any_row_that_is_named(
    stored, make_evaluation
):
    sweep = scored_study(stored, make_evaluation)
    assert sweep_report(sweep).comparison.baselines == {
        "ap+dice (scratch)": "ap+cosine (scratch)",
        "ap+dice (fine-tuned) · Dice": "ap+cosine (fine-tuned)",
    }
    console = Console(record=True, width=60, file=io.StringIO())
    console.print(differences(sweep_report(sweep)))
    shown = " ".join(console.export_text().split())
    assert "ap+cosine (fine-tuned) is the baseline of ap+dice (fine-tuned) · Dice." in shown
    named = sweep_report(sweep, baseline="Dice").comparison.baselines
    assert set(named.values()) == {"ap+dice (fine-tuned) · Dice"}
    assert len(named) == 3
    with pytest.raises(ValueError, match=r"unknown baseline 'Dise'; known: "):
        sweep_report(sweep, baseline="Dise")


@pytest.mark.parametrize("started", [True, False])
def test_a_baseline_without_a_score_is_named_and_no_other_row_takes_its_place(
    stored, make_evaluation, started
):
    sweep = scored_study(stored, make_evaluation, scored=("dice",))
    if not started:
        for trial in sweep.trials():
            if trial.config.loss.similarity == "cosine":
                shutil.rmtree(sweep.trial_folder(trial))
    report = sweep_report(sweep)
    assert not report.comparison.baselines
    assert report.about.unscored == ("ap+cosine (scratch)", "ap+cosine (fine-tuned)")
    assert "the baselines of other rows, have no score yet." in report.answer[1]
    console = Console(record=True, width=140, file=io.StringIO())
    show_report(console, report)
    text = console.export_text()
    assert "have no score yet" in text
    # A row that was started stands in the table all the same.
    assert bool(re.search(r"ap\+cosine \(scratch\) +│ +2 │ +25 │ +- │", text)) == started


def test_rows_that_the_scheduler_stopped_stand_below_the_others(stored, make_evaluation):
    losses = [{"loss": {"similarity": name}} for name in ("dice", "cosine")]
    sweep = stored(*({**loss, "epochs": 3, "seed": seed} for loss in losses for seed in (0, 1)))
    for trial in sweep.trials():
        stops = trial.config.loss.similarity == "dice"
        for epoch in range(1, 2 if stops else 4):
            digest = f"{trial.key}{epoch}".encode().hex()[-64:]
            evaluation = make_evaluation(0.5 if stops else 0.2)
            write_score(sweep.history(trial), replace(evaluation, model_digest=digest), epoch)
        if stops:
            sweep.history(trial).mark_stopped(1)
    benchmarks = {"validation": {"protocol": "validation"}}
    replace(sweep.definition, benchmarks=benchmarks, metric="validation/mma_3px", mode="max").save(
        sweep.folder
    )
    report = sweep_report(sweep)
    assert [entry.name for entry in report.variants] == ["ap+cosine (scratch)", "ap+dice (scratch)"]


def test_a_sweep_that_was_stored_before_files_named_a_baseline_is_compared_with_its_first_row(
    stored, make_evaluation
):
    sweep = scored_study(stored, make_evaluation)
    values = json.loads((sweep.folder / "sweep.json").read_text())
    del values["baseline"], values["names"]
    (sweep.folder / "sweep.json").write_text(json.dumps(values))
    assert set(sweep_report(sweep).comparison.baselines.values()) == {"ap+dice (scratch)"}
    # It goes on as it was begun: how rows are compared and called is no part of what must be the same.
    sweep.definition.require_same(replace(sweep.definition, baseline="ap+cosine"), sweep.folder)


def write_score(history, evaluation, epoch=1, role="validation"):
    table = f"table_{epoch:03d}.{role}.json"
    write_json(history.folder / table, evaluation.to_json())
    (history.folder / f"examples_{epoch:03d}.{role}.npz").write_bytes(pack_examples(evaluation.examples))
    metrics = {f"{role}/mma_3px": float(evaluation.mma()[2])}
    history.write(Record(epoch, role, metrics, "uri", evaluation=table))


def test_a_running_sweep_is_compared_and_ranked_at_the_epoch_that_all_rows_have(stored, make_evaluation):
    """The row that has trained for longer scores higher now, and did not then."""
    losses = [{"loss": {"similarity": name}} for name in ("dice", "cosine")]
    sweep = stored(*({**loss, "epochs": 3, "seed": seed} for loss in losses for seed in (0, 1)))
    for trial in sweep.trials():
        longer = trial.config.loss.similarity == "dice"
        for epoch in range(1, 4 if longer else 2):
            evaluation = make_evaluation(0.1 * epoch if longer else 0.2)
            digest = f"{trial.key}{epoch}".encode().hex()[-64:]
            write_score(sweep.history(trial), replace(evaluation, model_digest=digest), epoch)
    _, standing = compared(sweep, "validation")
    assert standing.words == "2 of 4 trials ended; compared at epoch 1, the last that all rows have."
    benchmarks = {"validation": {"protocol": "validation"}}
    replace(sweep.definition, benchmarks=benchmarks, metric="validation/mma_3px", mode="max").save(
        sweep.folder
    )
    assert [(row.name, row.trained_for) for row in sweep_report(sweep).variants] == [
        ("ap+cosine (scratch)", "1"),
        ("ap+dice (scratch)", "1"),
    ]


def test_a_trial_from_before_a_setting_existed_is_read_with_its_default(stored):
    sweep = stored({"loss": {"similarity": "dice"}})
    (trial,) = sweep.trials()
    file = sweep.trial_folder(trial) / "config.json"
    older = trial.config.to_dict()
    for name in ("schedule", "warmup_steps", "final_share"):
        del older["optimiser"][name]
    file.write_text(json.dumps(older))
    assert sweep.trials() == [trial]


def test_a_trial_whose_folder_is_not_named_by_its_settings_is_refused(stored):
    sweep = stored({"epochs": 3})
    (trial,) = sweep.trials()
    file = sweep.trial_folder(trial) / "config.json"
    file.write_text(json.dumps(trial.config.to_dict() | {"seed": 8}))
    with pytest.raises(ValueError, match="another version of this program"):
        sweep.trials()


def test_a_sweep_that_is_not_there_is_refused_with_the_known_ones(stored, tmp_path):
    stored({})
    with pytest.raises(ValueError, match=r"there is no sweep 'yours' .* known: mine"):
        _ = StoredSweep(tmp_path / "sweeps" / "yours").definition


def test_a_trial_of_a_version_with_other_settings_is_refused_not_overlooked(stored):
    sweep = stored({"seed": 0})
    [trial] = sweep.trials()
    sweep.trial_folder(trial).rename(sweep.trial_folder(trial).with_name("ap-cosine-scratch-s0-00000000"))
    with pytest.raises(ValueError, match="another version of this program"):
        sweep.trials()


def test_the_last_scored_epoch_counts_not_the_best():
    records = [
        Record(epoch, kind, {}, "uri")
        for epoch, kind in ((1, TRAIN), (1, "validation"), (2, TRAIN), (2, "validation"), (3, TRAIN))
    ]
    assert latest(records) == 2
    assert latest(records[:1]) == 1
    assert latest([]) == 0


def test_a_table_of_test_scores_says_how_often_the_test_was_looked_at(stored, make_evaluation):
    sweep = scored_study(stored, make_evaluation, scored=())
    benchmarks = {"validation": {}, "hpatches": {"protocol": "d2net", "digest": "d" * 64}}
    replace(sweep.definition, benchmarks=benchmarks, metric="hpatches/mma_3px").save(sweep.folder)
    ledger = Ledger.of_sweep(sweep.store)
    for number, trial in enumerate(sweep.trials()):
        evaluation = replace(make_evaluation(number / 100), model_digest=str(number) * 64)
        write_score(sweep.history(trial), evaluation, role="hpatches")
        ledger.look(evaluation.to_json(), "mine")
    ledger.look(make_evaluation().to_json(), "other")
    ledger.choose("d" * 64, "other")
    report = sweep_report(sweep)
    said = "hpatches: 9 networks of this home looked at it, 8 of them from this sweep. It chose the networks"
    console = Console(record=True, width=300, file=io.StringIO())
    show_report(console, report)
    for text in (console.export_text(), to_html(report), to_markdown(report), to_json(report)):
        assert said in text
    # MLflow describes the experiment by it.
    assert said in to_answer(report)
