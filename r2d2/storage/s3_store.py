"""Keeps small files below a prefix of S3; see `Store`.

Events and configurations are asked for again and again, so their contents are kept in memory as long as a
look finds the same ETag: following a history costs one listing a look, and one request for each new event.
"""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from r2d2.formats.names import is_visible
from r2d2.storage.errors import FileError, PlaceError, code_of, explain, lacks, require_size
from r2d2.storage.retry import PassingError, Result, patiently
from r2d2.storage.s3 import SCHEME, TIMEOUT, S3Server, bare, split_place
from r2d2.storage.store import LARGEST, ObjectInfo
from r2d2.storage.transfer import Wanted, fetch_bytes, put_request, upload_file

# Requests at a time where many files are read or removed.
PARALLEL = 16
# Of contents of at most this size, bytes, the last ones are kept in memory.
SMALL, MOST_KEPT = 2**15, 8192

Item = TypeVar("Item")

_TAKEN = ("PreconditionFailed", "412")
# The server was asked for the same name by two at once, and decides when asked again.
_UNDECIDED = "ConditionalRequestConflict"


class S3Store:
    """An S3Store keeps files at `s3://bucket/prefix`; stores below it share its connections and its memory.

    Whatever asks the server raises a `StorageError` if the server does not answer, or refuses.
    """

    is_remote = True

    def __init__(self, place: str, timeout: float = TIMEOUT) -> None:
        """Asks nobody yet.

        Args:
            place: `s3://bucket/prefix`.
            timeout: seconds that a request is tried again for.

        Raises:
            ValueError: if the place names no bucket.
        """
        self.place = place.rstrip("/")
        self._bucket, prefix = split_place(self.place)
        self._prefix = f"{prefix}/" if prefix else ""
        self._server = S3Server(timeout)
        self._kept = functools.lru_cache(MOST_KEPT)(self._fetch)

    def __reduce__(self) -> tuple[type[S3Store], tuple[str, float]]:
        return S3Store, (self.place, self.timeout)

    @property
    def timeout(self) -> float:
        """Says for how many seconds a request is tried again."""
        return self._server.timeout

    def below(self, name: str) -> S3Store:
        """Returns the store of what lies below `name/`."""
        inner = S3Store(f"{self.place}/{name}", self.timeout)
        inner._server, inner._kept = self._server, self._kept
        return inner

    def read(self, name: str) -> bytes | None:
        """Reads a file; returns None if there is none."""
        return self._unless_gone(
            lambda: self._server.attempt(self._where(name), lambda client: self._get(client, name))
        )

    def read_all(self, files: Iterable[ObjectInfo]) -> list[bytes | None]:
        """Reads files that a look has found, in their order; None for one that is gone since."""
        return self._each(self._read_found, files)

    def find_all(self, names: Iterable[str]) -> list[ObjectInfo | None]:
        """Looks for files; None for each that is not there."""
        return self._each(self._find, names)

    def write(self, name: str, content: bytes) -> None:
        """Keeps a content under a name."""
        request = put_request(self._bucket, self._key(name), content)
        self._server.ask(self._where(name), "put_object", request)

    def create(self, name: str, content: bytes) -> bool:
        """Keeps a content under a name that nothing has yet."""
        request = {**put_request(self._bucket, self._key(name), content), "IfNoneMatch": "*"}
        attempts = 0

        def attempt() -> None:
            nonlocal attempts
            attempts += 1
            self._server.call("put_object", request)

        try:
            patiently(attempt, lambda e: self._server.passes(e) or code_of(e) == _UNDECIDED, self.timeout)
        except Exception as error:
            if code_of(error) in _TAKEN:
                # An attempt whose answer was lost may have been the first.
                return attempts > 1 and self.read(name) == content
            if lacks(error):
                raise _no_conditional_writes(self._where(name), self._server.endpoint) from error
            raise explain(error, self._where(name), self._server.endpoint) from error
        return True

    def put_file(self, name: str, path: Path) -> None:
        """Keeps a copy of a file under a name, and compares what the server has with it.

        Raises:
            StorageError: if it cannot be stored, or something else is there afterwards.
            OSError: if the file cannot be read.
        """
        upload_file(self._server, self._bucket, self._key(name), path)

    def delete(self, name: str) -> None:
        """Removes a file, if it is there."""
        self._delete(self._key(name))

    def delete_below(self, name: str) -> None:
        """Removes everything below `name/`."""
        objects = [*self._server.list(self._bucket, self._folder(name), self.timeout)]
        self._each(lambda found: self._delete(found.name), objects)

    def files(self, name: str = "") -> list[ObjectInfo]:
        """Lists the files directly below `name/`."""
        objects, _ = self._server.look(self._bucket, self._folder(name))
        return self._info(objects)

    def folders(self, name: str = "") -> list[str]:
        """Lists the names directly below `name/` that have something below them."""
        _, prefixes = self._server.look(self._bucket, self._folder(name))
        names = (PurePosixPath(prefix).name for prefix in prefixes)
        return sorted(name for name in names if not name.startswith("."))

    def walk(self, name: str = "") -> Iterator[ObjectInfo]:
        """Lists all files below `name/`, however deep."""
        objects = [*self._server.list(self._bucket, self._folder(name), self.timeout)]
        yield from self._info(objects)

    def _key(self, name: str) -> str:
        return self._prefix + name

    def _folder(self, name: str) -> str:
        return self._prefix + (f"{name}/" if name else "")

    def _where(self, name: str) -> str:
        return f"{SCHEME}{self._bucket}/{self._key(name)}"

    def _info(self, objects: Sequence[ObjectInfo]) -> list[ObjectInfo]:
        found = (replace(entry, name=entry.name.removeprefix(self._prefix)) for entry in objects)
        return [kept for kept in found if is_visible(kept.name)]

    def _find(self, name: str) -> ObjectInfo | None:
        request = {"Bucket": self._bucket, "Key": self._key(name)}
        found = self._unless_gone(lambda: self._server.ask(self._where(name), "head_object", request))
        if found is None:
            return None
        modified = found["LastModified"].timestamp()
        return ObjectInfo(name, found["ContentLength"], modified, bare(found["ETag"]))

    def _unless_gone(self, action: Callable[[], Result]) -> Result | None:
        try:
            return action()
        except FileError as error:
            if error.errno == errno.ENOENT:
                return None
            raise

    def _get(self, client: Any, name: str) -> bytes:
        answer = client.get_object(Bucket=self._bucket, Key=self._key(name))
        with closing(answer["Body"]) as body:
            require_size(self._where(name), answer["ContentLength"], LARGEST)
            content: bytes = body.read(answer["ContentLength"])
        if len(content) != answer["ContentLength"]:
            raise PassingError(f"{len(content)} of {answer['ContentLength']} bytes came")
        return content

    def _read_found(self, found: ObjectInfo) -> bytes | None:
        require_size(self._where(found.name), found.size, LARGEST)
        fetch = self._kept if found.size <= SMALL else self._fetch
        try:
            return fetch(Wanted(self._bucket, self._key(found.name), found.size, found.mark))
        except FileError:
            # It is gone, or was replaced since the look; then what is there now counts.
            return self.read(found.name)

    def _fetch(self, wanted: Wanted) -> bytes:
        return fetch_bytes(self._server, wanted)

    def _each(self, action: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """What an action gives for each item, several at a time."""
        wanted = list(items)
        if len(wanted) < 2:
            return [action(item) for item in wanted]
        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="r2d2-store") as pool:
            return list(pool.map(action, wanted))

    def _delete(self, key: str) -> None:
        where = f"{SCHEME}{self._bucket}/{key}"
        self._server.ask(where, "delete_object", {"Bucket": self._bucket, "Key": key})


def _no_conditional_writes(where: str, endpoint: str) -> PlaceError:
    """The sentence for a server without what keeps two drivers from running one sweep."""
    return PlaceError(
        errno.ENOTSUP,
        f"the server {endpoint} has no conditional writes (it refuses If-None-Match), without which two "
        "drivers could run one sweep; choose another server, or a folder that all nodes share",
        where,
    )
