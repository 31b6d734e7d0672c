"""Collects what addresses, archives and folders hold in one folder, and examines each file there."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from r2d2.data.images import MIN_SIDE, ImageRefused, is_image, open_header, refusing
from r2d2.data.photos import passed_over
from r2d2.formats.names import check_name, make_parents
from r2d2.prepare.archive import check_room, is_archive, unpack
from r2d2.prepare.catalogue import BY_HAND
from r2d2.prepare.http_file import RemoteFile, download
from r2d2.prepare.job import Job
from r2d2.storage.cache import CacheSettings
from r2d2.storage.errors import PlaceError
from r2d2.storage.files import FileSet, FolderFiles
from r2d2.storage.location import is_remote, local_file, open_files
from r2d2.storage.manifest import ManifestFile, sha256_of

_WEB = ("http://", "https://")
# That look at files at a time.
_THREADS = 4


Origin = RemoteFile | str


def collect(job: Job, origins: Sequence[Origin]) -> list[str]:
    """Brings everything that belongs to a source into `job.staging`.

    Returns:
        The paths below it, sorted.

    Raises:
        ValueError: if an origin holds nothing of the source, or what it should not.
        OSError: if something cannot be had or written.
    """
    collected: dict[str, str] = {}
    for origin in origins:
        text = origin.url if isinstance(origin, RemoteFile) else origin
        names = _take(job, origin)
        if not names:
            raise ValueError(f"{text} holds nothing of '{job.source.name}' ({job.source.what})")
        for name in names:
            if name in collected:
                raise ValueError(f"{collected[name]} and {text} both hold {name}")
            collected[name] = text
    return sorted(collected)


def left_behind(job: Job) -> list[str]:
    """Says, in sentences, what folders among the origins hold beside files of the source."""
    folders = [path for o in job.origins if not is_remote(o) and (path := Path(o).expanduser()).is_dir()]
    return [said for folder in folders for said in _left_in(job, open_files(str(folder.absolute())))]


def _left_in(job: Job, files: FileSet) -> tuple[str, ...]:
    why = f"no part of '{job.source.name}'"
    return passed_over(files, is_read=lambda name: _place(job, files, name) is not None, why=why)


def find_origins(job: Job) -> list[Origin]:
    """Finds where a source comes from: the origins of the job, or the source's own addresses.

    Raises:
        ValueError: if there is no such file or folder, or no address is known.
    """
    for origin in job.origins:
        if not origin.startswith(_WEB) and not is_remote(origin) and not Path(origin).expanduser().exists():
            raise ValueError(f"there is no file or folder '{origin}'")
    if not job.origins and not job.source.addresses:
        raise ValueError(f"no address is known for '{job.source.name}': {job.source.otherwise}")
    if not job.origins:
        return list(job.source.addresses)
    known = {address.url: address for address in job.source.addresses}
    # One sum is that of one download, and is compared whatever brought it here.
    web = [origin for origin in job.origins if origin.startswith(_WEB)]
    sha256 = next(iter(job.sha256)) if job.sha256 and len(job.sha256) == len(web) == 1 else None
    return [known.get(o, RemoteFile(o, sha256=sha256)) if o.startswith(_WEB) else o for o in job.origins]


def _take(job: Job, origin: Origin) -> list[str]:
    if isinstance(origin, RemoteFile):
        archive = _download(job, origin)
        try:
            return _unpack(job, archive)
        except ValueError:
            # Whatever came in its place shall not be found there by the next run.
            archive.unlink()
            raise
    if is_remote(origin):
        if not is_archive(origin):
            return _copy(job, open_files(origin, timeout=job.timeout))
        cache = CacheSettings(str(job.work / "s3"), 2**62, job.timeout)
        return _unpack(job, local_file(origin, cache))
    path = Path(origin).expanduser()
    if path.is_dir():
        return _copy(job, open_files(str(path.absolute())))
    return _unpack(job, path)


def _download(job: Job, remote: RemoteFile) -> Path:
    last = PurePosixPath(unquote(urlsplit(remote.url).path)).name
    name = f"{hashlib.sha256(remote.url.encode()).hexdigest()[:8]}-{last.replace('/', '_')[-100:] or 'file'}"
    target = job.work / "downloads" / name
    step = f"download {last or remote.url}"
    advance = job.begin(step, remote.size)
    try:
        announce = lambda total: job.progress(step, 0, total)  # noqa: E731
        download(remote, target, advance=advance, announce=announce, limits=job.limits)
    except PlaceError as error:
        known = any(remote.url == address.url for address in job.source.addresses)
        hint = f". {job.source.otherwise} {BY_HAND}" if known else ""
        raise PlaceError(error.errno, f"{error.strerror}{hint}", remote.url) from error
    if remote.sha256 is None and job.sha256 is not None:
        _confirm(target, remote.url, job.sha256)
    return target


def _confirm(download: Path, url: str, expected: frozenset[str]) -> None:
    """Refuses a download that nobody has said what it should be; it is kept, and not fetched again.

    Raises:
        ValueError: with its SHA-256.
    """
    with download.open("rb") as file:
        found = sha256_of(file)
    if found not in expected:
        known = "it is none of those given" if expected else "nobody has said what it should be"
        raise ValueError(
            f"{url} was downloaded, its SHA-256 is {found}, and {known}; compare it with a source that you "
            f"trust, and run the command again with --sha256 {found}, which goes on with this download"
        )


def _unpack(job: Job, archive: Path) -> list[str]:
    check_room(archive, job.staging, job.source.place_of)
    advance = job.begin(f"unpack {archive.name}", archive.stat().st_size)
    return unpack(archive, job.staging, job.source.place_of, limits=job.unpack_limits, advance=advance)


def _copy(job: Job, files: FileSet) -> list[str]:
    wanted = {name: place for name in files.names if (place := _place(job, files, name)) is not None}
    if job.direct and Path(files.place).resolve() == job.staging.resolve():
        moved = [name for name, place in wanted.items() if name != place]
        if moved:
            raise ValueError(
                f"{moved[0]} should be {wanted[moved[0]]}: prepare {files.place} to another folder"
            )
        return sorted(wanted)
    targets: dict[str, str] = {}
    for name, place in wanted.items():
        if place in targets:
            raise ValueError(f"{files.place} holds two files for {place}: {targets[place]} and {name}")
        targets[place] = name
    files.prefetch(wanted)
    advance = job.begin(f"copy {files.place}", sum(files.size(name) for name in wanted))
    for name, place in wanted.items():
        check_name(place, files.place)
        _bring(job, files, name, job.staging / place, advance)
    return sorted(targets)


def _place(job: Job, files: FileSet, name: str) -> str | None:
    # A folder may be named that lies inside the layout: .../images_upright/db.
    return job.source.place_of(name) or job.source.place_of(f"{files.place}/{name}")


def _bring(job: Job, files: FileSet, name: str, target: Path, advance: Callable[[int], None]) -> None:
    make_parents(job.staging, target)
    size, local = files.size(name), isinstance(files, FolderFiles)
    origin = Path(files.place, name) if local else None
    advance(size)
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.unlink(missing_ok=True)
    if origin is not None and not job.direct:
        # On its way elsewhere, the content need not be doubled.
        temporary.symlink_to(origin)
    elif _is_copy(target, size, origin):
        return
    else:
        with files.open(name) as content, temporary.open("xb") as file:
            shutil.copyfileobj(content, file, 2**20)
        if origin is not None:
            times = origin.stat()
            os.utime(temporary, ns=(times.st_atime_ns, times.st_mtime_ns))
    temporary.replace(target)


def _is_copy(target: Path, size: int, origin: Path | None) -> bool:
    """Whether an earlier run copied this file: it appeared whole, with the time of its original."""
    if target.is_symlink() or not target.is_file():
        return False
    found = target.stat()
    return found.st_size == size and (origin is None or found.st_mtime_ns == origin.stat().st_mtime_ns)


def examine(
    folder: Path, names: Sequence[str], advance: Callable[[int], None] = lambda _: None
) -> tuple[list[ManifestFile], dict[str, str]]:
    """Opens every image and computes the SHA-256 of every file, before a manifest says that they are whole.

    An image must be of a known format with a sound header, each side at least 32 pixels; of a PNG the
    checksums must hold, too. Pixels are not decoded: that takes long, and training notices it in passing.

    Args:
        folder: where they are.
        names: below it.
        advance: called after each file with its size.

    Returns:
        Entries of the files that can be used, and the others with the reason.

    Raises:
        OSError: if a file cannot be read.
    """
    entries: list[ManifestFile] = []
    refused: dict[str, str] = {}
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="r2d2-examine") as pool:
        for name, found in zip(names, pool.map(lambda name: _look_at(folder, name), names), strict=True):
            if isinstance(found, str):
                refused[name] = found
                advance((folder / name).stat().st_size)
            else:
                entries.append(found)
                advance(found.size)
    return entries, refused


def _look_at(folder: Path, name: str) -> ManifestFile | str:
    path = folder / name
    sides = (0, 0)
    if is_image(name):
        found = _sides(path)
        if isinstance(found, str):
            return found
        sides = found
    return ManifestFile.of(folder, name, sides)


def _sides(path: Path) -> tuple[int, int] | str:
    """Width and height as stored, pixels; or why the image cannot be used."""
    try:
        with open_header(path, path) as image:
            width, height = image.size
            with refusing(path):
                image.verify()
    except ImageRefused as refusal:
        return refusal.reason
    if min(width, height) < MIN_SIDE:
        return f"{width}x{height} pixels; both sides must be at least {MIN_SIDE}"
    return width, height
