"""The verb compare, and what `sweep` and `demo` show of it: a table, and which differences are real."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape

from r2d2.storage.store import Store
from runner.cli.outputs import OutputFile
from runner.settings import Settings
from runner.terminal.console import make_console

if TYPE_CHECKING:
    from evaluation.report.report import Report
    from runner.compare.table import Row
    from runner.record.sweep import StoredSweep

_FILE = OutputFile()


@click.command()
@click.argument("what", nargs=-1, required=True)
@click.option(
    "--metric",
    help="Metric that is compared and orders the table, e.g. mma_3px or repeatability_3px_viewpoint; a "
    "benchmark may precede it, e.g. hpatches/auc_5px_poselib [default: the sweep's own, or mma_3px].",
)
@click.option(
    "--baseline",
    metavar="ROW",
    help="Row that all others are compared with [default: as the sweep's file says, else the first].",
)
@click.option(
    "--role",
    default="",
    help="Benchmark whose scores are compared, e.g. hpatches [default: that of the metric].",
)
@click.option(
    "--benchmark",
    metavar="PLACE",
    help="Benchmark that models and features are scored on: a folder or s3://BUCKET/PREFIX.",
)
@click.option(
    "--protocol",
    default="d2net",
    show_default=True,
    help="Protocol that models and features are scored by; see `r2d2 evaluate`.",
)
@click.option("--html", type=_FILE, help="File for the comparison as one HTML page, which needs no network.")
@click.option("--markdown", type=_FILE, help="File for the comparison as Markdown.")
@click.option(
    "--csv",
    type=_FILE,
    help="File for one long table as CSV: a line for each variant, metric, split or sequence.",
)
@click.option("--json", type=_FILE, help="File for everything as JSON.")
def compare(what: tuple[str, ...], **options: Any) -> None:
    """Show which differences are real: one row per variant, the mean over its seeds, 95 % intervals.

    WHAT is the name of one sweep, finished or not, or a list. A list may hold sweeps, runs:/ID and files
    that `r2d2 evaluate --json` wrote. With --benchmark it may also hold models (checkpoint folders and .pt
    files, on disk or S3, and models:/NAME@ALIAS) and features:TAG, the files IMAGE.TAG that
    `r2d2 evaluate --help` describes.

    NAME=WHAT names an entry. Entries of equal name are seeds of one variant. `a.pt b.pt` compares two
    networks and says nothing about their losses: for that, each name needs two seeds.

    Scores of different protocols or images are refused. p-values are corrected for the number of variants.
    """
    from runner.compare.sources import is_sweep

    settings, console = Settings.from_environment(), make_console()
    files = {name: options.pop(name) for name in ("html", "markdown", "csv", "json")}
    if len(what) == 1 and not options["benchmark"] and is_sweep(what[0], settings):
        report = _show_sweep(console, settings.sweep(what[0]), options)
    else:
        report = _show_list(console, what, settings, options)
    _write(report, {name: path for name, path in files.items() if path is not None})


def _show_sweep(console: Console, sweep: Store, options: Mapping[str, Any]) -> Report | None:
    from runner.compare.stored import table_of
    from runner.record.ordering import find_ordering
    from runner.record.sweep import StoredSweep

    stored = StoredSweep(sweep)
    order = find_ordering(options["metric"], options["role"], stored.definition)
    table = table_of(stored, order.metric, order.mode)
    return show_comparison(console, stored, table, order.metric, options["baseline"], order.role)


def _show_list(
    console: Console, what: Sequence[str], settings: Settings, options: Mapping[str, Any]
) -> Report:
    from runner.compare.report import compare_command, compare_contenders
    from runner.compare.sources import Judging, find_contenders
    from runner.record.ordering import find_ordering

    order = find_ordering(options["metric"], options["role"])
    with judging_progress(console) as (on_source, on_image):
        judging = Judging(options["benchmark"], options["protocol"], on_source, on_image)
        contenders = find_contenders(what, settings, judging, order.role)
    report = compare_contenders(
        contenders,
        order.metric,
        title=" · ".join(dict.fromkeys(c.variant for c in contenders))
        if len(contenders) < 4
        else "Comparison",
        baseline=options["baseline"],
        command=compare_command(
            what, **{k: v for k, v in options.items() if (k, v) != ("protocol", "d2net")}
        ),
    )
    show_report(console, report)
    return report


def _write(report: Report | None, files: Mapping[str, Path]) -> None:
    from evaluation.report.page import to_html
    from evaluation.report.text import to_csv, to_json, to_markdown
    from runner.compare.report import write_file

    if files and report is None:
        raise ValueError("nothing is scored yet: there is no comparison to write")
    writers = {"html": to_html, "markdown": to_markdown, "csv": to_csv, "json": to_json}
    for name, path in files.items():
        assert report is not None
        write_file(path, writers[name](report))


@contextmanager
def judging_progress(
    console: Console,
) -> Iterator[tuple[Callable[[str], None], Callable[[int, int], None]]]:
    """A bar per source that is judged: what to call with each source, and with each image."""
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    with Progress(
        *Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn(), console=console
    ) as progress:
        sources: list[str] = []

        def on_image(done: int, total: int) -> None:
            # The bar begins when it is known how many images there are.
            if len(progress.task_ids) < len(sources):
                progress.add_task(escape(sources[-1]), total=total)
            progress.update(progress.task_ids[-1], completed=done, total=total)

        yield sources.append, on_image


def show_comparison(
    console: Console,
    stored: StoredSweep,
    table: Sequence[Row],
    metric: str,
    baseline: str | None = None,
    role: str = "",
) -> Report | None:
    """Prints a sweep's table, and each variant's difference to the baseline; returns the whole report.

    Args:
        console: the terminal.
        stored: the sweep.
        table: its rows.
        metric: what orders them.
        baseline: a variant; None: the first one that was trained.
        role: of the benchmark whose scores are compared; empty: that of the metric.

    Raises:
        ValueError: for an unknown baseline; names the known ones.
    """
    from runner.compare.report import sweep_report
    from runner.compare.terminal import answer, comparison, differences, terms

    report = sweep_report(stored, metric, baseline, role=role)
    title = f"{stored.name}: {metric}"
    if report is not None and report.about.standing:
        title += f"\n{report.about.standing}"
    parts = [comparison(table, metric, title)]
    if report is not None and (len(report.entries) > 1 or report.about.unscored):
        console.print(answer(report))
    if report is not None and report.compared_entries:
        parts.append(differences(report))
    console.print(*parts, terms(*parts))
    return report


def show_report(console: Console, report: Report) -> None:
    """Prints the means of variants that are no sweep's, and each one's difference to the baseline."""
    from runner.compare.terminal import answer, differences, means, terms

    parts = [means(report)]
    if len(report.entries) > 1:
        console.print(answer(report))
    if report.compared_entries:
        parts.append(differences(report))
    console.print(*parts, terms(*parts))
