"""Prepares a place with a manifest from addresses, archives or folders; the same call resumes it."""

from __future__ import annotations

import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from filelock import FileLock, Timeout

from r2d2.data.images import is_image
from r2d2.prepare.catalogue import AACHEN_IMAGES
from r2d2.prepare.intake import Origin, collect, examine, find_origins, left_behind
from r2d2.prepare.job import Job, Prepared
from r2d2.storage.files import FolderFiles
from r2d2.storage.location import is_remote, open_store
from r2d2.storage.manifest import Manifest, ManifestFile
from r2d2.storage.s3 import FIRST_TIMEOUT, TIMEOUT
from r2d2.storage.store import ObjectInfo

_FIRST = 5
_LOCK = "lock"
_NEEDS_PHOTOS = ("style", "flow")
_UPLOADS = 8


def prepare(job: Job) -> Prepared:
    """Downloads, unpacks, examines and stores a source, and writes the manifest of its place.

    Raises:
        ValueError: if an origin is not what it should be, too many images cannot be opened, or the place
            holds something else.
        OSError: if something cannot be had, read or stored; the message says what.
    """
    origins = find_origins(job)
    _refuse_nested(job)
    _make_work(job)
    try:
        with FileLock(job.work / _LOCK, timeout=0):
            former = read_manifest(job.place, job.timeout)
            if former is not None and _is_there(job, former):
                prepared = Prepared(former, was_there=True)
            else:
                prepared = _prepare(job, origins, former)
    except Timeout:
        raise ValueError(f"{job.place} is being prepared by another process") from None
    except ValueError:
        _leave_no_trace(job)
        raise
    shutil.rmtree(job.work)
    return prepared


def _leave_no_trace(job: Job) -> None:
    """Removes the folders of a preparation that was refused before it had anything worth keeping."""
    if [path.name for path in job.work.iterdir()] == [_LOCK]:
        shutil.rmtree(job.work)
        if job.work.parent.is_dir() and not any(job.work.parent.iterdir()):
            job.work.parent.rmdir()


def _refuse_nested(job: Job) -> None:
    """A folder that is prepared into itself would hold its own copy, which the next run copies again."""
    if is_remote(job.place):
        return
    place = Path(job.place).expanduser().resolve()
    for origin in job.origins:
        folder = Path(origin).expanduser()
        if not is_remote(origin) and folder.is_dir() and folder.resolve() in place.parents:
            raise ValueError(f"{job.place} lies inside {origin}; choose a place outside of it")


def _make_work(job: Job) -> None:
    place = Path(job.place).expanduser()
    if not is_remote(job.place) and place.exists() and not place.is_dir():
        raise ValueError(f"{place} is no folder")
    job.work.mkdir(parents=True, exist_ok=True)


def _is_there(job: Job, former: Manifest) -> bool:
    """Whether a place holds what it shall; whether its files are whole is another question, asked by `check`.

    Raises:
        ValueError: if it holds something that this cannot be added to.
    """
    names = frozenset(job.source.name.split("+"))
    if names <= former.sources:
        if any(not is_remote(origin) and Path(origin).is_dir() for origin in job.origins):
            # A folder may have changed, and looking costs little.
            return False
        # Files that are missing come again.
        return _still_there(job, former) == former
    if (former.sources | names) - {"aachen", "style", "flow"}:
        raise ValueError(f"{job.place} holds '{former.source}'; choose another place for '{job.source.name}'")
    return False


def _prepare(job: Job, origins: list[Origin], former: Manifest | None) -> Prepared:
    lost = len(former.files) - len(_still_there(job, former).files) if former is not None else 0
    names = collect(job, origins)
    total = sum((job.staging / name).stat().st_size for name in names)
    entries, refused = examine(job.staging, names, job.begin(f"examine {len(names)} files", total))
    _check_share(job, names, refused)
    entries, refused = _without_partners(job, entries, refused)
    manifest = Manifest(job.source.name, tuple(entries), tuple(sorted(refused)))
    if former is not None:
        manifest = manifest.joined(_still_there(job, former))
    paths = frozenset(file.path for file in manifest.files)
    problems = job.source.check(paths)
    if problems:
        raise ValueError(f"{job.source.name} is not in order: {'; '.join(problems)}")
    notes = left_behind(job) + _notes(job, paths)
    notes += job.inspect(job.staging, manifest) if job.inspect else []
    if job.direct:
        _remove(job, refused)
        # One call for thousands of files: what the manifest names is on the disk when it appears.
        os.sync()
    _publish(job, manifest)
    if lost:
        notes.append(f"{lost} files were missing or of another size, and were brought again")
    return Prepared(manifest, refused, tuple(notes))


def _still_there(job: Job, former: Manifest) -> Manifest:
    """A manifest without those files of the job's source that are not at the place any more."""
    sizes = list_sizes(job.place, job.timeout)
    files = [
        file
        for file in former.files
        if job.source.place_of(file.path) is None or sizes.get(file.path) == file.size
    ]
    return Manifest(former.source, tuple(files), former.left_out)


def _check_share(job: Job, names: list[str], refused: dict[str, str]) -> None:
    images = sum(is_image(name) for name in names)
    if len(refused) <= job.max_refused * images:
        return
    first = "; ".join(f"{name}: {reason}" for name, reason in list(refused.items())[:_FIRST])
    raise ValueError(
        f"{len(refused)} of {images} images of '{job.source.name}' cannot be used, more than the "
        f"{job.max_refused:.0%} that are left out: {first}"
    )


def _without_partners(
    job: Job, entries: list[ManifestFile], refused: dict[str, str]
) -> tuple[list[ManifestFile], dict[str, str]]:
    """The same without what is of no use without the refused files."""
    partners = {
        partner: f"{name} cannot be used" for name in refused for partner in job.source.partners(name)
    }
    return [entry for entry in entries if entry.path not in partners], {**partners, **refused}


def _notes(job: Job, paths: frozenset[str]) -> list[str]:
    photos = any(path.startswith(f"{AACHEN_IMAGES}/") for path in paths)
    needing = [name for name in job.source.name.split("+") if name in _NEEDS_PHOTOS]
    if photos or not needing:
        return []
    return [f"{' and '.join(needing)} need the photographs of 'aachen'; prepare them into the same place"]


def _remove(job: Job, refused: dict[str, str]) -> None:
    """Removes what was unpacked and cannot be used; a folder that is prepared where it lies is left alone."""
    origins = {Path(origin).expanduser().resolve() for origin in job.origins if not is_remote(origin)}
    if job.staging.resolve() in origins:
        return
    for name in refused:
        (job.staging / name).unlink(missing_ok=True)


def read_manifest(place: str, timeout: float = TIMEOUT) -> Manifest | None:
    """Reads the manifest of a place; returns None if it has none. Raises as `Manifest.read`."""
    return Manifest.read(open_store(place, min(timeout, FIRST_TIMEOUT)))


def list_sizes(place: str, timeout: float = TIMEOUT) -> dict[str, int]:
    """Looks at a place, and returns the bytes of every visible file by its path, whatever a manifest says.

    Raises:
        ValueError: if there is no such folder.
        OSError: if the place cannot be looked at.
    """
    if is_remote(place):
        return {found.name: found.size for found in open_store(place, timeout).walk()}
    files = FolderFiles.of(Path(place).expanduser())
    return {name: files.size(name) for name in files.names}


def _publish(job: Job, manifest: Manifest) -> None:
    """Puts examined files where they should be. The manifest comes last: it says that all else is there."""
    if job.direct:
        manifest.write(open_store(job.staging))
        return
    store = open_store(job.place, job.timeout)
    there = {found.name: found for found in store.walk()}
    files = [file for file in manifest.files if (job.staging / file.path).is_file()]
    advance = job.begin(f"upload to {job.place}", sum(file.size for file in files))

    def send(file: ManifestFile) -> int:
        path = job.staging / file.path
        if not _has_content(there.get(file.path), path, file.size):
            store.put_file(file.path, path)
        return file.size

    with ThreadPoolExecutor(_UPLOADS, thread_name_prefix="r2d2-publish") as pool:
        for size in pool.map(send, files):
            advance(size)
    manifest.write(store)


def _has_content(found: ObjectInfo | None, path: Path, size: int) -> bool:
    """Whether an object has the content of a file already, from a run that was interrupted, by its ETag."""
    if found is None or found.size != size:
        return False
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False))
    return digest.hexdigest() == found.mark
