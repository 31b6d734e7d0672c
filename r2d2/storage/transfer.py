"""Fetches an object of S3 as it was when its place was opened, and stores a file there, whole or not at all.

A download comes in parallel ranges. A connection that is cut is taken up again where it was cut, and every
range asks for the same ETag, so that what comes is never more than one object. What came, and what a server
has after an upload, is compared with a checksum.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from r2d2.storage.errors import FileError, changed, code_of, corrupt, explain, passes, require_size
from r2d2.storage.retry import PassingError, patiently, steady
from r2d2.storage.s3 import READ, SCHEME, S3Server, bare

# Objects from twice this size on come in ranges of it, several at a time.
RANGE = 8 * 2**20
PARALLEL = 8
# Bytes per second. A slower answer is given up and asked for again, so that none lasts for ever.
SLOWEST = 16 * 2**10
# Larger files are sent in parts of this size, bytes.
PART = 16 * 2**20

# Of what is fetched into memory, bytes: the manifest of ten million files.
LARGEST = 2**31

_SHA256, _MD5 = "SHA-256", "MD5"
_DIGESTS = {_SHA256: hashlib.sha256, _MD5: hashlib.md5}
_MD5_FORM = re.compile("[0-9a-f]{32}")
# Their ETag is no MD5: AWS's directory buckets by their name, encrypted objects by a field of the answer.
_DIRECTORY_BUCKET = "--x-s3"


class MismatchError(Exception):
    """What came is not what was announced; the message says what differs."""


@dataclass(frozen=True)
class Wanted:
    """A Wanted names an object to fetch, and which version of it.

    Attributes:
        bucket, key: its place.
        size: bytes.
        etag: that it must have; None: any, but the same for all of it.
        sha256: hexadecimal, of its content; None: unknown.
    """

    bucket: str
    key: str
    size: int
    etag: str | None = None
    sha256: str | None = None

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}"


def fetch_bytes(server: S3Server, wanted: Wanted) -> bytes:
    """Fetches an object into memory.

    Raises:
        StorageError: if it cannot be had, was changed, is corrupt twice, or has more than `LARGEST` bytes.
    """
    require_size(str(wanted), wanted.size, LARGEST)
    content = bytearray(wanted.size)

    def write(offset: int, data: bytes) -> None:
        content[offset : offset + len(data)] = data

    _fetch(server, wanted, write, lambda: [content])
    return bytes(content)


def fetch_file(server: S3Server, wanted: Wanted, file: BinaryIO) -> None:
    """Writes the content of an object into an empty file that can be read, too.

    Raises:
        StorageError: as `fetch_bytes`.
        OSError: if the file cannot be written.
    """
    descriptor = file.fileno()

    def write(offset: int, data: bytes) -> None:
        while data:
            written = os.pwrite(descriptor, data, offset)
            offset, data = offset + written, data[written:]

    def read() -> Iterator[bytes]:
        for offset in range(0, wanted.size, RANGE):
            yield os.pread(descriptor, RANGE, offset)

    _fetch(server, wanted, write, read)


def _fetch(
    server: S3Server,
    wanted: Wanted,
    write: Callable[[int, bytes], None],
    content: Callable[[], Iterable[bytes | bytearray]],
) -> None:
    """Writes an object and compares what was written; where it is not what was announced, once more."""
    try:
        _ParallelRanges(server, wanted, write).run(content)
    except MismatchError:
        try:
            _ParallelRanges(server, wanted, write).run(content)
        except MismatchError as error:
            raise corrupt(str(wanted), str(error)) from error


@dataclass
class _ParallelRanges:
    server: S3Server
    wanted: Wanted
    write: Callable[[int, bytes], None]
    stop: threading.Event = field(default_factory=threading.Event)
    # What the first answer said of the object.
    _etag: str | None = None
    _stated: tuple[str, str] | None = None

    def run(self, content: Callable[[], Iterable[bytes | bytearray]]) -> None:
        """Fetches everything and compares it with the checksum that is known of it."""
        self._etag = self.wanted.etag
        try:
            self._fetch()
        except MismatchError:
            raise
        except Exception as error:
            from botocore.exceptions import BotoCoreError

            # A disk that is full is not the server's fault.
            if isinstance(error, OSError) and not isinstance(error, BotoCoreError) and not passes(error):
                raise
            raise explain(error, str(self.wanted), self.server.endpoint) from error
        stated = (_SHA256, self.wanted.sha256) if self.wanted.sha256 else self._stated
        if stated is not None and (found := _digest(stated[0], content())) != stated[1]:
            raise MismatchError(f"its {stated[0]} is {found} and should be {stated[1]}")

    def _fetch(self) -> None:
        size = self.wanted.size
        if size < 2 * RANGE:
            self._range(0, size)
            return
        # The first one alone, for its ETag where none is known.
        self._range(0, RANGE)
        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="r2d2-range") as pool:
            starts = range(RANGE, size, RANGE)
            futures = [pool.submit(self._range, start, min(start + RANGE, size)) for start in starts]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                self.stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _range(self, start: int, end: int) -> None:
        """Fetches [start, end), as often as needed from where the last attempt was cut."""
        begun, done = time.monotonic(), start

        def attempt() -> None:
            nonlocal done
            for data in self._stream(done, end):
                self.write(done, data)
                done += len(data)

        def left() -> float:
            if self.stop.is_set():
                return -1.0
            return self.server.timeout + (done - start) / SLOWEST - (time.monotonic() - begun)

        patiently(attempt, self.server.passes, left)

    def _stream(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes [start, end) as they come, as far as they come."""
        with closing(self._open(start, end)) as body:
            for data in steady(body._raw_stream.read1, READ, SLOWEST, end - start):
                yield data
                if self.stop.is_set():
                    raise PassingError("another range could not be had")

    def _open(self, start: int, end: int) -> Any:
        wanted = self.wanted
        request = {"Bucket": wanted.bucket, "Key": wanted.key}
        if self._etag is not None:
            request["IfMatch"] = f'"{self._etag}"'
        if (start, end) != (0, wanted.size):
            request["Range"] = f"bytes={start}-{end - 1}"
        try:
            answer = self.server.call("get_object", request)
        except Exception as error:
            if code_of(error) in ("PreconditionFailed", "InvalidRange", "412", "416"):
                raise changed(str(wanted), f"ETag {self._etag}") from error
            raise
        self._look_at(answer, end - start)
        return answer["Body"]

    def _look_at(self, answer: Any, length: int) -> None:
        """Checks that an answer is about the object that is wanted; learns its checksum from it."""
        etag = bare(answer.get("ETag", ""))
        if self._etag is not None and etag != self._etag:
            raise changed(str(self.wanted), f"ETag {self._etag}", f"ETag {etag}")
        if answer["ContentLength"] != length:
            answer["Body"].close()
            raise MismatchError(f"{answer['ContentLength']} bytes came instead of {length}")
        self._etag, self._stated = etag, _stated_checksum(answer, self.wanted.bucket)


def _stated_checksum(answer: Mapping[str, Any], bucket: str) -> tuple[str, str] | None:
    """Kind and hexadecimal value of the checksum that a server states of an object; None: it states none.

    It is the SHA-256 that we store with every object; of others' objects the ETag, where that is an MD5.
    """
    if sha256 := answer.get("Metadata", {}).get("sha256"):
        return _SHA256, str(sha256)
    etag = bare(answer.get("ETag", ""))
    encrypted = "SSECustomerAlgorithm" in answer or answer.get("ServerSideEncryption", "AES256") != "AES256"
    plain = _MD5_FORM.fullmatch(etag) and not encrypted and not bucket.endswith(_DIRECTORY_BUCKET)
    return (_MD5, etag) if plain else None


def _digest(kind: str, content: Iterable[bytes | bytearray]) -> str:
    total = _DIGESTS[kind](usedforsecurity=False)
    for data in content:
        total.update(data)
    return total.hexdigest()


def put_request(bucket: str, key: str, content: bytes) -> dict[str, Any]:
    """Makes the arguments of `put_object`, by which the server refuses a content of another checksum."""
    md5 = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
    metadata = {"sha256": hashlib.sha256(content).hexdigest()}
    return {"Bucket": bucket, "Key": key, "Body": content, "ContentMD5": md5, "Metadata": metadata}


def upload_file(server: S3Server, bucket: str, key: str, path: Path) -> None:
    """Stores a file under a key; what had it is replaced when all is there. Compares what the server has.

    Raises:
        StorageError: if it cannot be stored, or the server has something else afterwards.
        OSError: if the file cannot be read.
    """
    size, where = path.stat().st_size, f"{SCHEME}{bucket}/{key}"
    if size <= PART:
        request = put_request(bucket, key, path.read_bytes())
        server.ask(where, "put_object", request)
        sha256 = request["Metadata"]["sha256"]
    else:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        server.attempt(where, lambda client: _send_in_parts(client, bucket, key, path, sha256))
    found = server.ask(where, "head_object", {"Bucket": bucket, "Key": key})
    stated = found.get("Metadata", {}).get("sha256", sha256)
    if found["ContentLength"] != size or stated != sha256:
        raise FileError(errno.EIO, "the server has something else than what was sent to it", where)
    if size > PART:
        # Parts travel without a checksum, and few servers give a comparable one of the whole: it is read.
        with tempfile.TemporaryFile() as copy:
            fetch_file(server, Wanted(bucket, key, size, sha256=sha256), copy)


def _send_in_parts(client: Any, bucket: str, key: str, path: Path, sha256: str) -> None:
    """Sends a file by boto3's managed transfer, which removes the parts of an upload that fails."""
    from boto3.s3.transfer import TransferConfig

    # Files from this size on, so many parts at a time, of that size.
    config = TransferConfig(PART, PARALLEL // 2, PART, preferred_transfer_client="classic")
    with path.open("rb") as file:
        client.upload_fileobj(file, bucket, key, {"Metadata": {"sha256": sha256}}, Config=config)
