"""A sweep's comparison ends as files; what has no score still has its table."""

import io
import json
import re
import shlex
from dataclasses import replace

import pytest
from rich.console import Console

from evaluation.report.report import About
from evaluation.statistics.variants import Variant
from runner.compare.report import (
    ANSWER,
    PAGE,
    compare_command,
    compare_networks,
    report_files,
    save_pictures,
)
from runner.compare.rows import find_ordering
from runner.compare.terminal import differences, means


@pytest.fixture
def networks(make_evaluation):
    return [
        Variant(name, (replace(make_evaluation(bonus), model_digest=name * 64),), further=(figures,))
        for name, bonus, figures in (
            ("a", 0.0, {"train/loss_total": 1.0}),
            ("b", 0.2, {"train/loss_total": 2.0}),
        )
    ]


@pytest.mark.parametrize(
    ("metric", "compared", "split", "order"),
    [
        ("mma_3px", "mma_3px", "overall", ["b", "a"]),
        ("hpatches/mma_7px_viewpoint", "mma_7px", "viewpoint", ["b", "a"]),
        ("hpatches/matches_viewpoint", "matches", "viewpoint", ["a", "b"]),
        ("train/loss_total", "mma_3px", "overall", ["a", "b"]),
        ("validation/keypoints", "mma_3px", "overall", ["a", "b"]),
    ],
)
def test_the_metric_orders_the_table(networks, metric, compared, split, order):
    report = compare_networks(networks, find_ordering(metric), About("t"))
    assert (report.about.metric, report.about.split) == (compared, split)
    assert [entry.name for entry in report.variants] == order
    assert report.comparison.baseline == "a"


def test_what_was_not_scored_alike_is_refused(networks, make_evaluation):
    other = Variant("c", (make_evaluation(digest="e" * 64),), further=({},))
    with pytest.raises(ValueError, match="different images or homographies"):
        compare_networks([*networks, other], find_ordering("mma_3px"), About("t"))


def test_the_report_is_a_page_two_tables_a_json_and_a_picture(networks, tmp_path):
    files = report_files(compare_networks(networks, find_ordering("mma_3px"), About("t")))
    tables = {"comparison.md", "comparison.csv", "comparison.json"}
    assert set(files) == {PAGE, ANSWER, "mma_curves.svg", *tables}
    assert files[ANSWER].startswith("**b is highest")
    assert "| variant |" in files[ANSWER]
    assert json.loads(files["comparison.json"])["baseline"] == "a"
    assert files["mma_curves.svg"].startswith("<svg xmlns=")
    assert save_pictures(tmp_path, files) == str(tmp_path / PAGE)
    assert sorted(path.name for path in tmp_path.iterdir()) == [PAGE, "mma_curves.svg"]
    assert save_pictures(tmp_path, {"comparison.md": ""}) is None


def test_long_names_leave_verdicts_whole(networks):
    named = [replace(one, name=f"{one.name} {'long ' * 20}") for one in networks]
    console = Console(record=True, width=140, file=io.StringIO())
    console.print(differences(compare_networks(named, find_ordering("mma_3px"), About("t"))))
    assert re.search("these networks differ|seeds needed", console.export_text())


@pytest.mark.parametrize(("benchmark", "said"), [("hpatches-sequences-release", True), ("photos", False)])
def test_choosing_on_hpatches_is_spoken_of_where_it_is_scored(networks, benchmark, said):
    scored = [replace(n, evaluations=(replace(n.evaluations[0], benchmark=benchmark),)) for n in networks]
    console = Console(record=True, width=140, file=io.StringIO())
    console.print(means(compare_networks(scored, find_ordering("mma_3px"), About("t"))))
    assert ("Choosing on HPatches" in console.export_text()) == said


def test_the_command_can_be_pasted():
    command = compare_command(["my sweep"], metric="mma_3px", baseline="ap+dice (scratch)", role="")
    assert shlex.split(command)[2:] == ["my sweep", "--metric", "mma_3px", "--baseline", "ap+dice (scratch)"]
