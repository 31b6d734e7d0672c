"""Tables on narrow and wide terminals: no name and no figure is cut; what has no room is named."""

import io
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from rich.console import Console

from evaluation.report.findings import make_report as make_whole_report
from evaluation.report.report import About
from evaluation.statistics.variants import Variant
from r2d2.config import TrainConfig
from runner.__main__ import main
from runner.compare import terminal as display
from runner.sweep.estimate import show_trials
from runner.sweep.progress import SweepProgress, TrialProgress
from runner.terminal.fitted_table import Column, FittedTable
from search_spaces.sweep import Trial

WIDTHS = pytest.mark.parametrize("width", [60, 80, 100, 140])
NAMES = ("hardnet+cosine (scratch)", "ap+dice (fine-tuned)", "untrained network")


def printed(width, *parts):
    console = Console(file=io.StringIO(), width=width, height=60)
    for part in parts:
        console.print(part)
    text = console.file.getvalue()
    assert "…" not in text
    assert all(len(line) <= width for line in text.splitlines())
    return text


def cells(text):
    """The cells of all lines of a table, and of those that a table is continued by."""
    return [[c.strip() for c in re.split("[│┃]", line)] for line in text.splitlines() if "│" in line]


@pytest.fixture
def report(make_evaluation):
    bonus = dict(zip(NAMES, (0.1, 0.0, -0.1), strict=True))
    variants = [
        Variant(
            name,
            tuple(replace(make_evaluation(b + s / 100), model_digest=f"{name}{s}") for s in (0, 1)),
            (0, 1),
            epochs=(2, 2),
            warnings=("validation: the map is flat",) if "dice" in name else (),
            further=({"hpatches/mma_3px": 0.4, "train/loss_peakiness": 0.5},) * 2,
        )
        for name, b in bonus.items()
    ]
    return make_whole_report(variants, NAMES[0], About("own", role="validation"), replicates=99)


@WIDTHS
def test_a_comparison_keeps_names_figures_and_the_mark(width, report):
    text = printed(width, display.means(report))
    shown = {row[1]: row[2:-1] for row in cells(text) if row[1] in NAMES}
    assert set(shown) == set(NAMES)
    assert "0.155 ±0.007†" in shown[NAMES[1]]
    known = r"2|-?0\.\d{3}( ±0\.\d{3})?†?|-?0\.\d{3} to 0\.\d{3}"
    assert all(re.fullmatch(known, cell) for row in shown.values() for cell in row)
    # Seeds, epochs, MMA at five thresholds and on two splits, an interval, HPatches, a loss.
    left_out = 12 - len(shown[NAMES[0]])
    named = re.search(r"No room for: (.*?)\. A wider", " ".join(text.split()))
    assert left_out == (0 if named is None else len(named[1].split(", ")))
    assert "own: validation MMA@3" in text
    assert "Choosing on HPatches" in text


@WIDTHS
def test_differences_keep_names_intervals_and_verdicts(width, report):
    text = printed(width, display.differences(report))
    shown = {row[1]: row[2:-1] for row in cells(text) if row[1] in NAMES}
    assert set(shown) == set(NAMES[1:])
    row = report.difference(NAMES[1])
    assert f"{row.estimate:+.3f}†" in shown[NAMES[1]]
    if width >= 80:
        assert f"{row.low:+.3f} to {row.high:+.3f}" in shown[NAMES[1]]


@WIDTHS
def test_means_and_further_figures_are_whole(width, report):
    text = printed(width, display.means(replace(report, about=About("t"))))
    assert all(any(row[1] == name for row in cells(text)) for name in NAMES)
    # Figures without an interval stand in as many tables below each other as they need.
    assert sum(len(row) - 3 for row in cells(text) if row[1] == "matches") == len(NAMES)


@WIDTHS
def test_an_evaluation_is_whole(width, make_evaluation):
    text = printed(width, *display.evaluation_tables(make_evaluation()))
    matches = [cell for row in cells(text) if row[1] == "matches per pair" for cell in row[2:-1]]
    assert matches == ["45", "50", "40"]
    assert {"i_one", "v_two"} <= {row[1] for row in cells(text)}


@WIDTHS
def test_the_trials_of_a_running_sweep_are_whole(width):
    trial = TrialProgress(NAMES[0], 3, None)
    trial.metrics |= {"train/loss_total": 1.234, "validation/mma_3px": 0.456}
    progress = SweepProgress(Console(file=io.StringIO()), "own", "validation/mma_3px", {"key": trial})
    (row,) = cells(printed(width, progress._render()))
    assert row[1:4] == [NAMES[0], "waiting", "0/3"]


@WIDTHS
def test_the_list_of_trials_is_whole(width):
    trials = [Trial(TrainConfig.from_dict({"seed": seed})) for seed in (0, 1)]
    sweep, definition = (
        SimpleNamespace(search_alg=None, names={"ap+cosine (scratch)": "Original f0"}),
        SimpleNamespace(name="own"),
    )
    plan = SimpleNamespace(question="Which?", definition=definition, starts=(), trials=trials, sweep=sweep)
    console = Console(file=io.StringIO(), width=width)
    show_trials(plan, {trial.key: 90.0 for trial in trials}, console)
    text = console.file.getvalue()
    assert "…" not in text
    assert all(any(trial.key in row for row in cells(text)) for trial in trials)
    assert sum("1.5" in row for row in cells(text)) == len(trials)


@WIDTHS
@pytest.mark.parametrize("verb", [("sweeps",), ("data", "list")])
def test_lists_are_whole(verb, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    result = CliRunner().invoke(main, verb, catch_exceptions=False)
    assert result.exit_code == 0
    assert "…" not in result.output


def test_words_are_wrapped_and_the_first_table_to_fit_is_taken():
    table = FittedTable(["name", "seeds", Column("why", words=True, rank=0)], title="[bold]a title[/]")
    table.add_row("a", "2", "neither among the best nor the last")
    wide, narrow = printed(80, table), printed(22, table)
    assert "[bold]a title[/]" in wide
    assert "neither among the best nor the last" in wide
    assert "No room for: seeds." in " ".join(narrow.split())
    assert "seeds" not in narrow.partition("No room")[0]


def test_a_name_longer_than_half_the_terminal_is_wrapped_not_cut():
    table = FittedTable(["name", Column("MMA@3", rank=0)])
    table.add_row("x" * 70, "0.123 ±0.004†")
    text = printed(60, table)
    assert text.count("x") == 70
    assert "0.123 ±0.004†" in text
