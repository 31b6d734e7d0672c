"""Asks the S3 server that the AWS environment names, again while its faults may pass, and explains the rest.

Endpoint, region and credentials come from where every program takes them: AWS_ENDPOINT_URL, AWS_REGION,
AWS_ACCESS_KEY_ID, AWS_PROFILE, ~/.aws/config and so on; boto3 reads them, once for each of its clients. A key
that is refused is therefore read again: session tokens expire, and whoever renews them writes a file.
"""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from r2d2.storage.errors import PlaceError, explain, passes, refuses_key, refuses_renewable_key
from r2d2.storage.retry import Result, patiently
from r2d2.storage.store import ObjectInfo

SCHEME = "s3://"

# Seconds. Every wait for the network ends: a connection, the next bytes of an answer, all attempts together.
CONNECT, READ, TIMEOUT = 5.0, 20.0, 300.0
# Until something has been had from a place, its address is more likely wrong than its server away.
FIRST_TIMEOUT = 15.0

_CONNECTIONS = 64

# What a listing may say: objects in all, bytes of a key or of an ETag, bytes of an object. S3 itself has keys
# of 1,024 bytes and objects of 50 TB.
MAX_OBJECTS, LONGEST, LARGEST = 20_000_000, 1024, 2**50


class S3Server:
    """An S3Server is the server as one process sees it: a copy in another process connects for itself."""

    def __init__(self, timeout: float = TIMEOUT) -> None:
        """Connects when first asked.

        Args:
            timeout: seconds that a request is tried again for, at least 0.
        """
        self.timeout = timeout
        self._connected: _Connection | None = None
        self._endpoint = ""
        # Whether the server has answered: a key that it refuses afterwards was good, and has ended.
        self._answered = False

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_connected": None}

    @property
    def client(self) -> Any:
        """Returns boto3's client, which tries nothing again by itself."""
        if self._connected is None or self._connected.process != os.getpid():
            self._connected = _connect(_open_session())
            self._endpoint = str(self._connected.client.meta.endpoint_url)
        return self._connected.client

    @property
    def endpoint(self) -> str:
        """Returns the server's address, without connecting where it was asked for before."""
        if not self._endpoint:
            self._endpoint = str(self.client.meta.endpoint_url)
        return self._endpoint

    def run(self, action: Callable[[Any], Result]) -> Result:
        """Runs an action with boto3's client; where a key is refused and there is a new one, once more.

        Raises:
            Exception: of boto3.
        """
        client = self.client
        try:
            result = action(client)
        except Exception as error:
            if not (refuses_key(error) and self._has_new_key(client)):
                raise
            result = action(self.client)
        self._answered = True
        return result

    def call(self, method: str, request: Mapping[str, Any]) -> Any:
        """Sends one request, once; arguments as of `ask`, errors as of `run`."""
        return self.run(lambda client: getattr(client, method)(**request))

    def passes(self, error: Exception) -> bool:
        """Says whether a fault may pass; so may the end of a key that was good, when it is renewed."""
        return passes(error) or (self._answered and refuses_renewable_key(error))

    def _has_new_key(self, refused: Any) -> bool:
        """Whether there is another key than that of the client which was refused; `client` has it then."""
        from botocore.exceptions import BotoCoreError

        known = self._connected
        if known is None or known.client is not refused:
            return True  # Another thread has read it.
        try:
            session = _open_session()
            if _key_of(session) in (None, known.key):
                return False
            self._connected = _connect(session)
        except BotoCoreError:
            return False  # E.g. of a file that is being written.
        return True

    def ask(self, where: str, method: str, request: Mapping[str, Any], timeout: float | None = None) -> Any:
        """Sends one request, again while its fault may pass; returns the answer.

        Args:
            where: the place or object it is about, `s3://...`.
            method: of boto3's client.
            request: its arguments.
            timeout: seconds, if not the server's own.

        Raises:
            StorageError: if there is none, with the reason and what was tried.
        """
        return self.attempt(where, lambda client: getattr(client, method)(**request), timeout)

    def attempt(self, where: str, action: Callable[[Any], Result], timeout: float | None = None) -> Result:
        """Runs an action as `run`, again for as long as `ask` does. Arguments and errors as of `ask`."""
        try:
            limit = self.timeout if timeout is None else timeout
            return patiently(lambda: self.run(action), self.passes, limit)
        except Exception as error:
            raise explain(error, where, self._endpoint or "the usual AWS address") from error

    def list(self, bucket: str, prefix: str, timeout: float = FIRST_TIMEOUT) -> Iterator[ObjectInfo]:
        """Lists all objects whose keys begin with a prefix, in the order of their keys, page by page.

        Raises:
            StorageError: as `ask`.
        """
        for objects, _ in self._pages({"Bucket": bucket, "Prefix": prefix}, min(self.timeout, timeout)):
            yield from objects

    def look(self, bucket: str, prefix: str) -> tuple[Sequence[ObjectInfo], Sequence[str]]:
        """Looks what is there: objects directly below a prefix, and the prefixes of those that lie deeper.

        Args:
            bucket: where.
            prefix: empty, or ending with a slash.

        Raises:
            StorageError: as `ask`.
        """
        pages = [*self._pages({"Bucket": bucket, "Prefix": prefix, "Delimiter": "/"}, self.timeout)]
        return [o for objects, _ in pages for o in objects], [p for _, deeper in pages for p in deeper]

    def find(self, bucket: str, key: str) -> ObjectInfo | None:
        """Finds one object; returns None if there is none of that key.

        Raises:
            StorageError: as `ask`.
        """
        # The answer to a HEAD request does not tell a missing bucket from a missing object; a listing does.
        request = {"Bucket": bucket, "Prefix": key, "MaxKeys": 1}
        objects, _ = next(self._pages(request, min(self.timeout, FIRST_TIMEOUT)))
        return next((found for found in objects if found.name == key), None)

    def _pages(
        self, request: Mapping[str, Any], timeout: float
    ) -> Iterator[tuple[Sequence[ObjectInfo], Sequence[str]]]:
        """Objects and deeper prefixes of each page of a listing.

        Args:
            request: the bucket, the prefix, and what else is asked.
            timeout: seconds, for the first page.

        Raises:
            StorageError: as `ask`, and if an answer is no listing or the listing has no end.
        """
        where, count, tokens = f"{SCHEME}{request['Bucket']}/{request['Prefix']}", 0, {""}
        while True:
            page = self.ask(where, "list_objects_v2", request, timeout)
            try:
                objects = [_object(entry) for entry in page.get("Contents", ())]
                deeper = [str(entry["Prefix"]) for entry in page.get("CommonPrefixes", ())]
                token = page["NextContinuationToken"] if page.get("IsTruncated") else ""
            except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
                reason = f"the server's answer is no listing ({error!r})"
                raise PlaceError(errno.EIO, reason, where) from error
            yield objects, deeper
            if not page.get("IsTruncated"):
                return
            count += 1 + len(objects) + len(deeper)
            if count > MAX_OBJECTS or token in tokens:
                reason = f"the server's listing has no end, or more than {MAX_OBJECTS} objects"
                raise PlaceError(errno.E2BIG, reason, where)
            tokens.add(token)
            request, timeout = {**request, "ContinuationToken": token}, self.timeout


def _object(entry: Mapping[str, Any]) -> ObjectInfo:
    # To the second, which is all that the answer to a HEAD request tells: both say the same.
    modified = float(int(entry["LastModified"].timestamp()))
    found = ObjectInfo(entry["Key"], entry["Size"], modified, bare(entry["ETag"]))
    if max(len(found.name.encode()), len(found.mark)) > LONGEST or not 0 <= found.size <= LARGEST:
        raise ValueError(f"a name of {len(found.name)} letters, or an object of {found.size} bytes")
    return found


def bare(etag: str) -> str:
    """Removes the quotation marks of an ETag."""
    return etag.strip('"')


def split_place(place: str) -> tuple[str, str]:
    """Splits `s3://bucket/prefix` into bucket, and prefix or key.

    Raises:
        ValueError: if it names no bucket.
    """
    bucket, _, rest = place.removeprefix(SCHEME).partition("/")
    if not place.startswith(SCHEME) or not bucket:
        raise ValueError(f"'{place}' names no bucket; a place on S3 is s3://bucket or s3://bucket/prefix")
    return bucket, rest


@dataclass(frozen=True)
class _Connection:
    """boto3's client, the process that made it, and the key that it was made with."""

    process: int
    client: Any
    key: tuple[str, ...] | None


def _open_session() -> Any:
    import boto3
    import botocore.session

    core = botocore.session.Session()
    core.register_component("data_loader", _loader())
    return boto3.Session(botocore_session=core)


def _key_of(session: Any) -> tuple[str, ...] | None:
    """Access key, secret key and token of a session; None if it finds none."""
    found = session.get_credentials()
    return None if found is None else tuple(found.get_frozen_credentials())


def _connect(session: Any) -> _Connection:
    import botocore.config

    def config(style: Literal["auto", "path"]) -> Any:
        return botocore.config.Config(
            connect_timeout=CONNECT,
            read_timeout=READ,
            retries={"total_max_attempts": 1, "mode": "standard"},
            max_pool_connections=_CONNECTIONS,
            # We compare contents ourselves, and older servers refuse the checksums that boto3 adds of late.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": style} if style == "path" else None,
        )

    key = _key_of(session)
    client = session.client("s3", config=config("auto"))
    host = urlsplit(client.meta.endpoint_url).hostname or ""
    if not host.endswith(("amazonaws.com", "amazonaws.com.cn")):
        # Few servers but AWS's have a host name for every bucket.
        client = session.client("s3", config=config("path"))
    return _Connection(os.getpid(), client, key)


@functools.cache
def _loader() -> Any:
    """Holds boto's description of S3, which takes longest of what a connection needs."""
    import botocore.loaders

    return botocore.loaders.create_loader()
