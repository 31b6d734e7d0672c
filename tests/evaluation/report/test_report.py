"""A report in every form: the same figures, collapse beside what it spoils, nothing that needs a network."""

import csv
import html
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from evaluation.benchmarks.hpatches import split_of
from evaluation.evaluation import Evaluation, PairScore, Timings
from evaluation.metrics.mma import THRESHOLDS
from evaluation.pictures.examples import MatchExample
from evaluation.protocols import PROTOCOLS
from evaluation.report.findings import CAUTION, ONE_SEED
from evaluation.report.findings import make_report as make_whole_report
from evaluation.report.page import to_html
from evaluation.report.report import About
from evaluation.report.table import mean_columns, p_value
from evaluation.report.text import markdown_text, to_answer, to_csv, to_json, to_markdown, to_rows, wins
from evaluation.statistics.variants import MARK, Variant
from r2d2.collapse import CollapseSigns

SEQUENCES = [f"i_{number}" for number in range(6)] + [f"v_{number}" for number in range(8)]
DIFFICULTY = np.random.default_rng(0).uniform(0.3, 0.7, size=len(SEQUENCES))
HOSTILE = '<script>alert("x")</script> | `a` & *b*'
FLAT = "the repeatability map is flat"


def example(sequence):
    image = np.full((48, 64, 3), 128, np.uint8)
    points = np.array([[10, 10], [40, 20]], np.float32)
    pairs = np.array([[0, 0], [1, 1]])
    return MatchExample(sequence, 4, image, image, points, points, pairs, np.array([0.5, 9.0]))


def evaluation(name, levels):
    pairs = tuple(
        PairScore(seq, split_of(seq), image, 500, 500, 100, tuple(level + 0.01 * (t - 3) for t in THRESHOLDS))
        for seq, level in zip(SEQUENCES, levels, strict=True)
        for image in range(2, 7)
    )
    examples = (example("i_0"), example("v_3"), example("v_7"))
    parts = ("bench", "b" * 64, pairs, Timings(1, 1), CollapseSigns(0.2, 0.8))
    digest = name.encode().hex()[-64:].rjust(64, "0")
    return Evaluation(name, digest, PROTOCOLS["d2net"], *parts, examples=examples)


def variant(name, gain=0.0, seeds=(0, 1, 2), epochs=5):
    rng = np.random.default_rng(sum(name.encode()))
    noise = rng.normal(0, 0.005, (len(seeds), len(SEQUENCES)))
    scored = (evaluation(f"{name}{s}", DIFFICULTY + gain + noise[i]) for i, s in enumerate(seeds))
    return Variant(name, tuple(scored), seeds, epochs=(epochs,) * len(seeds))


def make_report(*arguments):
    """With so few draws that a test takes no time."""
    return make_whole_report(*arguments, replicates=399)


def with_losses(row):
    """The row with a figure of its trainings, and the curves of two of them."""
    values = {"dice": (0.1, 0.2, 0.3), "cosine": (0.5,) * 3}[row.name]
    curves = [{"train/loss_total": ((1, 0.5), (2, 0.4 + seed / 100))} for seed in (0, 1)]
    return replace(
        row,
        further=tuple({"train/loss_peakiness": value} for value in values),
        curves=(*curves, {}) if row.name == "dice" else (),
    )


@pytest.fixture(scope="module")
def report():
    flat = replace(variant(HOSTILE, -0.2), collapsed=True, warnings=(FLAT,))
    return report_of(flat, f"Which? {HOSTILE}")


def report_of(flat, question="Which?"):
    variants = [with_losses(variant("cosine")), with_losses(variant("dice", 0.05)), flat]
    about = About("losses", question, "hpatches", command="r2d2 compare losses")
    return make_report(variants, "cosine", about)


def test_the_best_comes_first_and_the_finding_counts(report):
    assert [entry.name for entry in report.variants] == ["dice", "cosine", HOSTILE]
    assert report.finding == "Of 2 compared with cosine: 1 better, 1 collapsed."


def test_further_figures_are_means_over_networks(report):
    dice, cosine, hostile = report.variants
    assert dice.figures["train/loss_peakiness"] == pytest.approx(0.2)
    assert dice.deviations["train/loss_peakiness"] == pytest.approx(0.1)
    assert cosine.figures["matches"] == 100
    assert "train/loss_peakiness" not in hostile.figures
    assert dice.figures["mma_3px"] == pytest.approx(report.mean("dice").mean)
    assert not any(key.startswith("mma_") for key in report.metrics)


def test_another_figure_may_order_the_table():
    variants = [with_losses(variant("cosine")), with_losses(variant("dice", 0.05))]
    about = About("t", sort_by="train/loss_peakiness", ascending=False)
    assert [e.name for e in make_report(variants, "dice", about).variants] == ["cosine", "dice"]
    about = About("t", sort_by="train/loss_peakiness", ascending=True)
    found = make_report(variants, "dice", about)
    assert [e.name for e in found.variants] == ["dice", "cosine"]
    assert "| dice | 3 | 5 | 0.200 ±0.100 |" in to_markdown(found)
    with pytest.raises(ValueError, match=r"no variant has a figure 'auc'; known: .*matches"):
        make_report(variants, "dice", About("t", sort_by="auc"))


def test_a_row_without_a_score_stands_in_the_table_last_with_what_is_known_of_it():
    losses = ({"train/loss_peakiness": 0.2}, {"train/loss_peakiness": 0.4})
    waiting = Variant("waiting", (), (0, 1), (3, 3), warnings=(FLAT,), further=losses)
    found = make_report([waiting, variant("cosine"), variant("dice", 0.05)], "cosine", About("t"))
    assert [entry.name for entry in found.variants] == ["dice", "cosine", "waiting"]
    assert list(found.comparison.baselines) == ["dice"]
    text, page = to_markdown(found), Page(to_html(found))
    assert "| waiting | 2 | 3 | - |" in text
    assert f"- {MARK} waiting: {FLAT}" in text
    assert re.search(r"\| waiting \|.* 0\.300 ±0\.141† \|", text)
    assert page.open == []
    assert "waiting" in page.text
    lines = [x for x in csv.DictReader(io.StringIO(to_csv(found))) if x["variant"] == "waiting"]
    assert [line["value"] for line in lines] == ["0.300000"]
    (row,) = [row for row in to_rows(found) if row["variant"] == "waiting"]
    assert (row["seeds"], row["epochs"], row["mma_3px mean"], row["warnings"]) == (2, 3, None, FLAT)
    assert row["train/loss_peakiness std"] == pytest.approx(0.02**0.5)


@pytest.mark.parametrize(("ascending", "order"), [(True, ["a", "b", "c"]), (False, ["b", "a", "c"])])
def test_without_any_score_the_losses_make_a_table(ascending, order):
    rows = [
        Variant(name, (), (0,), (2,), further=({"train/loss_total": value} if value else {},))
        for name, value in (("c", None), ("a", 1.0), ("b", 2.0))
    ]
    found = make_report(rows, {}, About("t", sort_by="train/loss_total", ascending=ascending))
    assert [entry.name for entry in found.variants] == order
    text = to_markdown(found)
    assert "| variant | seeds | epochs | loss total |" in text
    assert "| a | 1 | 2 | 1.000 |" in text
    assert "| c | 1 | 2 | - |" in text
    assert "| a | 1 | 2 | 1.000 |" in to_answer(found)
    assert json.loads(to_json(found))["variants"][0]["name"] == order[0]
    assert len(list(csv.DictReader(io.StringIO(to_csv(found))))) == 2
    with pytest.raises(ValueError, match="nothing is scored yet"):
        to_html(found)


def test_every_figure_has_one_column_and_the_deciding_one_comes_first(report):
    heads = [column.head.replace("\n", " ") for column in mean_columns(report)]
    assert heads[:4] == ["seeds", "epochs", "hpatches MMA@3", "95 % of MMA@3"]
    assert len(set(heads)) == len(heads)
    thresholds = {f"hpatches MMA@{t}" for t in (1, 3, 5, 6, 10)}
    assert thresholds | {"loss peakiness", "MMA@3 illumination", "MMA@3 viewpoint"} <= set(heads)


def test_another_split_and_metric_may_come_first():
    gain = np.where([name.startswith("v_") for name in SEQUENCES], -0.1, 0.1)
    about = About("t", metric="mma_2px", split="viewpoint")
    found = make_report([variant("cosine"), variant("dice", gain)], "cosine", about)
    assert [entry.name for entry in found.variants] == ["cosine", "dice"]
    assert found.compared == ["mma_2px", "mma_1px", "mma_3px", "mma_5px", "mma_6px", "mma_10px"]
    assert found.difference("dice").estimate == pytest.approx(-0.1, abs=0.02)
    assert {row.split for row in found.by_sequence("dice")} == {"viewpoint"}


def test_another_metric_is_compared_in_every_form():
    found = make_report([variant("cosine"), variant("dice")], "cosine", About("t", metric="matches"))
    assert found.compared[:2] == ["matches", "mma_1px"]
    assert (found.mean("dice").mean, found.difference("dice").estimate) == (100, 0)
    text = to_markdown(found)
    assert "| variant | seeds | epochs | matches | 95 % of matches |" in text
    assert "| dice | 3 | 5 | 100 ±0 | 100 to 100 | +0.000 |" in text
    page = Page(to_html(found))
    assert "matches decides" in page.text
    lines = [x for x in csv.DictReader(io.StringIO(to_csv(found))) if x["metric"] == "matches"]
    assert {(x["variant"], x["split"], x["sequence"]) for x in lines if not x["sequence"]} == {
        (name, split, "") for name in ("cosine", "dice") for split in ("overall", "illumination", "viewpoint")
    }


def test_few_sequences_are_said(report):
    scored = evaluation("few", DIFFICULTY)
    few = [p for p in scored.pairs if p.sequence in ("i_0", "v_0", "v_1")]
    alone = make_report([Variant("few", (replace(scored, pairs=tuple(few)),), (0,))], "few", About("t"))
    assert alone.cautions[-1].startswith(
        "Intervals from fewer than 5 sequences (overall 3, illumination 1, viewpoint 2)"
    )
    assert not any("fewer" in sentence for sentence in report.cautions)


def test_lost_pairing_of_seeds_and_pairs_without_a_number_are_said():
    scored = variant("dice", seeds=(0, 1))
    numbered = [
        replace(
            one,
            evaluations=tuple(
                replace(e, pairs=tuple(replace(p, localisation_error=1.0) for p in e.pairs))
                for e in one.evaluations
            ),
        )
        for one in (variant("cosine"), scored)
    ]
    first, *others = numbered[1].evaluations
    holed = replace(first, pairs=(replace(first.pairs[0], localisation_error=np.nan), *first.pairs[1:]))
    variants = [numbered[0], replace(numbered[1], evaluations=(holed, *others))]
    found = make_report(variants, "cosine", About("t", metric="localisation_error_px", ascending=True))
    assert list(found.cautions) == [
        "Not compared seed by seed with cosine (seeds 0, 1, 2), which widens intervals: dice (seeds 0, 1).",
        "localisation error (px) is compared without 1 pair for which a row lacks it.",
    ]
    assert Page(to_html(found)).open == []


def test_a_split_that_the_benchmark_lacks_is_refused():
    with pytest.raises(ValueError, match="benchmark bench has no night sequences"):
        make_report([variant("cosine")], "cosine", About("t", split="night"))


def test_where_it_wins(report):
    assert wins(report, "dice").startswith("above on 14 of 14 (")
    first, *_, last = report.by_sequence("dice")
    assert first.estimate > last.estimate


def test_a_single_seed_is_said(report):
    assert list(report.cautions) == [CAUTION]
    alone = make_report([variant("cosine", seeds=(0,))], "cosine", About("t"))
    assert list(alone.cautions) == [ONE_SEED]
    assert alone.finding == "There is nothing to compare it with."


@pytest.mark.parametrize(
    ("first", "second", "verdict", "answers"),
    [
        (
            {"gain": 0.05},
            {},
            "better",
            (
                "dice is highest, MMA@3 0.5.*: its lead of 0.0.* over cosine is shown",
                "This table .3 seeds, 14",
            ),
        ),
        (
            {"gain": 0.002},
            {},
            "no difference shown",
            (
                "its lead of 0.00. over .* is not shown .dice - cosine: 95 % interval -0.00",
                "takes about .* seeds",
            ),
        ),
        (
            {"gain": 0.0},
            {},
            "no difference shown",
            ("is not shown", "There is nothing to show.*This table .3 seeds, 14 seq.* of about 0.0"),
        ),
        (
            {"gain": 0.05, "seeds": (0,)},
            {"seeds": (0,)},
            "these networks differ",
            (
                "these networks differ, but one seed does not show",
                "train every row with 3 seeds; that shows gains of",
            ),
        ),
        (
            {"gain": 0.0, "seeds": (0,)},
            {"seeds": (0,)},
            "seeds needed",
            ("one seed does not show that it leads", "train every row with 3 seeds"),
        ),
        (
            {"gain": 0.05, "epochs": 9},
            {"gain": 0.2, "epochs": 1},
            "unequal training",
            ("no verdict, for it and cosine were not trained alike", "for the same number of epochs"),
        ),
    ],
)
def test_the_same_verdict_and_a_two_line_answer_everywhere(first, second, verdict, answers):
    found = make_report([variant("cosine", **second), variant("dice", **first)], "cosine", About("t"))
    for line, pattern in zip(found.answer, answers, strict=True):
        assert re.search(pattern, line)
    assert found.finding.endswith(f"Of 1 compared with cosine: 1 {verdict}.")
    assert found.finding.startswith("One seed says nothing about a loss") == ("seeds" in second)
    assert found.difference("dice").verdict == found.words("dice") == verdict
    assert found.words("cosine") == "baseline"
    lines = [
        x for x in csv.DictReader(io.StringIO(to_csv(found))) if x["verdict"] and x["metric"] == "mma_3px"
    ]
    assert next(x["verdict"] for x in lines if x["split"] == "overall") == verdict
    values = json.loads(to_json(found))
    assert (values["answer"], values["finding"]) == (list(found.answer), found.finding)
    assert verdict in to_markdown(found)
    assert verdict in Page(to_html(found)).text


def test_rows_of_fewer_epochs_stand_below_the_others():
    variants = [variant("cosine"), variant("short", 0.2, epochs=1), variant("start", -0.1, epochs=0)]
    assert [e.name for e in make_report(variants, "cosine", About("t")).variants] == [
        "cosine",
        "start",
        "short",
    ]


def test_a_baseline_without_a_score_is_said():
    about = About("t", unscored=("cosine",))
    variants = [variant("dice", 0.05), variant("jaccard")]
    waiting = make_report(variants, {}, about)
    said = "cosine, the baseline of other rows, has no score yet."
    assert waiting.finding == said
    assert waiting.answer[0].endswith("; it is compared with nothing.")
    assert waiting.answer[1] == f"{said} --baseline ROW compares all rows with any other one."
    assert make_report(variants[:1], {}, about).answer[1] == said
    assert list(make_report(variants, {"jaccard": "dice"}, about).cautions) == [said]
    text, page = to_markdown(waiting), Page(to_html(waiting))
    assert "## Differences" not in text
    assert said in text
    assert said in page.text
    assert page.open == []


def test_a_training_that_was_spoilt_is_not_called_too_short():
    spoilt = replace(variant("dice", 0.05), warnings=("half of the pairs were unreadable",))
    found = make_report([variant("cosine"), spoilt], "cosine", About("t"))
    assert found.difference("dice").verdict == "unequal training"
    assert found.answer[1] == "Train dice again: the warnings say what spoilt the training."


def test_each_row_may_have_a_baseline_of_its_own():
    variants = [variant("cosine"), variant("dice", 0.05), variant("old", -0.1), variant("new", -0.05)]
    found = make_report(variants, {"dice": "cosine", "new": "old"}, About("t"))
    assert [entry.name for entry in found.compared_variants] == ["dice", "new"]
    assert [(row.variant, row.baseline) for row in map(found.difference, ("dice", "new"))] == [
        ("dice", "cosine"),
        ("new", "old"),
    ]
    assert found.difference("old") is None
    assert found.words("cosine") == found.words("old") == "baseline"
    page, text = Page(to_html(found)), to_markdown(found)
    assert page.open == []
    assert page.text.count("to old") > 4
    assert page.text.count("to cosine") > 4
    assert re.search(r"\| new \|[^\n]*\| old \| [+-]0\.\d", text)
    assert "| dice | cosine | viewpoint |" in text
    assert "new (to old): above on" in text
    plain = make_report(variants, "cosine", About("t"))
    assert "| baseline | difference |" in text
    assert "| baseline | difference" not in to_markdown(plain)
    with pytest.raises(ValueError, match="unknown baseline 'dise'; known: cosine, dice, new, old"):
        make_report(variants, {"dice": "dise"}, About("t"))


def test_an_easy_and_a_hard_pair_are_shown_for_best_baseline_and_worst(report):
    shown = [(name, example.sequence) for name, example in report.examples]
    assert shown == [(name, s) for s in ("i_0", "v_7") for name in ("dice", "cosine", HOSTILE)]


@pytest.mark.parametrize(("p", "text"), [(None, ""), (0.00042, "< 0.001"), (0.0421, "0.042"), (1.0, "1.000")])
def test_p_values(p, text):
    assert p_value(p) == text


def test_csv_holds_every_figure_in_one_long_table(report):
    lines = list(csv.DictReader(io.StringIO(to_csv(report))))
    wanted = {"variant": "dice", "metric": "mma_3px", "split": "viewpoint", "sequence": ""}
    (line,) = [line for line in lines if wanted.items() <= line.items()]
    row = report.difference("dice", "viewpoint", "mma_3px")
    assert float(line["value"]) == pytest.approx(report.mean("dice", "viewpoint", "mma_3px").mean, abs=1e-6)
    assert float(line["difference_low"]) == pytest.approx(row.low, abs=1e-6)
    assert (line["verdict"], line["seeds"], line["baseline"]) == ("better", "3", "cosine")
    by_sequence = [
        x for x in lines if (x["variant"], x["metric"], x["sequence"]) == ("dice", "mma_1px", "v_3")
    ]
    assert len(by_sequence) == 1
    assert {line["collapse"] for line in lines if line["variant"] == HOSTILE} == {FLAT}
    assert {line["verdict"] for line in lines if line["variant"] == "cosine"} == {""}


def test_json_holds_everything_and_no_nan(report):
    values = json.loads(to_json(report), parse_constant=pytest.fail)
    assert values["benchmark_digest"] == "b" * 64
    assert values["protocol_digest"] == PROTOCOLS["d2net"].digest
    assert [entry["name"] for entry in values["variants"]] == ["dice", "cosine", HOSTILE]
    assert values["variants"][2]["warnings"] == [FLAT]
    assert len(values["curves"]) == 3 * 3 * 15
    assert len(values["by_sequence"]) == 2 * len(SEQUENCES) * 5
    assert values["cautions"] == [CAUTION]


def test_markdown_marks_what_is_spoilt_and_says_why(report):
    text = to_markdown(report)
    mean = report.mean(HOSTILE).mean
    assert re.search(rf"{mean:.3f} ±0\.\d{{3}}{MARK}", text)
    assert f"- {MARK} {markdown_text(HOSTILE)}: {FLAT}" in text
    assert "| dice | 3 | 5 | " in text
    assert "| better |" in text
    assert "| difference to cosine |" in text
    assert CAUTION in text


def test_markdown_tables_keep_their_columns_whatever_the_names(report):
    tables = [block for block in to_markdown(report).split("\n\n") if block.startswith("|")]
    assert len(tables) == 5
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1
        assert "<script" not in table


class Page(HTMLParser):
    """What a page holds: its texts, its tags, and every address that it names."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.text, self.open = [], [], "", []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.open += [] if tag in ("meta", "img") else [tag]
        self.addresses += [value for name, value in attributes if name in ("src", "href", "xlink:href")]

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_is_well_formed_and_needs_nothing_else(report):
    text = to_html(report)
    page = Page(text)
    assert page.open == []
    assert page.addresses
    assert all(address.startswith("data:image/jpeg;base64,") for address in page.addresses)
    assert not re.search(r"https?://|@import|url\(|<link", text)
    assert page.tags.count("script") == 1
    assert HOSTILE in page.text


def test_the_page_shows_all_that_the_report_has(report):
    text = to_html(report)
    page = Page(text)
    # Curves of three splits, the losses of training, a bar per variant and split, its axes, heat map, legend.
    assert text.count('class="chart"') == 3 + 1
    assert text.count('class="bar') == 3 * 2 + 3
    assert text.count('class="heat"') == 1
    assert page.tags.count("img") == 6
    row = report.by_sequence("dice")[0]
    assert f'title="dice, {row.sequence}: {row.estimate:+.3f}"' in text
    for words in ("i_0", "better", "worse", FLAT, CAUTION, "b" * 64, "r2d2 compare losses", "loss peakiness"):
        assert words in page.text
    assert f"{report.mean('dice').mean:.3f}" in page.text
    assert f">{MARK}</sup>" in text


def test_the_page_of_a_single_variant_has_no_differences():
    text = to_html(make_report([variant("cosine", seeds=(0,))], "cosine", About("t")))
    assert 'class="heat"' not in text
    assert "Differences to" not in text
    assert Page(text).open == []


def test_one_network_far_below_leaves_the_others_their_colours():
    variants = [variant("cosine"), *(variant(f"v{i}", 0.005 * i) for i in range(4)), variant("worst", -0.3)]
    text = to_html(make_report(variants, "cosine", About("t")))
    shares = [float(x) for x in re.findall(r"--share:([\d.]+)", text)]
    assert np.median(shares) > 0.08
    assert "<polygon points=" in text


def test_the_answer_comes_first_and_every_term_is_explained_once(report):
    markdown, page = to_markdown(report), to_html(report)
    for text in (markdown, html.unescape(page)):
        first, second = (text.index(sentence) for sentence in report.answer)
        assert first < second < text.index(report.finding)
        for term in ("MMA@t:", "p (Holm):", "±:", "protocol: how", "digest: the"):
            assert text.count(term) == 1, term
        assert "PoseLib:" not in text
