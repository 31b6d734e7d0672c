"""Defines the verbs compare and power, and prints a comparison: a table, and which differences are real."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape

from runner.cli.options import OutputFile
from runner.settings import Settings
from runner.terminal.answer import json_option, people_console, print_answer
from runner.terminal.console import make_console
from runner.terminal.fitted_table import Column, FittedTable

if TYPE_CHECKING:
    from evaluation.report.report import Report
    from evaluation.statistics.variants import Variant

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
    from runner.compare.report import sweep_report
    from runner.compare.sources import is_sweep
    from runner.record.sweep import StoredSweep

    settings, console = Settings.from_environment(), make_console()
    files = {name: options.pop(name) for name in ("html", "markdown", "csv", "json")}
    if len(what) == 1 and not options["benchmark"] and is_sweep(what[0], settings):
        sweep = StoredSweep(settings.sweep(what[0]))
        report = sweep_report(sweep, options["metric"], options["baseline"], role=options["role"])
    else:
        report = _compare_list(console, what, settings, options)
    show_report(console, report)
    _write(report, {name: path for name, path in files.items() if path is not None})


def _compare_list(
    console: Console, what: Sequence[str], settings: Settings, options: Mapping[str, Any]
) -> Report:
    from evaluation.report.report import About
    from runner.compare.report import compare_command, compare_networks
    from runner.compare.rows import find_ordering
    from runner.compare.sources import Scoring, find_networks

    order = find_ordering(options["metric"], options["role"])
    with scoring_progress(console) as (on_source, on_image):
        scoring = Scoring(options["benchmark"], options["protocol"], on_source, on_image)
        networks = find_networks(what, settings, scoring, order.role)
    names = " · ".join(dict.fromkeys(one.name for one in networks))
    given = {name: value for name, value in options.items() if (name, value) != ("protocol", "d2net")}
    title = names if len(networks) < 4 else "Comparison"
    about = About(title, command=compare_command(what, **given), looks=_looks(networks, settings))
    return compare_networks(networks, order, about, options["baseline"])


def _looks(networks: Sequence[Variant], settings: Settings) -> str:
    """How often networks of this home were scored on the benchmark of these, in sentences."""
    from runner.record.looks import Ledger

    scored = next((one.evaluations[0] for one in networks if one.evaluations), None)
    if scored is None:
        return ""
    try:
        looks = Ledger.of_home(settings.home, settings.s3_timeout).looks(scored.benchmark_digest)
    except OSError as error:
        # The scores have been waited for.
        return f"How often {scored.benchmark} was looked at cannot be read: {error}."
    return looks.words(scored.benchmark)


def _write(report: Report, files: Mapping[str, Path]) -> None:
    from evaluation.report.page import to_html
    from evaluation.report.text import to_csv, to_json, to_markdown
    from runner.compare.report import write_file

    if files and report.comparison is None:
        raise ValueError("nothing is scored yet: there is no comparison to write")
    writers = {"html": to_html, "markdown": to_markdown, "csv": to_csv, "json": to_json}
    for name, path in files.items():
        write_file(path, writers[name](report))


@contextmanager
def scoring_progress(
    console: Console,
) -> Iterator[tuple[Callable[[str], None], Callable[[int, int], None]]]:
    """Shows a bar per source that is scored; yields what to call with each source, and with each image."""
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


def show_report(console: Console, report: Report) -> None:
    """Prints the answer, the table of all rows, and each row's difference from its baseline."""
    from runner.compare.terminal import answer, differences, means, terms

    parts = [means(report)]
    if len(report.scored) > 1 or report.about.unscored:
        console.print(answer(report))
    if report.compared_variants:
        parts.append(differences(report))
    console.print(*parts, terms(*parts))


_SEEDS = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20)
_GAINS = (0.005, 0.01, 0.02, 0.03)


@click.command()
@click.argument("sweep")
@click.option(
    "--gain",
    "gains",
    type=click.FloatRange(0, 1, min_open=True),
    multiple=True,
    help="True gain of the sweep's metric; several are columns [default: 0.005, 0.01, 0.02, 0.03].",
)
@json_option
def power(sweep: str, gains: tuple[float, ...], as_json: bool) -> None:
    """Show how often a true gain is called better, by the number of seeds of each row of SWEEP.

    The spread of scores over seeds and sequences is that of the sweep's own scores, or of the largest other
    sweep that is scored alike. The shares hold after Holm's correction for the number of rows.
    """
    from evaluation.statistics.power import power as share
    from runner.compare.report import known_spread, spread_of, sweep_report
    from runner.record.sweep import StoredSweep

    settings, console = Settings.from_environment(), people_console(as_json)
    stored = StoredSweep(settings.sweep(sweep))
    definition = stored.definition
    report = sweep_report(stored)
    scored = report.mean(report.variants[0].name)
    if scored is None:
        raise ValueError(
            f"the sweep '{sweep}' has no score yet: nobody knows how many sequences it is scored on"
        )
    variants, sequences = max(1, len(report.compared_variants)), scored.sequences
    spread = spread_of(report) or known_spread(settings, definition)
    table = FittedTable(["seeds", *(Column(f"gain {gain:g}", rank=0) for gain in gains or _GAINS)])
    shares = []
    for seeds in _SEEDS:
        row = {gain: share(gain, spread.variances, variants, seeds, sequences) for gain in gains or _GAINS}
        table.add_row(str(seeds), *(f"{one:.0%}" for one in row.values()))
        shares += [{"seeds": seeds, "gain": gain, "share": one} for gain, one in row.items()]
    console.print(table)
    console.print(
        f"{definition.metric}, {variants} compared rows, {sequences} sequences; the spread of scores "
        f"{spread.source}.",
        soft_wrap=True,
        highlight=False,
    )
    if as_json:
        about = {"sweep": sweep, "metric": definition.metric, "rows": variants, "sequences": sequences}
        print_answer("power", **about, spread=spread.source, shares=shares)
