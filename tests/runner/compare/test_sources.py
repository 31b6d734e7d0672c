"""Whatever a comparison is asked to compare is found, scored if need be, or refused in one sentence."""

import json
from dataclasses import replace

import pytest

from evaluation.pictures.examples import pack_examples
from evaluation.statistics.variants import joined
from r2d2.config import TrainConfig
from runner.compare.report import sweep_report
from runner.compare.sources import Scoring, find_networks, is_sweep
from runner.record.definition import SweepDefinition
from runner.record.history import TRAIN, Record, write_json
from runner.record.sweep import StoredSweep
from runner.settings import Settings
from search_spaces.sweep import Trial


@pytest.fixture
def settings(tmp_path, tracking_uri):
    return Settings(home=tmp_path / "home", tracking_uri=tracking_uri)


@pytest.fixture
def write_sweep(settings, make_evaluation):
    """Writes a sweep whose every trial has one epoch and a score; returns it."""

    def write(name: str, *configs: dict, bonus: float = 0.0) -> StoredSweep:
        sweep = StoredSweep(settings.sweep(name))
        trials = [Trial(TrainConfig.from_dict({"epochs": 1, **config})) for config in configs]
        for number, trial in enumerate(trials):
            write_json(sweep.trial_folder(trial) / "config.json", trial.config.to_dict())
            scored = make_evaluation(bonus + number / 100)
            scored = replace(scored, model_digest=f"{name}{trial.key}".encode().hex()[-64:].rjust(64, "0"))
            write_score(sweep.history(trial), scored)
        keys = {trial.key: trial.config.to_dict() for trial in trials}
        benchmarks = {"validation": {"protocol": "validation", "digest": "d" * 64}}
        SweepDefinition(name, "validation/mma_3px", "max", keys, {}, "", benchmarks, "").save(sweep.folder)
        return sweep

    return write


def write_score(history, evaluation) -> None:
    history.write(Record(1, TRAIN, {"train/loss_total": 1.5, "train/loss_peakiness": 0.4}, "uri"))
    write_json(history.folder / "table.json", evaluation.to_json())
    (history.folder / "examples.npz").write_bytes(pack_examples(evaluation.examples))
    (history.folder / "table.json").rename(history.folder / "table_001.validation.json")
    (history.folder / "examples.npz").rename(history.folder / "examples_001.validation.npz")
    metrics = {f"validation/{key}": value for key, value in evaluation.scalars().items()}
    history.write(Record(1, "validation", metrics, "uri", evaluation="table_001.validation.json"))


@pytest.fixture
def write_json_file(tmp_path, make_evaluation):
    def write(name: str, network: str, **how) -> str:
        evaluation = replace(make_evaluation(**how), model=name, model_digest=network * 64)
        write_json(tmp_path / f"{network}.json", evaluation.to_json())
        return str(tmp_path / f"{network}.json")

    return write


def test_a_sweep_gives_all_its_rows_with_losses_and_curves(write_sweep, settings):
    write_sweep("mine", {"seed": 0}, {"seed": 1}, {"loss": {"similarity": "dice"}})
    assert is_sweep("mine", settings)
    found = find_networks(["mine"], settings, Scoring())
    assert [(one.name, *one.seeds, *one.epochs) for one in found] == [
        ("ap+cosine (scratch)", 0, 1),
        ("ap+cosine (scratch)", 1, 1),
        ("ap+dice (scratch)", 0, 1),
    ]
    assert found[0].figures["train/loss_peakiness"] == 0.4
    assert found[0].curves[0]["train/loss_total"] == ((1, 1.5),)
    assert len(found[0].curves[0]["validation/mma_3px"]) == 1


def test_a_loss_orders_the_table(write_sweep, settings):
    sweep = write_sweep("mine", {"loss": {"similarity": "dice"}}, {"loss": {"similarity": "cosine"}})
    for trial, loss in zip(sweep.trials(), (2.0, 1.0), strict=True):
        sweep.history(trial).write(Record(1, TRAIN, {"train/loss_total": loss}, "uri"))
    report = sweep_report(sweep, "train/loss_total")
    assert report.variants[0].name == sweep.trials()[1].variant
    assert "--role" in sweep_report(sweep, role="validation").about.command


def test_the_benchmark_of_a_sweep_that_a_loss_decides_is_its_first(write_sweep, settings):
    sweep = write_sweep("mine", {"seed": 0})
    replace(sweep.definition, metric="train/loss_total", mode="min").save(sweep.folder)
    assert len(find_networks(["mine"], settings, Scoring())) == 1


def test_rows_of_two_sweeps_say_what_differs_between_them(write_sweep, settings):
    write_sweep("short", {"seed": 0})
    write_sweep("long", {"seed": 0, "optimiser": {"learning_rate": 2e-4}})
    names = [one.name for one in find_networks(["short", "long"], settings, Scoring())]
    assert names == [
        "ap+cosine (scratch), learning_rate=0.0001",
        "ap+cosine (scratch), learning_rate=0.0002",
    ]


def test_the_same_seed_of_two_sweeps_is_two_rows_if_it_ended_differently(write_sweep, settings):
    for name in ("mine", "yours"):
        write_sweep(name, {"seed": 0})
    names = [one.name for one in find_networks(["mine", "yours"], settings, Scoring())]
    assert names == ["ap+cosine (scratch) [mine]", "ap+cosine (scratch) [yours]"]


def test_runs_are_found_in_their_sweep_and_grouped_over_seeds(write_sweep, settings, tracker, experiment):
    sweep = write_sweep("mine", {"seed": 0}, {"seed": 1}, {"loss": {"similarity": "dice"}})
    runs = [tracker.open_run(experiment, t.key, t.key, {"sweep": "mine"}, {}) for t in sweep.trials()]
    by_key = {trial.key: run.run_id for trial, run in zip(sweep.trials(), runs, strict=True)}
    wanted = [key for key in by_key if "cosine" in key]
    found = find_networks([f"runs:/{by_key[key]}" for key in wanted], settings, Scoring())
    assert [(one.name, sorted(one.seeds)) for one in joined(found)] == [("ap+cosine (scratch)", [0, 1])]
    summary = tracker.open_run(experiment, "summary", "summary", {"sweep": "mine"}, {})
    with pytest.raises(ValueError, match="is 'summary' of the sweep 'mine', which is no trial"):
        find_networks([f"runs:/{summary.run_id}"], settings, Scoring())


def test_files_have_the_names_of_their_networks_or_those_that_they_are_given(write_json_file, settings):
    one, two = write_json_file("net", "a"), write_json_file("net", "b")
    found = find_networks([one, two], settings, Scoring())
    assert [one.name for one in found] == [f"net [{one}]", f"net [{two}]"]
    found = find_networks([f"dice={one}", f"dice={two}"], settings, Scoring())
    assert [one.name for one in found] == ["dice", "dice"]


def test_a_collapsed_network_is_warned_of(settings, tmp_path, make_evaluation):
    flat = make_evaluation()
    flat = replace(flat, collapse=replace(flat.collapse, repeatability_std=0.001))
    write_json(tmp_path / "flat.json", flat.to_json())
    (found,) = find_networks([str(tmp_path / "flat.json")], settings, Scoring())
    assert "the repeatability map is flat" in found.warnings[0]


def test_models_and_features_are_scored(settings, tmp_path, make_evaluation, monkeypatch):
    asked, announced = [], []

    def evaluate_model(source, benchmark, protocol, settings, *, on_image, examples):
        asked.append((source, str(benchmark), protocol.name, examples))
        return replace(make_evaluation(), model=source)

    monkeypatch.setattr("runner.compare.sources.evaluate_model", evaluate_model)
    (tmp_path / "net.pt").touch()
    texts = [str(tmp_path / "net.pt"), "models:/r2d2@champion", "sift=features:sift"]
    scoring = Scoring(tmp_path, "d2net", on_source=announced.append)
    found = find_networks(texts, settings, scoring)
    assert [one.name for one in found] == [*texts[:2], "sift"]
    assert asked == [(text, str(tmp_path), "d2net", 2) for text in (*texts[:2], "features:sift")]
    assert announced == [*texts[:2], "features:sift"]
    with pytest.raises(ValueError, match="'models:/r2d2@champion' has no stored scores: give --benchmark"):
        find_networks(texts[1:], settings, Scoring())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nothing", "there is no sweep 'nothing' in .* .known: mine., and no file or folder of that name"),
        ("nothing.json", "nothing.json cannot be read: No such file"),
        ("best=mine", "'mine' is a sweep: its rows have names of their own"),
        ("runs:/abc", "MLflow has no run 'abc'"),
    ],
)
def test_what_names_nothing_is_refused(write_sweep, settings, text, sentence):
    write_sweep("mine", {})
    with pytest.raises(ValueError, match=sentence):
        find_networks([text], settings, Scoring())


def test_a_file_that_holds_something_else_is_refused(settings, tmp_path):
    (tmp_path / "other.json").write_text(json.dumps({"pairs": []}))
    with pytest.raises(ValueError, match=r"other\.json is no file that `r2d2 evaluate --json` wrote"):
        find_networks([str(tmp_path / "other.json")], settings, Scoring())


def test_a_benchmark_without_scores_is_named(write_sweep, settings):
    write_sweep("mine", {})
    with pytest.raises(ValueError, match="nothing in mine is scored on 'hpatches' yet"):
        find_networks(["mine"], settings, Scoring(), role="hpatches")
