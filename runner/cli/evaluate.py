"""Defines the verbs that use a network: evaluate, extract."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from evaluation.protocols import PROTOCOLS
from r2d2.extraction.settings import PRECISIONS, ExtractionSettings
from r2d2.storage.atomic import atomic_file
from runner.cli.options import OutputFile, check_writable
from runner.settings import Settings
from runner.terminal.answer import json_option, labelled, people_console, print_answer
from runner.terminal.console import make_console, show_line

# Images that are named of each kind of trouble.
_NAMED = 10
_PRECISION = (
    "Arithmetic of most convolutions [default: fastest, what this machine is fastest in; of a score: "
    "float32. A score in 16 bits is compared with none in float32]."
)
_FIELDS = (
    ("--top-k", "top_k", int, "Keypoints kept per image, the best of all scales; 0: all."),
    ("--min-size", "min_size", int, "Smallest longer side of a pyramid level, pixels."),
    ("--max-size", "max_size", int, "Largest longer side of a pyramid level, pixels."),
    ("--min-scale", "min_scale", float, "Smallest scale of the pyramid."),
    ("--max-scale", "max_scale", float, "Largest scale of the pyramid."),
    ("--scale-factor", "scale_factor", float, "Ratio of neighbouring scales."),
    ("--min-reliability", "min_reliability", float, "Smallest reliability of a keypoint."),
    ("--min-repeatability", "min_repeatability", float, "Smallest repeatability of a keypoint."),
)


def extraction_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the settings of keypoint extraction as flags, the same for every verb that extracts."""
    defaults = ExtractionSettings()
    for flag, field, kind, text in reversed(_FIELDS):
        help_text = f"{text} [default: {getattr(defaults, field):g}]"
        command = click.option(flag, field, type=kind, help=help_text)(command)
    full = click.option(
        "--full-resolution",
        is_flag=True,
        help="Search the full image: --min-size 0 --max-size 9999 --min-scale 0.3.",
    )
    exact = click.option("--exact", is_flag=True, help="Compute in float32 without short cuts; slower.")
    precision = click.option("--precision", type=click.Choice(PRECISIONS), help=_PRECISION)
    return full(exact(precision(command)))


def extraction_settings(flags: dict[str, Any], base: ExtractionSettings) -> ExtractionSettings:
    """Returns the settings that the flags of `extraction_options` name; all others are those of `base`."""
    settings = base.full_resolution() if flags.pop("full_resolution") else base
    # The flag asks for more than the base; without it, a protocol that is exact stays so.
    exact = flags.pop("exact") or base.exact
    given = {name: value for name, value in flags.items() if value is not None} | {"exact": exact}
    if given.get("top_k") == 0:
        given["top_k"] = None
    return ExtractionSettings(**{**vars(settings), **given})


@click.command()
@click.argument("model", required=False)
@click.option(
    "--features",
    metavar="TAG",
    help="Suffix of the files IMAGE.TAG that are scored instead of a network; see above.",
)
@click.option(
    "--benchmark",
    required=True,
    metavar="PLACE",
    help="Benchmark in HPatches' layout: a folder or s3://BUCKET/PREFIX.",
)
@click.option(
    "--protocol", default="d2net", show_default=True, help=f"Protocol of the scores: {', '.join(PROTOCOLS)}."
)
@click.option("--json", "json_file", type=OutputFile(), help="File for all figures as JSON.")
@click.option("--no-cache", is_flag=True, help="Neither use nor store predictions in R2D2_HOME/cache.")
@extraction_options
def evaluate(
    model: str | None,
    features: str | None,
    benchmark: str,
    protocol: str,
    json_file: Path | None,
    no_cache: bool,
    **flags: Any,
) -> None:
    """Score MODEL on a benchmark: MMA, homographies, repeatability, localisation, keypoints, matches.

    MODEL is a checkpoint folder, an upstream .pt file, runs:/RUN_ID or models:/NAME@ALIAS.

    Instead of MODEL, --features TAG scores files in D2-Net's format: beside each image IMAGE lies a numpy
    archive (npz) called IMAGE.TAG, e.g. 1.ppm.sift. It holds `keypoints` (N, 2 or more): x, y and perhaps a
    scale, in pixels of the image file, where (0, 0) is the centre of the top-left pixel; `descriptors`
    (N, D); and `scores` (N,), higher is better. Without scores the order counts, best first.
    """
    from runner.compare.terminal import evaluation_tables
    from runner.models.evaluate import FEATURES, evaluate_model, find_protocol

    if (model is None) == (features is None):
        raise ValueError("name either a MODEL or --features TAG")
    chosen = find_protocol(protocol)
    chosen = chosen.with_extraction(extraction_settings(flags, chosen.extraction))
    console = make_console()
    with _progress(console) as progress:
        scored = evaluate_model(
            f"{FEATURES}{features}" if model is None else model,
            benchmark,
            chosen,
            Settings.from_environment(),
            on_image=partial(show_images, progress, "images"),
            cache=not no_cache,
        )
    for table in evaluation_tables(scored):
        console.print(table)
    if json_file is not None:
        with atomic_file(json_file) as file:
            content = labelled("evaluation", scored.to_json())
            file.write(json.dumps(content, indent=1, allow_nan=False).encode())


@click.command()
@click.argument("model")
@click.argument("images", nargs=-1, required=True)
@click.option("--overwrite", is_flag=True, help="Extract again where IMAGE.r2d2 exists.")
@json_option
@extraction_options
def extract(model: str, images: tuple[str, ...], overwrite: bool, as_json: bool, **flags: Any) -> None:
    """Write the keypoints of every image beside it, as IMAGE.r2d2 (a numpy npz).

    An image is a file, a folder or s3://BUCKET/PREFIX (searched recursively through links, without hidden
    files), a glob pattern, or a .txt file in UTF-8 with one image a line. Each IMAGE.r2d2 holds
    imsize, keypoints (x, y, scale in pixels), descriptors, scores (ascending).
    """
    from r2d2.data.images import ImageRefused
    from r2d2.extraction.keypoints import Extractor
    from runner.models.evaluate import find_model
    from runner.models.extract import find_targets

    extraction, settings = extraction_settings(flags, ExtractionSettings()), Settings.from_environment()
    found = find_targets(images, settings)
    todo = [target for target in found.targets if overwrite or not target.exists]
    for first in {t.path.parent: t.path for t in todo if t.path is not None}.values():
        check_writable(first)
    extractor = Extractor(find_model(model, settings).network, extraction)
    console = people_console(as_json)
    refused: list[str] = []
    empty: list[str] = []
    with _progress(console) as progress:
        for target in progress.track(todo, description="images"):
            try:
                reason = target.extract(extractor, settings)
            except ImageRefused as error:
                refused.append(str(error))
                continue
            if reason is not None:
                empty.append(f"{target.image}: 0 keypoints: {reason}")
    existed, done = len(found.targets) - len(todo), len(todo) - len(refused)
    for line in (*found.passed_over, *_some(empty, "images have 0 keypoints")):
        show_line(console, line)
    console.print(
        f"{len(found.targets)} images found, {done} images extracted"
        + (f", {existed} existed already (--overwrite extracts them again)" if existed else "")
    )
    if as_json:
        counts = {"images": len(found.targets), "extracted": done, "existed": existed}
        print_answer("extract", **counts, refused=refused, empty=empty, passed_over=list(found.passed_over))
    if refused:
        total = len(found.targets)
        raise ValueError(f"{len(refused)} of {total} images were refused: {'; '.join(refused[:_NAMED])}")
    if empty and len(empty) == done:
        raise ValueError(f"no image has a keypoint: {empty[0]}")


def _some(lines: list[str], what: str) -> list[str]:
    more = len(lines) - _NAMED
    return lines[:_NAMED] + ([f"{more} more {what}"] if more > 0 else [])


def show_images(progress: Progress, text: str, done: int, total: int) -> None:
    """Shows how many images are done; the bar begins when it is known how many there are."""
    if done == 0:
        progress.add_task(text, total=total)
    progress.update(progress.task_ids[-1], completed=done, total=total)


def _progress(console: Console) -> Progress:
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TextColumn("left"))
    return Progress(*columns, TimeRemainingColumn(), console=console)
