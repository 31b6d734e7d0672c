"""Writes a report as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

from evaluation.report.report import Report
from evaluation.report.table import (
    difference_columns,
    difference_interval,
    explained,
    figure,
    heading,
    mean_columns,
    metric_cell,
    metric_heading,
)
from evaluation.statistics.variants import MARK, Variant
from r2d2.formats.printable import csv_cell, printable

# A longer table of sequences is for the page and the JSON; here its two ends show where a variant wins.
MAX_SEQUENCES = 30
ENDS = 5

_COLUMNS = (
    *("variant", "baseline", "seeds", "epochs", "metric", "split", "sequence", "value", "std", "low", "high"),
    *("difference", "difference_low", "difference_high", "p", "p_holm", "verdict", "collapse"),
)


def wins(report: Report, name: str) -> str:
    """Says on how many sequences a variant lies above the baseline, and where most and least."""
    rows = report.by_sequence(name)
    above = sum(row.estimate > 0 for row in rows)
    ends = f"{rows[0].sequence} {figure(rows[0].estimate, '+')}"
    if len(rows) > 1:
        ends += f", {rows[-1].sequence} {figure(rows[-1].estimate, '+')}"
    return f"above on {above} of {len(rows)} ({ends})"


def provenance(report: Report) -> list[tuple[str, str]]:
    """Lists what the figures depend on, and how to make them again: names and values."""
    compared, parts = report.comparison, []
    if compared is not None:
        protocol = compared.protocol
        parts += [
            ("protocol", f"{protocol.name}, digest {protocol.digest}"),
            ("its settings", json.dumps(protocol.definition)),
            ("benchmark", f"{compared.benchmark}, digest {compared.benchmark_digest}"),
            ("baseline", compared.baseline),
        ]
    parts += [("made by", report.about.command), ("code", report.about.code_version)]
    return [(name, value) for name, value in parts if value]


def to_markdown(report: Report) -> str:
    """Writes the report for reading, without its pictures."""
    listed = "\n".join(f"- {sentence}" for sentence in terms(report))
    return f"{_body(report)}\n## Terms\n\n{listed}\n"


def to_answer(report: Report) -> str:
    """Writes the answer as Markdown: two lines, the question, the table and its terms."""
    table = _main_table(report)
    listed = "\n".join(f"- {sentence}" for sentence in explained(table))
    parts = [f"**{sentence}**" for sentence in report.answer[:1]]
    parts += [*report.answer[1:], report.finding, report.about.question, table, listed, report.about.looks]
    return "\n\n".join(part for part in parts if part) + "\n"


def terms(report: Report) -> list[str]:
    """Explains the terms that a report uses."""
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
    warnings = [f"{MARK} {e.name}: {sentence}" for e in report.variants for sentence in e.warnings]
    remarks = [f"{e.name}: {sentence}" for e in report.variants for sentence in e.remarks]
    parts += ["\n".join(f"- {markdown_text(line)}" for line in lines) for lines in (warnings, remarks)]
    if report.compared_variants:
        parts += ["## Differences by split and metric", _difference_table(report)]
        parts += ["## By sequence", _sequence_tables(report)]
    if report.metrics:
        parts += ["## Further figures", _metric_table(report)]
    measured = "\n".join(f"- {name}: `{value}`" for name, value in provenance(report))
    parts += ["## How it was measured", measured] if measured else []
    parts += ["\n".join(f"- {sentence}" for sentence in report.cautions)]
    return "\n\n".join(part for part in parts if part) + "\n"


def to_csv(report: Report) -> str:
    """Writes everything in one table of long form: a line per variant, metric and split or sequence.

    `value` is the mean over seeds and `difference` the difference from the baseline; unknown cells are empty.
    """
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, _COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    for variant in report.variants:
        common = {
            "variant": csv_cell(variant.name),
            "baseline": csv_cell(report.baselines.get(variant.name, "")),
            "seeds": variant.networks,
            "epochs": variant.trained_for,
            "collapse": csv_cell("; ".join(variant.warnings)),
        }
        writer.writerows(common | _cells(line) for line in _lines(report, variant))
    return buffer.getvalue()


def to_rows(report: Report) -> list[dict[str, str | int | float]]:
    """Returns a row of numbers for each variant; its columns are those of the first row, or fewer.

    The mean and the standard deviation over networks of each figure that a table shows, and the difference.
    """
    role = f"{report.about.role}/" if report.about.role else ""
    names = {key: f"{role}{key}" for key in report.compared} | {
        key: key for key in report.metrics if "/" in key
    }
    rows = []
    for variant in report.variants:
        epochs = variant.trained_for
        row: dict[str, Any] = {"variant": variant.name, "seeds": variant.networks}
        row["epochs"] = int(epochs) if epochs.isdecimal() else epochs
        for key, name in names.items():
            mean = report.mean(variant.name, "overall", key)
            row[f"{name} mean"] = variant.figures.get(key) if mean is None else mean.mean
            row[f"{name} std"] = variant.deviations.get(key)
        found = report.difference(variant.name)
        row["difference"] = found.estimate if found is not None else None
        rows.append(row | {"verdict": report.words(variant.name), "warnings": "; ".join(variant.warnings)})
    return rows


def to_json(report: Report) -> str:
    """Returns everything but the pictures, as JSON; what is not known is null."""
    about, compared = report.about, report.comparison
    values = {
        "schema": "r2d2.comparison",
        "version": 1,
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
        "variants": [_variant(variant) for variant in report.variants],
        "curves": [asdict(row) for row in report.curves],
        "training": [
            {"variant": variant.name, "seed": seed, "metric": metric, "points": points}
            for metric, curves in report.training()
            for variant, seed, points in curves
        ],
    }
    if compared is not None:
        values |= {
            "baseline": compared.baseline,
            "protocol": compared.protocol.name,
            "protocol_digest": compared.protocol.digest,
            "protocol_settings": compared.protocol.definition,
            "benchmark": compared.benchmark,
            "benchmark_digest": compared.benchmark_digest,
            **compared.to_rows(),
        }
    return json.dumps(values, indent=1, allow_nan=False)


def _variant(variant: Variant) -> dict[str, Any]:
    return {
        "name": variant.name,
        "epochs": variant.trained_for,
        "networks": [(scored.model, scored.model_digest) for scored in variant.evaluations],
        "seeds": variant.seeds,
        "figures": variant.figures,
        "deviations": variant.deviations,
        "warnings": variant.warnings,
        "remarks": variant.remarks,
    }


def _main_table(report: Report) -> str:
    """A row per variant: what a narrow terminal shows too."""
    means, differences = mean_columns(report), difference_columns(report)
    if not report.has_several_baselines and differences:
        differences[0] = replace(
            differences[0], head=f"difference to {next(iter(report.baselines.values()))}"
        )
    shown = [column for column in (*means, *differences) if column.rank <= 2]
    head = ["variant", *(column.head.replace("\n", " ") for column in shown)]
    rows = [[variant.name, *(column.cell(variant) for column in shown)] for variant in report.variants]
    return markdown_table(head, rows)


def _difference_table(report: Report) -> str:
    several = report.has_several_baselines
    head = ["variant", *(["baseline"] if several else []), "split", *map(heading, report.compared)]
    rows = []
    for variant in report.compared_variants:
        for split in report.splits:
            found = [report.difference(variant.name, split, metric) for metric in report.compared]
            cells = [
                f"{figure(row.estimate, '+')}{variant.mark} "
                f"({difference_interval(row) or 'no interval'}) {row.verdict}"
                for row in found
                if row is not None
            ]
            own = [report.baselines[variant.name]] if several else []
            rows.append([variant.name, *own, split, *cells])
    return markdown_table(head, rows)


def _sequence_tables(report: Report) -> str:
    """Every sequence if there are few, else the ends of the list, one table per variant."""
    parts = []
    for variant in report.compared_variants:
        rows = report.by_sequence(variant.name)
        shown = rows if len(rows) <= MAX_SEQUENCES else [*rows[:ENDS], *rows[-ENDS:]]
        own = f" (to {report.baselines[variant.name]})" if report.has_several_baselines else ""
        title = markdown_text(f"{variant.name}{own}: {wins(report, variant.name)}")
        cells = [
            [row.sequence, f"{figure(row.mean)}{variant.mark}", figure(row.estimate, "+")] for row in shown
        ]
        parts += [title, markdown_table(["sequence", heading(report.about.metric), "difference"], cells)]
    return "\n\n".join(parts)


def _metric_table(report: Report) -> str:
    rows = [[e.name, *(metric_cell(e, key) for key in report.metrics)] for e in report.variants]
    return markdown_table(["variant", *(metric_heading(key) for key in report.metrics)], rows)


def _cells(line: dict[str, Any]) -> dict[str, Any]:
    return {
        key: f"{value:.6f}" if isinstance(value, float) else csv_cell(str(value))
        for key, value in line.items()
        if value is not None
    }


def _lines(report: Report, variant: Variant) -> Iterator[dict[str, Any]]:
    """The lines of one variant in the CSV, without what all of them have."""
    for mean in (row for row in report.means if row.variant == variant.name):
        line = {"metric": mean.metric, "split": mean.split, "value": mean.mean}
        line |= {"low": mean.low, "high": mean.high}
        line |= {"std": variant.deviations.get(mean.metric)} if mean.split == "overall" else {}
        found = report.difference(variant.name, mean.split, mean.metric)
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
    for key in [key for key in variant.figures if key not in report.compared]:
        value, deviation = variant.figures[key], variant.deviations.get(key)
        yield {"metric": key, "split": "overall", "value": value, "std": deviation}
    by_sequence = report.comparison.by_sequence if report.comparison is not None else ()
    for row in (row for row in by_sequence if row.variant == variant.name):
        yield {
            "metric": row.metric,
            "split": row.split,
            "sequence": row.sequence,
            "value": row.mean,
            "difference": row.estimate,
        }


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Makes a table whose first column holds words, the others figures; Markdown's marks are escaped."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(markdown_text(cell) for cell in line)} |" for line in lines)


def markdown_text(text: str) -> str:
    """Escapes a text of unknown origin for Markdown: one line, without links, pictures or HTML."""
    shown = printable(" ".join(text.split())).replace("\\", "\\\\")
    return shown.replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[")
