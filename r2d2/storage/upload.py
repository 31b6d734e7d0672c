"""Upload: a file becomes an object, whole or not at all, and is compared with what the server has.

The server refuses a content, or a part of it, whose MD5 is not what was announced. What it says afterwards of
the object is compared by the rule of downloads. The ETag that it makes of several parts is its own affair.
"""

from __future__ import annotations

import base64
import errno
import functools
import hashlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

from r2d2.storage.download import PARALLEL, SHA256, new_digest, stated_checksum
from r2d2.storage.errors import FileError, StorageError
from r2d2.storage.s3 import SCHEME, S3Server

log = logging.getLogger(__name__)

# Larger files are sent in parts; S3 takes 10,000 of them, each of at least 5 MiB.
PART = 16 * 2**20
_MOST_PARTS = 10_000


def upload_bytes(server: S3Server, bucket: str, key: str, content: bytes) -> None:
    """Stores a content under a key; what had it is replaced.

    Raises:
        StorageError: if it cannot be stored, or the server has something else afterwards.
    """
    server.ask(f"{SCHEME}{bucket}/{key}", "put_object", put_request(bucket, key, content))

    def digest(kind: str) -> str:
        found = new_digest(kind)
        found.update(content)
        return found.hexdigest()

    _verify(server, bucket, key, len(content), digest)


def put_request(bucket: str, key: str, content: bytes) -> dict[str, Any]:
    """The arguments of `put_object`: the server refuses a content that arrives with another checksum."""
    sha256 = hashlib.sha256(content).hexdigest()
    checks = {"ContentMD5": _md5(content), "Metadata": {"sha256": sha256}}
    return {"Bucket": bucket, "Key": key, "Body": content, **checks}


def upload_file(server: S3Server, bucket: str, key: str, path: Path) -> None:
    """Stores a file under a key, large ones in parts; what had it is replaced when all is there.

    Raises:
        StorageError: as `upload_bytes`.
        OSError: if the file cannot be read.
    """
    size = path.stat().st_size
    if size <= PART:
        upload_bytes(server, bucket, key, path.read_bytes())
        return
    where, place = f"{SCHEME}{bucket}/{key}", {"Bucket": bucket, "Key": key}

    @functools.cache
    def digest(kind: str) -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: new_digest(kind)).hexdigest()

    begun = server.ask(where, "create_multipart_upload", {**place, "Metadata": {"sha256": digest(SHA256)}})
    upload = {**place, "UploadId": begun["UploadId"]}
    try:
        parts = _send_parts(server, where, upload, path, size)
        request = {**upload, "MultipartUpload": {"Parts": parts}}
        server.ask(where, "complete_multipart_upload", request)
    except BaseException:
        _abandon(server, where, upload)
        raise
    _verify(server, bucket, key, size, digest)


def _abandon(server: S3Server, where: str, upload: dict[str, Any]) -> None:
    """Removes the parts of an upload that is not completed, for which their owner would go on paying."""
    try:
        server.ask(where, "abort_multipart_upload", upload, timeout=0)
    except StorageError as error:
        log.warning("parts of an upload that failed remain: %s", error)


def _send_parts(
    server: S3Server, where: str, upload: dict[str, Any], path: Path, size: int
) -> list[dict[str, Any]]:
    """What was sent, part by part."""
    part_size = max(PART, -(-size // _MOST_PARTS))
    count = -(-size // part_size)

    def send(number: int) -> dict[str, Any]:
        with path.open("rb") as file:
            content = _read_at(file, (number - 1) * part_size, part_size)
        # The server refuses a part that arrives with another checksum.
        request = {"PartNumber": number, "Body": content, "ContentMD5": _md5(content)}
        answer = server.ask(where, "upload_part", {**upload, **request})
        return {"PartNumber": number, "ETag": answer["ETag"]}

    with ThreadPoolExecutor(PARALLEL // 2, thread_name_prefix="r2d2-upload") as pool:
        return list(pool.map(send, range(1, count + 1)))


def _read_at(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)


def _md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


def _verify(server: S3Server, bucket: str, key: str, size: int, digest: Callable[[str], str]) -> None:
    """Compares what the server has with what was sent: its size, and the checksum that the server states."""
    where = f"{SCHEME}{bucket}/{key}"
    found = server.ask(where, "head_object", {"Bucket": bucket, "Key": key})
    stated = stated_checksum(found, bucket)
    if found["ContentLength"] != size or (stated is not None and digest(stated[0]) != stated[1]):
        raise FileError(errno.EIO, "the server has something else than what was sent to it", where)
