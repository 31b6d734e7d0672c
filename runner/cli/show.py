"""Defines the verb show, which draws pictures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from r2d2.extraction.settings import ExtractionSettings
from r2d2.storage.atomic import atomic_file
from runner.cli.evaluate import extraction_options, extraction_settings
from runner.cli.options import check_writable
from runner.settings import Settings
from runner.terminal.console import make_console, show_line

if TYPE_CHECKING:
    from runner.models.show import Shown

_FILE = click.Path(path_type=Path)
COUNT = 6


@click.command()
@click.argument("model", required=False)
@click.argument("image", required=False, type=_FILE)
@click.argument("image2", required=False, type=_FILE)
@click.option(
    "--homography",
    type=_FILE,
    help="File of nine numbers: the homography from pixels of IMAGE to pixels of IMAGE2.",
)
@click.option(
    "--pairs",
    "photos",
    metavar="SOURCE",
    help="Source of training pairs: photographs, or sources as in data.sources.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Setting of the training; `r2d2 settings` lists them.",
)
@click.option("--seed", type=int, help="Seed of the training pairs [default: 0].")
@click.option("--count", type=click.IntRange(1, 40), help=f"Number of training pairs [default: {COUNT}].")
@click.option(
    "--out", type=_FILE, metavar="FILE.png", help="File for the picture [default: show_*.png in this folder]."
)
@click.option("--overwrite", is_flag=True, help="Replace a file that is there.")
@extraction_options
def show(
    model: str | None,
    image: Path | None,
    image2: Path | None,
    homography: Path | None,
    photos: str | None,
    overrides: tuple[str, ...],
    seed: int | None,
    count: int | None,
    out: Path | None,
    overwrite: bool,
    **flags: Any,
) -> None:
    """Draw what MODEL sees in IMAGE, and what it matches between IMAGE and IMAGE2; or training pairs.

    Of one image the picture shows the keypoints with their patches, the repeatability and the reliability. Of
    two images it shows the matches too. Correct ones are green and wrong ones orange if a homography is
    known: from --homography, or because the images are `1` and `k` of a sequence with a file H_1_k.

    With --pairs SOURCE and no model the picture shows the pairs that a training on SOURCE sees. The
    pale parts of a crop do not appear in the other crop. SOURCE is a folder or s3://BUCKET/PREFIX of
    photographs, `samples`, or sources as in data.sources, e.g. `flow=/data/aachen`.
    """
    images = [path for path in (image, image2) if path is not None]
    for_images = homography is not None or any(f is not None and f is not False for f in flags.values())
    for_pairs = bool(overrides) or seed is not None or count is not None
    if photos is not None:
        _check_pairs(model, for_images)
    else:
        _check_images(model, images, homography, for_pairs)
    target = _target(out, default_name(photos, images), images, overwrite)
    if photos is not None:
        shown = _training_pairs(photos, overrides, seed, count or COUNT)
    else:
        shown = _seen(str(model), images, homography, extraction_settings(flags, ExtractionSettings()))
    _write(target, shown.png)
    show_line(make_console(), f"{target}: {shown.summary}")


def _check_pairs(model: str | None, for_images: bool) -> None:
    if model is not None:
        raise ValueError(f"--pairs shows training pairs, without a model: leave out '{model}'")
    if for_images:
        raise ValueError("--homography and the flags of extraction are for images, not for --pairs")


def _check_images(model: str | None, images: list[Path], homography: Path | None, for_pairs: bool) -> None:
    if model is None or not images:
        raise ValueError("name a model and an image: r2d2 show MODEL IMAGE [IMAGE2]; or --pairs SOURCE")
    if for_pairs:
        raise ValueError("--set, --seed and --count are for training pairs: r2d2 show --pairs SOURCE")
    if homography is not None and len(images) == 1:
        raise ValueError("--homography leads from one image to another: name both")


def default_name(photos: str | None, images: list[Path]) -> str:
    """Names the picture, e.g. `show_v_graffiti_1_3.png`, `show_photo.png`, `show_pairs_samples.png`."""
    if photos is not None:
        name = re.sub(r"[^\w.-]+", "-", Path(photos).absolute().name).strip("-")
        return f"show_pairs_{name}.png"
    folder = [images[0].absolute().parent.name] if images[0].stem.isdecimal() else []
    return "_".join(["show", *folder, *(path.stem for path in images)]) + ".png"


def _target(out: Path | None, name: str, images: list[Path], overwrite: bool) -> Path:
    """Returns the path of the picture.

    Raises:
        ValueError: if it is no PNG, one of the images, there already, or cannot be written.
    """
    target = Path(name) if out is None else out
    if target.suffix.lower() != ".png":
        raise ValueError(f"the picture is a PNG file: call it {target.with_suffix('.png')}, not {target}")
    if target.is_dir():
        raise ValueError(f"{target} is a folder; name a file with --out")
    if target.resolve() in [image.resolve() for image in images]:
        raise ValueError(f"the picture would replace the image {target}; name another file with --out")
    if target.exists() and not overwrite:
        raise ValueError(f"{target} is there already; replace it with --overwrite or use --out FILE.png")
    check_writable(target)
    return target


def _write(target: Path, png: bytes) -> None:
    try:
        with atomic_file(target) as file:
            file.write(png)
    except OSError as error:
        raise ValueError(f"{target} cannot be written: {error.strerror}") from error


def _seen(source: str, images: list[Path], file: Path | None, settings: ExtractionSettings) -> Shown:
    from evaluation.benchmarks.hpatches import read_homography
    from runner.models.evaluate import find_model
    from runner.models.show import sequence_homography, show_image, show_pair

    if len(images) == 1:
        return show_image(find_model(source, Settings.from_environment()), images[0], settings)
    homography = sequence_homography(*images) if file is None else read_homography(file)
    model = find_model(source, Settings.from_environment())
    return show_pair(model, (images[0], images[1]), settings, homography)


def _training_pairs(photos: str, overrides: tuple[str, ...], seed: int | None, count: int) -> Shown:
    from r2d2.config import TrainConfig, with_override
    from r2d2.data.source_text import is_sources, parse_sources
    from runner.models.show import show_training_pairs

    if not is_sources(photos) and "=" in photos and not Path(photos).exists():
        # Not the name of a folder: a source that is not known, which is said in the words of data.sources.
        parse_sources(photos)
    values: dict[str, Any] = {"data": {"sources" if is_sources(photos) else "photos": photos}}
    for assignment in (*overrides, *((f"seed={seed}",) if seed is not None else ())):
        values = with_override(values, assignment)
    return show_training_pairs(TrainConfig.from_dict(values), count, Settings.from_environment().objects)
