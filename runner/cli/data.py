"""Defines the verbs about data: prepare, check, list."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import click
from rich.markup import escape

from r2d2.storage.manifest import Manifest
from runner.settings import Settings
from runner.terminal.console import make_console

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
def prepare(
    source: str,
    origins: tuple[str, ...],
    place: str,
    sha256: tuple[str, ...],
) -> None:
    """Download, unpack, examine and store SOURCE (see `r2d2 data list`), and write its manifest.

    After an interruption the same command goes on from where it was. aachen, style and flow may share a
    place: name them one by one, or as aachen+style+flow.
    """
    from r2d2.prepare.preparation import prepare as run
    from runner.cli.preparing import make_job, terminal_progress

    settings = Settings.from_environment()
    job = make_job(source, origins, place, settings, sha256)
    console = make_console()
    with terminal_progress(console) as progress:
        prepared = run(replace(job, progress=progress))
    if prepared.was_there:
        console.print(f"{escape(place)} had been prepared; `r2d2 data check` reads every byte of it")
    for name, reason in list(prepared.refused.items())[:_NAMED]:
        console.print(f"left out: {escape(name)}: {escape(reason)}", soft_wrap=True)
    if len(prepared.refused) > _NAMED:
        console.print(
            f"left out: {len(prepared.refused) - _NAMED} more; {escape(place)}/manifest.json names them"
        )
    for line in (*_facts(prepared.manifest), *prepared.notes):
        console.print(escape(line), soft_wrap=True, highlight=False)


@data.command()
@click.argument("place")
def check(place: str) -> None:
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
    console = make_console()
    files, sizes, step = open_files(place, timeout=timeout), list_sizes(place, timeout), f"check {place}"
    with terminal_progress(console) as progress:
        progress(step, 0, manifest.total_bytes)
        found = verify(manifest, files, sizes, on_file=lambda size: progress(step, size, None))
    for line in found.lines(_NAMED):
        console.print(escape(line), soft_wrap=True, highlight=False)
    whole = f"{found.whole} of {len(manifest.files)} files of '{escape(manifest.source)}' are whole"
    verdict = f", {found.faults} differences from the manifest" if found.faults else ""
    console.print(f"[{'red' if found.faults else 'green'}]{whole}{verdict}[/]", highlight=False)
    if found.faults:
        raise click.exceptions.Exit(1)


@data.command(name="list")
@click.argument("place", required=False)
def list_data(place: str | None) -> None:
    """List the known sources; with PLACE, what lies there by its manifest (see `check`)."""
    console = make_console()
    for line in _sources() if place is None else _contents(place):
        console.print(line, soft_wrap=True, highlight=False)


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


def _contents(place: str) -> Iterator[str]:
    from r2d2.prepare.preparation import list_sizes, read_manifest
    from r2d2.storage.location import absolute_place

    place = absolute_place(place)
    timeout = Settings.from_environment().s3_timeout
    manifest = read_manifest(place, timeout)
    if manifest is not None:
        yield from (escape(line) for line in _facts(manifest))
        return
    sizes = list_sizes(place, timeout)
    if not sizes:
        raise ValueError(f"there is nothing at {place}")
    yield f"{len(sizes)} files, {sum(sizes.values()) / _GIB:.2f} GiB, without a manifest"


def _facts(manifest: Manifest) -> Iterator[str]:
    images = sum(file.width > 0 for file in manifest.files)
    yield (
        f"{manifest.source}: {len(manifest.files)} files, {images} of them images, "
        f"{manifest.total_bytes / _GIB:.2f} GiB"
    )
    if manifest.left_out:
        yield f"{len(manifest.left_out)} files are left out"
    yield f"digest {manifest.digest}"
