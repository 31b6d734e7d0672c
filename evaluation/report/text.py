"""A report as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from evaluation.report.headings import difference_interval, figure, heading, interval, p_value
from evaluation.report.report import MARK, Entry, Report
from evaluation.report.terms import explained
from r2d2.printable import csv_cell, printable

# A longer table of sequences is for the page and the JSON; here the ends of it tell where a variant wins.
MAX_SEQUENCES = 30
ENDS = 5

_COLUMNS = (
    *("variant", "baseline", "seeds", "metric", "split", "sequence", "value", "low", "high", "difference"),
    *("difference_low", "difference_high", "p", "p_holm", "verdict", "collapse"),
)


def wins(report: Report, name: str) -> str:
    """On how many sequences a variant lies above the baseline, and where most and least."""
    rows = report.by_sequence(name)
    above = sum(row.estimate > 0 for row in rows)
    ends = f"{rows[0].sequence} {figure(rows[0].estimate, '+')}"
    if len(rows) > 1:
        ends += f", {rows[-1].sequence} {figure(rows[-1].estimate, '+')}"
    return f"above on {above} of {len(rows)} ({ends})"


def provenance(report: Report) -> list[tuple[str, str]]:
    """What the figures depend on, and how to make them again: names and values."""
    compared = report.comparison
    protocol = compared.protocol
    parts = [
        ("protocol", f"{protocol.name}, digest {protocol.digest}"),
        ("its settings", json.dumps(protocol.definition)),
        ("benchmark", f"{compared.benchmark}, digest {compared.benchmark_digest}"),
        ("baseline", compared.baseline),
        ("made by", report.about.command),
        ("code", report.about.code_version),
    ]
    return [(name, value) for name, value in parts if value]


def to_markdown(report: Report) -> str:
    """The report to be read, without its pictures."""
    listed = "\n".join(f"- {sentence}" for sentence in terms(report))
    return f"{_body(report)}\n## Terms\n\n{listed}\n"


def to_answer(report: Report) -> str:
    """The answer as Markdown, to stand above other things: two lines, the question, the table, its terms."""
    table = _main_table(report)
    listed = "\n".join(f"- {sentence}" for sentence in explained(table))
    first, second = report.answer
    parts = [f"**{first}**", second, report.finding, report.about.question, table, listed]
    return "\n\n".join(part for part in parts if part) + "\n"


def terms(report: Report) -> list[str]:
    """What the terms mean that a report uses."""
    return explained(_body(report))


def _body(report: Report) -> str:
    about = report.about
    parts = [
        f"# {markdown_text(about.title)}",
        about.question,
        about.standing,
        *report.answer,
        report.finding,
    ]
    parts += [_main_table(report)]
    warnings = [f"{MARK} {e.name}: {sentence}" for e in report.entries for sentence in e.warnings]
    remarks = [f"{e.name}: {sentence}" for e in report.entries for sentence in e.remarks]
    parts += ["\n".join(f"- {markdown_text(line)}" for line in lines) for lines in (warnings, remarks)]
    if report.compared_entries:
        parts += ["## Differences by split and metric", _difference_table(report)]
        parts += ["## By sequence", _sequence_tables(report)]
    if report.metrics:
        parts += ["## Further figures", _metric_table(report)]
    parts += ["## How it was measured", "\n".join(f"- {n}: `{v}`" for n, v in provenance(report))]
    parts += ["\n".join(f"- {sentence}" for sentence in report.cautions)]
    return "\n\n".join(part for part in parts if part) + "\n"


def to_csv(report: Report) -> str:
    """Everything in one table of long form: a line per variant, metric and split or sequence.

    `value` is the mean over seeds, `difference` that to the baseline; empty cells are not known.
    """
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, _COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    for entry in report.entries:
        common = {
            "variant": csv_cell(entry.name),
            "baseline": csv_cell(report.comparison.baselines.get(entry.name, "")),
            "seeds": len(entry.networks),
            "collapse": csv_cell("; ".join(entry.warnings)),
        }
        writer.writerows(common | _cells(line) for line in _lines(report, entry))
    return buffer.getvalue()


def to_json(report: Report) -> str:
    """Everything but the pictures, as JSON; what is not known is null."""
    about, compared = report.about, report.comparison
    values = {
        "title": about.title,
        "question": about.question,
        "role": about.role,
        "ordered_by": {"metric": about.metric, "split": about.split, "figure": about.sort_by or None},
        "command": about.command,
        "code_version": about.code_version,
        "standing": about.standing,
        "answer": report.answer,
        "finding": report.finding,
        "cautions": report.cautions,
        "baseline": compared.baseline,
        "protocol": compared.protocol.name,
        "protocol_digest": compared.protocol.digest,
        "protocol_settings": compared.protocol.definition,
        "benchmark": compared.benchmark,
        "benchmark_digest": compared.benchmark_digest,
        "variants": [asdict(entry) for entry in report.entries],
        **compared.to_rows(),
        "curves": [asdict(row) for row in report.curves],
        "training": [asdict(curve) for curve in about.training],
    }
    return json.dumps(values, indent=1, allow_nan=False)


def _main_table(report: Report) -> str:
    split = report.about.split
    where = "" if split == "overall" else f" {split}"
    head = ["variant", "seeds", "epochs", f"{heading(report.about.metric)}{where}", "95 % interval"]
    several = report.has_several_baselines
    head += ["baseline"] if several else []
    to = "its baseline" if several else report.comparison.baseline
    head += [f"difference to {to}" if to else "difference", "95 % interval", "p (Holm)", ""]
    rows = []
    for entry in report.entries:
        mean, row = report.mean(entry.name), report.difference(entry.name)
        cells = [entry.name, str(len(entry.networks)), entry.epochs, f"{figure(mean.mean)}{entry.mark}"]
        cells += [interval(mean)]
        cells += [row.baseline if row is not None else ""] if several else []
        if row is None:
            cells += ["", "", ""]
        else:
            cells += [
                f"{figure(row.estimate, '+')}{entry.mark}",
                difference_interval(row),
                p_value(row.p_holm),
            ]
        rows.append([*cells, report.words(entry.name)])
    return markdown_table(head, rows)


def _difference_table(report: Report) -> str:
    several = report.has_several_baselines
    head = ["variant", *(["baseline"] if several else []), "split", *map(heading, report.compared)]
    rows = []
    for entry in report.compared_entries:
        for split in report.splits:
            found = [report.difference(entry.name, split, metric) for metric in report.compared]
            cells = [
                f"{figure(row.estimate, '+')}{entry.mark} "
                f"({difference_interval(row) or 'no interval'}) {row.verdict}"
                for row in found
                if row is not None
            ]
            own = [report.comparison.baselines[entry.name]] if several else []
            rows.append([entry.name, *own, split, *cells])
    return markdown_table(head, rows)


def _sequence_tables(report: Report) -> str:
    """Every sequence if there are few, else the ends of the list, one table per variant."""
    parts = []
    for entry in report.compared_entries:
        rows = report.by_sequence(entry.name)
        shown = rows if len(rows) <= MAX_SEQUENCES else [*rows[:ENDS], *rows[-ENDS:]]
        own = f" (to {report.comparison.baselines[entry.name]})" if report.has_several_baselines else ""
        title = markdown_text(f"{entry.name}{own}: {wins(report, entry.name)}")
        cells = [
            [row.sequence, f"{figure(row.mean)}{entry.mark}", figure(row.estimate, "+")] for row in shown
        ]
        parts += [title, markdown_table(["sequence", heading(report.about.metric), "difference"], cells)]
    return "\n\n".join(parts)


def _metric_table(report: Report) -> str:
    rows = [[e.name, *(metric_cell(e, key) for key in report.metrics)] for e in report.entries]
    return markdown_table(["variant", *(metric_heading(key) for key in report.metrics)], rows)


def metric_heading(key: str) -> str:
    """A further figure's heading, e.g. `AUC@3 DLT` or `loss peakiness`."""
    role, _, name = key.rpartition("/")
    return f"loss {heading(name.removeprefix('loss_'))}" if role == "train" else heading(name)


def metric_cell(entry: Entry, key: str) -> str:
    """A further figure: mean, standard deviation over networks where there are several; `-` without it."""
    if key not in entry.figures:
        return "-"
    deviation = f" {spread(entry, key)}" if key in entry.deviations else ""
    return f"{figure(entry.figures[key])}{deviation}{entry.mark}"


def spread(entry: Entry, key: str) -> str:
    """The standard deviation over networks of a further figure, with as many decimals as its mean."""
    decimals = 0 if abs(entry.figures[key]) >= 100 else 3
    return f"±{entry.deviations[key]:.{decimals}f}"


def _cells(line: dict[str, Any]) -> dict[str, Any]:
    return {
        key: f"{value:.6f}" if isinstance(value, float) else csv_cell(str(value))
        for key, value in line.items()
        if value is not None
    }


def _lines(report: Report, entry: Entry) -> Iterator[dict[str, Any]]:
    """The lines of one variant in the CSV, without what all of them have."""
    for mean in (row for row in report.comparison.means if row.variant == entry.name):
        line = {"metric": mean.metric, "split": mean.split, "value": mean.mean}
        line |= {"low": mean.low, "high": mean.high}
        found = report.difference(entry.name, mean.split, mean.metric)
        if found is not None:
            line |= {
                "difference": found.estimate,
                "difference_low": found.low,
                "difference_high": found.high,
                "p": found.p,
                "p_holm": found.p_holm,
                "verdict": found.verdict,
            }
        yield line
    for key, value in entry.figures.items():
        if key in report.compared:
            continue
        yield {"metric": key, "split": "overall", "value": value}
    for row in (row for row in report.comparison.by_sequence if row.variant == entry.name):
        yield {
            "metric": row.metric,
            "split": row.split,
            "sequence": row.sequence,
            "value": row.mean,
            "difference": row.estimate,
        }


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column holds words, the others figures; what Markdown reads is escaped."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(markdown_text(cell) for cell in line)} |" for line in lines)


def markdown_text(text: str) -> str:
    """A text of unknown origin that Markdown shows as it is: on one line, without links, pictures or HTML."""
    shown = printable(" ".join(text.split())).replace("\\", "\\\\")
    return shown.replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[")
