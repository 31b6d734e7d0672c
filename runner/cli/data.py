"""Defines the verbs about data: prepare, check, list."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape

from r2d2.storage.manifest import Manifest
from runner.settings import Settings
from runner.terminal.answer import json_option, people_console, print_answer
from runner.terminal.console import make_console, show_line

if TYPE_CHECKING:
    from r2d2.prepare.catalogue import Source

_GIB = 2**30
# Names that are shown of each kind of difference.
_NAMED = 10


@click.group()
def data() -> None:
    """Prepare, check and list training data and benchmarks.

    A place is a folder or s3://bucket/prefix; endpoint, region and credentials of S3 come from the usual AWS
    environment. A prepared place has a manifest.json: path, size, SHA-256 and sides of every file.
    """


@data.command()
@click.argument("source")
@click.option(
    "--from",
    "origins",
    multiple=True,
    metavar="ORIGIN",
    help="Origin of the data: a web address, an archive (zip, tar), a folder or s3://BUCKET/PREFIX; may be "
    "given several times [default: the known addresses of SOURCE].",
)
@click.option(
    "--to", "place", required=True, metavar="PLACE", help="Destination: a folder or s3://BUCKET/PREFIX."
)
@click.option(
    "--sha256",
    multiple=True,
    metavar="SUM",
    help="SHA-256 of a download whose sum is not known here; may be given several times. Without it the "
    "command stops after the download and prints its sum.",
)
@json_option
def prepare(
    source: str,
    origins: tuple[str, ...],
    place: str,
    sha256: tuple[str, ...],
    as_json: bool,
) -> None:
    """Download, unpack, examine and store SOURCE (see `r2d2 data list`), and write its manifest.

    After an interruption the same command goes on from where it was. aachen, style and flow may share a
    place: name them one by one, or as aachen+style+flow.
    """
    from r2d2.prepare.preparation import prepare as run
    from runner.cli.preparing import make_job, terminal_progress

    settings = Settings.from_environment()
    job = make_job(source, origins, place, settings, sha256)
    console = people_console(as_json)
    with terminal_progress(console) as progress:
        prepared = run(replace(job, progress=progress))
    if prepared.was_there:
        console.print(f"{escape(place)} had been prepared; `r2d2 data check` reads every byte of it")
    for name, reason in list(prepared.refused.items())[:_NAMED]:
        show_line(console, f"left out: {name}: {reason}")
    if len(prepared.refused) > _NAMED:
        console.print(
            f"left out: {len(prepared.refused) - _NAMED} more; {escape(place)}/manifest.json names them"
        )
    for line in (*_facts(prepared.manifest), *prepared.notes):
        show_line(console, line)
    if as_json:
        done = {"was_there": prepared.was_there, "refused": prepared.refused, "notes": prepared.notes}
        print_answer("prepared", place=job.place, **_figures(prepared.manifest), **done)


@data.command()
@click.argument("place")
@json_option
def check(place: str, as_json: bool) -> None:
    """Compare every byte at PLACE with its manifest. Differing files are named; the exit status is then 1."""
    from r2d2.prepare.preparation import list_sizes, read_manifest
    from r2d2.storage.location import absolute_place, open_files
    from r2d2.storage.manifest import verify
    from runner.cli.preparing import terminal_progress

    place = absolute_place(place)
    timeout = Settings.from_environment().s3_timeout
    manifest = read_manifest(place, timeout)
    if manifest is None:
        raise ValueError(f"{place} has no manifest.json; `r2d2 data prepare SOURCE --to {place}` writes one")
    console = people_console(as_json)
    files, sizes, step = open_files(place, timeout=timeout), list_sizes(place, timeout), f"check {place}"
    with terminal_progress(console) as progress:
        progress(step, 0, manifest.total_bytes)
        found = verify(manifest, files, sizes, on_file=lambda size: progress(step, size, None))
    for line in found.lines(_NAMED):
        show_line(console, line)
    whole = f"{found.whole} of {len(manifest.files)} files of '{escape(manifest.source)}' are whole"
    verdict = f", {found.faults} differences from the manifest" if found.faults else ""
    console.print(f"[{'red' if found.faults else 'green'}]{whole}{verdict}[/]", highlight=False)
    if as_json:
        about = {"place": place, "source": manifest.source, "files": len(manifest.files)}
        print_answer("check", **about, whole=found.whole, differences=dict(found.differences))
    if found.faults:
        raise click.exceptions.Exit(1)


@data.command(name="list")
@click.argument("place", required=False)
@json_option
def list_data(place: str | None, as_json: bool) -> None:
    """List the known sources; with PLACE, what lies there by its manifest (see `check`)."""
    if place is not None:
        _list_place(place, as_json)
    elif as_json:
        from r2d2.prepare.catalogue import SOURCES

        print_answer("sources", sources=[_described(source) for source in SOURCES.values()])
    else:
        for line in _sources():
            make_console().print(line, soft_wrap=True, highlight=False)


def _described(source: Source) -> dict[str, Any]:
    known = {key: getattr(source, key) for key in ("name", "what", "count", "bytes", "licence", "otherwise")}
    return known | {"addresses": [address.url for address in source.addresses]}


def _sources() -> Iterator[str]:
    from r2d2.prepare.catalogue import BY_HAND, SOURCES

    for source in SOURCES.values():
        yield f"[bold]{source.name}[/]  {escape(source.what)}"
        size = f", about {source.bytes / 10**9:.1f} GB" if source.bytes else ""
        yield f"    holds    {escape(source.count)}{size}"
        yield f"    licence  {escape(source.licence)}"
        for address in source.addresses:
            yield f"    address  {escape(address.url)}"
        yield f"    [dim]{escape(source.otherwise)}[/]"
    yield f"[dim]{BY_HAND}[/]"


def _list_place(place: str, as_json: bool) -> None:
    from r2d2.prepare.preparation import list_sizes, read_manifest
    from r2d2.storage.location import absolute_place

    place = absolute_place(place)
    timeout = Settings.from_environment().s3_timeout
    manifest = read_manifest(place, timeout)
    if manifest is not None:
        figures, lines = _figures(manifest), list(_facts(manifest))
    else:
        sizes = list_sizes(place, timeout)
        if not sizes:
            raise ValueError(f"there is nothing at {place}")
        size = sum(sizes.values())
        figures = dict.fromkeys(_FIGURES) | {"files": len(sizes), "bytes": size}
        lines = [f"{len(sizes)} files, {size / _GIB:.2f} GiB, without a manifest"]
    if as_json:
        print_answer("place", place=place, **figures)
        return
    for line in lines:
        show_line(make_console(), line)


_FIGURES = ("source", "files", "images", "bytes", "left_out", "digest")


def _figures(manifest: Manifest) -> dict[str, Any]:
    images = sum(file.width > 0 for file in manifest.files)
    files, left_out = len(manifest.files), len(manifest.left_out)
    values = (manifest.source, files, images, manifest.total_bytes, left_out, manifest.digest)
    return dict(zip(_FIGURES, values, strict=True))


def _facts(manifest: Manifest) -> Iterator[str]:
    images = sum(file.width > 0 for file in manifest.files)
    yield (
        f"{manifest.source}: {len(manifest.files)} files, {images} of them images, "
        f"{manifest.total_bytes / _GIB:.2f} GiB"
    )
    if manifest.left_out:
        yield f"{len(manifest.left_out)} files are left out"
    yield f"digest {manifest.digest}"
