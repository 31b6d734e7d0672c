"""What the terminal shows while a sweep runs."""

import io

import pytest
from rich.console import Console

from r2d2.config import TrainConfig
from runner.record.history import TRAIN, Record
from runner.record.sweep import Ending, StoredSweep
from runner.sweep.progress import STATES, SweepProgress, TrialProgress
from search_spaces.sweep import Trial

METRIC = "validation/mma_3px"


class Steps:
    """Stands for what a worker writes down."""

    def __init__(self, position=0.0):
        self.at = position

    def position(self):
        return self.at


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

    monkeypatch.setattr("runner.sweep.progress.time.monotonic", lambda: Clock.now)
    return Clock


def trial(name, epochs=4, at=0.0):
    return TrialProgress(name, epochs, Steps(at))


def shown(progress):
    console = Console(file=io.StringIO(), width=160)
    console.print(progress._render())
    return console.file.getvalue()


def row(progress, name):
    [line] = [line for line in shown(progress).splitlines() if f" {name} " in line]
    return [cell.strip() for cell in line.strip("│").split("│")]


def screen(*trials, beside=None):
    console = Console(file=io.StringIO(), force_terminal=True, width=160, height=40)
    return SweepProgress(console, "sweep", METRIC, {t.name: t for t in trials}, beside)


def lines(*trials):
    console = Console(file=io.StringIO(), width=160)
    return SweepProgress(console, "sweep", METRIC, {t.name: t for t in trials}), console.file


def test_a_trial_waits_starts_trains_and_ends(clock):
    steps, progress = Steps(), screen(trial("a"))
    assert row(progress, "a")[1] == "waiting"
    progress.trials["a"].steps = steps
    progress.started("a", progress.trials["a"])
    assert row(progress, "a")[1] == "starting"
    steps.at = 0.5
    assert row(progress, "a")[1:3] == ["training", "0.5/4"]
    progress.event("a", Record(1, TRAIN, {"train/loss_total": 1.25, "train/pairs_per_second": 7.0}, "uri"))
    progress.event("a", Record(1, "validation", {METRIC: 0.5}, "uri"))
    cells = row(progress, "a")
    assert (cells[3], cells[7], cells[8]) == ("1.250", "0.500", "7.0")
    progress.ended("a", "finished")
    assert row(progress, "a")[1] == "finished"
    assert "1 of 1 trials done" in shown(progress)


def test_the_time_that_a_trial_waited_for_processors_is_no_part_of_its_speed(clock):
    steps, progress = Steps(), screen(trial("a"))
    progress.trials["a"].steps = steps
    progress.started("a", progress.trials["a"])
    clock.now += 1000
    assert row(progress, "a")[-1] == "?"
    clock.now += 10
    steps.at = 1.0
    assert row(progress, "a")[-1] == "0:30"


def test_trials_that_run_come_first_and_the_rest_is_counted(clock):
    progress = screen(*(trial(f"t{number:02d}") for number in range(60)))
    progress.started("t59", progress.trials["t59"])
    names = [line.split()[1] for line in shown(progress).splitlines() if " t" in line and "│" in line]
    assert names[0] == "t59"
    assert f"{60 - len(names)} more not shown" in shown(progress)


def test_what_mlflow_waits_for_stands_below(clock):
    class Away:
        standing = "MLflow is away since 12:00:00"

    assert "MLflow is away since 12:00:00" in shown(screen(trial("a"), beside=Away()))


def test_without_a_terminal_each_event_is_a_line():
    progress, file = lines(trial("a"))
    with progress:
        progress.started("a", progress.trials["a"])
        progress.event("a", Record(1, TRAIN, {"train/loss_total": 1.25}, "uri"))
        progress.event("a", Record(1, "validation", {}, "uri", error="no memory"))
        progress.ended("a", "failed", "epoch 1 has no score")
        stopped = Ending("KILLED", "stopped by r2d2 stop; r2d2 resume continues it")
        progress.ended("a", stopped.word, stopped.reason)
    assert file.getvalue().splitlines() == [
        "a: started",
        "a: epoch 1/4 total 1.250 reliability nan similarity nan peakiness nan (nan pairs/s)",
        "a: epoch 1 validation not scored: no memory",
        "a: failed (epoch 1 has no score)",
        "a: stopped by r2d2 stop; r2d2 resume continues it",
    ]


def test_figures_are_those_of_trials_that_train_and_of_variants():
    roles = ("validation", "hpatches")
    progress, _ = lines(*(trial(name) for name in "abcd"))
    for name, variant in zip("abcd", ("ap+dice", "ap+dice", "ap+cosine", "ap+cosine"), strict=True):
        progress.trials[name].variant = variant
    for name in "abc":
        progress.started(name, progress.trials[name])
        progress.event(name, Record(1, TRAIN, {"train/pairs_per_second": 7.0}, "uri"))
    for name, score in (("a", 0.5), ("b", 0.25)):
        progress.event(name, Record(1, "validation", {METRIC: score}, "uri"))
    # A failed evaluation waits no more; a resumed trial reports its events again.
    for _ in range(2):
        progress.event("a", Record(1, "hpatches", {}, "uri", error="no memory"))
        progress.event("b", Record(1, TRAIN, {"train/pairs_per_second": 8.0}, "uri"))
    progress.ended("a", "failed")
    assert progress.figures(roles) == {
        "r2d2_pairs_per_second": {"b": 8.0, "c": 7.0},
        "r2d2_evaluations_waiting": {"": 3},
        "r2d2_trials": {"waiting": 1, "training": 2, "finished": 0, "failed": 1, "stopped": 0},
        "r2d2_score": {"ap+dice": 0.375},
    }


def test_a_trial_that_ended_before_does_not_wait(tmp_path):
    ours = Trial(TrainConfig(epochs=2))
    ended = TrialProgress.of(StoredSweep(tmp_path), ours, ended=True)
    assert (ended.name, ended.epochs, ended.status) == (ours.key, 2, "finished")
    assert ended.status in STATES
    assert TrialProgress.of(StoredSweep(tmp_path), ours).status == "waiting"
