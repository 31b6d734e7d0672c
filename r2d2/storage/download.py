"""Download: one object as it was when its place was opened, in parallel ranges, compared with its checksum.

A connection that is cut is taken up again where it was cut. What comes is never more than one object: every
range asks for the same ETag, so a change in the middle is noticed.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from r2d2.storage.errors import (
    Result,
    StalledError,
    changed,
    code_of,
    corrupt,
    explain,
    passes,
    patiently,
    require_size,
)
from r2d2.storage.s3 import READ, SCHEME, S3Server, bare

# Objects from twice this size on come in ranges of it, several at a time.
RANGE = 8 * 2**20
PARALLEL = 8
# Bytes per second. A slower answer is given up and asked for again, so that none lasts for ever.
SLOWEST = 16 * 2**10

# Of what is fetched into memory, bytes: the manifest of ten million files.
LARGEST = 2**31

SHA256, MD5 = "SHA-256", "MD5"

_CHUNK = 2**18
_MD5_FORM = re.compile("[0-9a-f]{32}")
# Their ETag is no MD5: AWS's directory buckets by their name, encrypted objects by a field of the answer.
_DIRECTORY_BUCKET = "--x-s3"


class MismatchError(Exception):
    """What came is not what was announced; says what differs."""


@dataclass(frozen=True)
class Wanted:
    """An object to fetch.

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


def stated_checksum(answer: Mapping[str, Any], bucket: str) -> tuple[str, str] | None:
    """What a server says of an object's content, whoever wants to know: who fetches it or who has stored it.

    It is the SHA-256 that we store with every object; of others' objects the ETag, where that is an MD5.

    Args:
        answer: to a request for the object, or for its head.
        bucket: where it lies.

    Returns:
        Kind and hexadecimal value; None: there is none, so that the size alone can be compared.
    """
    if sha256 := answer.get("Metadata", {}).get("sha256"):
        return SHA256, str(sha256)
    etag = bare(answer.get("ETag", ""))
    encrypted = "SSECustomerAlgorithm" in answer or answer.get("ServerSideEncryption", "AES256") != "AES256"
    plain = _MD5_FORM.fullmatch(etag) and not encrypted and not bucket.endswith(_DIRECTORY_BUCKET)
    return (MD5, etag) if plain else None


def new_digest(kind: str) -> hashlib._Hash:
    """A digest of that kind, of nothing yet."""
    return hashlib.sha256() if kind == SHA256 else hashlib.md5(usedforsecurity=False)


def fetch_bytes(server: S3Server, wanted: Wanted) -> bytes:
    """The content of an object, in memory.

    Raises:
        StorageError: if it cannot be had, was changed, is corrupt twice, or has more than `LARGEST` bytes.
    """
    require_size(str(wanted), wanted.size, LARGEST)

    def attempt() -> bytes:
        content = bytearray(wanted.size)

        def write(offset: int, data: bytes) -> None:
            content[offset : offset + len(data)] = data

        _Download(server, wanted, write).run().verify(lambda: iter([content]))
        return bytes(content)

    return _twice(wanted, attempt)


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

    _twice(wanted, lambda: _Download(server, wanted, write).run().verify(read))


def _twice(wanted: Wanted, attempt: Callable[[], Result]) -> Result:
    """What an attempt gives; where what came is not what was announced, that of a second one."""
    try:
        return attempt()
    except MismatchError:
        try:
            return attempt()
        except MismatchError as error:
            raise corrupt(str(wanted), str(error)) from error


@dataclass
class _Download:
    server: S3Server
    wanted: Wanted
    write: Callable[[int, bytes], None]
    stop: threading.Event = field(default_factory=threading.Event)
    # What the first answer said of the object.
    _etag: str | None = None
    _sha256: str | None = None
    _stated: tuple[str, str] | None = None

    def run(self) -> _Download:
        """Fetches everything."""
        size = self.wanted.size
        self._etag, self._sha256 = self.wanted.etag, self.wanted.sha256
        try:
            if size < 2 * RANGE:
                self._range(0, size)
            else:
                # The first one alone, for its ETag where none is known.
                self._range(0, RANGE)
                self._ranges([(start, min(start + RANGE, size)) for start in range(RANGE, size, RANGE)])
        except MismatchError:
            raise
        except Exception as error:
            from botocore.exceptions import BotoCoreError

            # A disk that is full is not the server's fault.
            if isinstance(error, OSError) and not isinstance(error, BotoCoreError) and not passes(error):
                raise
            raise explain(error, str(self.wanted), self.server.endpoint) from error
        return self

    def verify(self, content: Callable[[], Iterator[bytes | bytearray]]) -> None:
        """Compares the content with the checksum that is known of it.

        Raises:
            MismatchError: if it is another.
        """
        stated = (SHA256, self._sha256) if self._sha256 else self._stated
        if stated is None:
            return
        kind, known = stated
        digest = new_digest(kind)
        for data in content():
            digest.update(data)
        if digest.hexdigest() != known:
            raise MismatchError(f"its {kind} is {digest.hexdigest()} and should be {known}")

    def _ranges(self, ranges: list[tuple[int, int]]) -> None:
        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="r2d2-range") as pool:
            futures = [pool.submit(self._range, *limits) for limits in ranges]
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
        body, begun, got = self._open(start, end), time.monotonic(), 0
        with closing(body):
            while got < end - start:
                # Unlike `body.read`, it returns what there is, so that a trickle is noticed.
                data = body._raw_stream.read1(min(_CHUNK, end - start - got))
                if not data:
                    raise StalledError(f"the answer ended after {got} of {end - start} bytes")
                got += len(data)
                yield data
                if self.stop.is_set() or time.monotonic() - begun > READ + got / SLOWEST:
                    raise StalledError(f"only {got} bytes came in {time.monotonic() - begun:.0f} s")

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
                raise changed(str(wanted), self._known()) from error
            raise
        self._look_at(answer, end - start)
        return answer["Body"]

    def _look_at(self, answer: Any, length: int) -> None:
        """Checks that an answer is about the object that is wanted; learns its checksum from it."""
        etag = bare(answer.get("ETag", ""))
        if self._etag is not None and etag != self._etag:
            raise changed(str(self.wanted), self._known(), f"ETag {etag}")
        if answer["ContentLength"] != length:
            answer["Body"].close()
            raise MismatchError(f"{answer['ContentLength']} bytes came instead of {length}")
        self._etag = etag
        if self._sha256 is None:
            self._stated = stated_checksum(answer, self.wanted.bucket)

    def _known(self) -> str:
        return f"ETag {self._etag}"
