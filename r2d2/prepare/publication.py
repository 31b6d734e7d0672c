"""Publication: examined files become a place, in a folder or on S3, one by one or in shards."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from r2d2.prepare.job import Job
from r2d2.prepare.progress import Progress, step
from r2d2.storage.download import Wanted, fetch_bytes
from r2d2.storage.files import FolderFiles
from r2d2.storage.location import is_remote
from r2d2.storage.manifest import MANIFEST, Manifest, ManifestFile
from r2d2.storage.s3 import SCHEME, TIMEOUT, S3Object, S3Server, split_place
from r2d2.storage.s3_files import visible_names
from r2d2.storage.shard_index import INDEX, ShardIndex
from r2d2.storage.shard_writer import write_shards
from r2d2.storage.upload import upload_bytes, upload_file

_UPLOADS = 8


def read_small(place: str, name: str, timeout: float = TIMEOUT) -> bytes | None:
    """The content of a file at a place; None if there is none of that name.

    Raises:
        OSError: if it cannot be read, or the place cannot be looked at.
    """
    if not is_remote(place):
        path = Path(place).expanduser() / name
        return path.read_bytes() if path.is_file() else None
    server = S3Server(timeout)
    bucket, below = _below(place)
    found = server.find(bucket, below + name)
    if found is None:
        return None
    return fetch_bytes(server, Wanted(bucket, found.key, found.size, found.etag))


def read_manifest(place: str, timeout: float = TIMEOUT) -> Manifest | None:
    """What a place says that it holds physically, which are its shards if it has any; None: nothing.

    Raises:
        ValueError: if the manifest is damaged.
        OSError: as `read_small`.
    """
    content = read_small(place, MANIFEST, timeout)
    return None if content is None else Manifest.parse(content, f"{place.rstrip('/')}/{MANIFEST}")


def read_content(place: str, timeout: float = TIMEOUT) -> tuple[Manifest, int] | None:
    """The manifest of what can be read at a place, be it from shards, and the number of shards.

    None if the place has no manifest. Raises as `read_manifest`.
    """
    manifest = read_manifest(place, timeout)
    if manifest is None or not any(file.path == INDEX for file in manifest.files):
        return None if manifest is None else (manifest, 0)
    where = f"{place.rstrip('/')}/{INDEX}"
    content = read_small(place, INDEX, timeout)
    if content is None:
        raise ValueError(f"{where} is missing, which {MANIFEST} names")
    index = ShardIndex.parse(content, where)
    return index.content, len(index.shards)


def list_sizes(place: str, timeout: float = TIMEOUT) -> dict[str, int]:
    """Bytes of every visible file that is really at a place, by path.

    Raises:
        ValueError: if there is no such folder.
        OSError: if the place cannot be looked at.
    """
    if not is_remote(place):
        files = FolderFiles.of(Path(place).expanduser())
        return {name: files.size(name) for name in files.names}
    bucket, below = _below(place)
    found = {entry.key: entry.size for entry in S3Server(timeout).list(bucket, below)}
    return {name: found[key] for key, name in visible_names(found, below, place).items()}


def publish(job: Job, manifest: Manifest, progress: Progress) -> int:
    """Puts examined files where they should be, and then says so in the manifest.

    Args:
        job: whose `staging` holds the files.
        manifest: of all files that the place shall hold.
        progress: is told.

    Returns:
        The number of shards; 0: none.

    Raises:
        OSError: if something cannot be stored.
    """
    if job.shard_bytes is not None:
        return _publish_shards(job, manifest, progress)
    if not job.direct:
        files = [file for file in manifest.files if (job.staging / file.path).is_file()]
        _upload(job, files, progress)
        bucket, below = _below(job.place)
        upload_bytes(S3Server(job.timeout), bucket, below + MANIFEST, manifest.to_bytes())
    else:
        manifest.write(job.staging)
    return 0


def _publish_shards(job: Job, manifest: Manifest, progress: Progress) -> int:
    remote = is_remote(job.place)
    folder = job.work / "shards" if remote else Path(job.place).expanduser()
    bucket, below = _below(job.place) if remote else ("", "")
    server, there = S3Server(job.timeout), _there(job) if remote else {}

    def send(path: Path, shard: ManifestFile) -> None:
        key = below + shard.path
        if not _is_there(server, bucket, there.get(key), path, shard):
            upload_file(server, bucket, key, path)
        path.unlink()

    with step(progress, f"write shards to {job.place}", manifest.total_bytes) as advance:
        index = write_shards(
            FolderFiles(str(job.staging), tuple(file.path for file in manifest.files)),
            manifest,
            folder,
            shard_bytes=job.shard_bytes or 0,
            on_file=advance,
            on_shard=send if remote else None,
        )
        # The manifest comes last: it says that everything else is there.
        for name in (INDEX, MANIFEST) if remote else ():
            upload_file(server, bucket, below + name, folder / name)
    return len(index.shards)


def _upload(job: Job, files: list[ManifestFile], progress: Progress) -> None:
    bucket, below = _below(job.place)
    server, there = S3Server(job.timeout), _there(job)

    def send(file: ManifestFile) -> int:
        path, key = job.staging / file.path, below + file.path
        if not _is_there(server, bucket, there.get(key), path, file):
            upload_file(server, bucket, key, path)
        return file.size

    with (
        step(progress, f"upload to {job.place}", sum(file.size for file in files)) as advance,
        ThreadPoolExecutor(_UPLOADS, thread_name_prefix="r2d2-publish") as pool,
    ):
        futures = [pool.submit(send, file) for file in files]
        try:
            for future in futures:
                advance(future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _there(job: Job) -> dict[str, S3Object]:
    """The objects below the place of a preparation, by key."""
    return {found.key: found for found in S3Server(job.timeout).list(*_below(job.place))}


def _is_there(server: S3Server, bucket: str, found: S3Object | None, path: Path, file: ManifestFile) -> bool:
    """Whether an object has the content of a file already, from a run that was interrupted."""
    if found is None or found.size != file.size:
        return False
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False))
    if digest.hexdigest() == found.etag:
        return True
    # Not every ETag is an MD5.
    head = server.ask(f"{SCHEME}{bucket}/{found.key}", "head_object", {"Bucket": bucket, "Key": found.key})
    return bool(head.get("Metadata", {}).get("sha256") == file.sha256)


def _below(place: str) -> tuple[str, str]:
    """Bucket, and the beginning of the keys of everything at a place."""
    bucket, prefix = split_place(place.rstrip("/"))
    return bucket, f"{prefix}/" if prefix else ""
