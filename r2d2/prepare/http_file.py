"""One file from a web server, patiently: cut connections are taken up again where they were cut.

    <target>.part           what has come so far
    <target>.part.json      of which address and which version (ETag or date) that is

So a download that was killed goes on, and what was replaced on the server meanwhile begins anew.
"""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from r2d2.prepare.address import MAX_REDIRECTS, check_address, redirected
from r2d2.storage.atomic import atomic_file
from r2d2.storage.errors import FileError, PlaceError, patiently
from r2d2.storage.manifest import sha256_of

_CHUNK = 2**18
# Answers that may be others a moment later.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
_PARTIAL, _BEYOND_THE_END = 206, 416


@dataclass(frozen=True)
class Limits:
    """How long anything may take, seconds: every wait ends.

    Attributes:
        connect: until a connection stands.
        read: until the next bytes come.
        timeout: without a byte that is new, over all attempts; what comes too slowly does not count.
        slowest: bytes per second; slower answers are given up and asked for again.
    """

    connect: float = 10.0
    read: float = 30.0
    timeout: float = 180.0
    slowest: float = 1024.0


@dataclass(frozen=True)
class RemoteFile:
    """A file on a web server.

    Attributes:
        url: https; http where its content is known or it is of this machine.
        size: bytes; None: whatever the server says.
        sha256: hexadecimal; None: unknown.
    """

    url: str
    size: int | None = None
    sha256: str | None = None


class _PassingError(Exception):
    """A fault that may pass; says what it was. `wait`: seconds that the server asked for."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class _OutdatedError(Exception):
    """What has come so far is of no use."""


def download(
    remote: RemoteFile,
    target: Path,
    *,
    advance: Callable[[int], None] = lambda _: None,
    announce: Callable[[int | None], None] = lambda _: None,
    limits: Limits | None = None,
) -> None:
    """Fetches a file unless it is there.

    Args:
        remote: the file.
        target: appears when all is there, and as it should be.
        advance: called with each number of bytes that came; negative if they have to come again.
        announce: called with the size of the whole, once it is known.
        limits: of the waits.

    Raises:
        PlaceError: if the server cannot be reached or refuses, with the reason and what was tried.
        FileError: if what came is not what it should be.
        OSError: if it cannot be written.
    """
    if target.is_file():
        advance(target.stat().st_size)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    _Download(remote, target, advance, announce, limits or Limits()).run()


@dataclass
class _Download:
    remote: RemoteFile
    target: Path
    advance: Callable[[int], None]
    announce: Callable[[int | None], None]
    limits: Limits
    # The furthest byte that ever came, and when: coming that far again is no progress.
    _best: int = 0
    _progressed: float = field(default_factory=time.monotonic)

    @property
    def part(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def note(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part.json")

    def run(self) -> None:
        self.advance(self._have())
        try:
            total = patiently(self._attempt, lambda error: isinstance(error, _PassingError), self._left)
        except _PassingError as error:
            kept = f"; {self._have()} bytes are kept and the same command goes on from there"
            reason = f"{error} for {self.limits.timeout:.0f} s{kept if self._have() else ''}"
            raise PlaceError(errno.ETIMEDOUT, reason, self.remote.url) from error
        self._verify(total)
        self.part.replace(self.target)
        self.note.unlink(missing_ok=True)

    def _left(self) -> float:
        return self.limits.timeout - (time.monotonic() - self._progressed)

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.is_file() and self.note.is_file() else 0

    def _attempt(self) -> int:
        """Fetches what is missing; returns the size of the whole."""
        try:
            return self._fetch()
        except _OutdatedError:
            self._forget()
            raise _PassingError("the file was changed on the server while it came") from None
        except _PassingError as error:
            time.sleep(max(0.0, min(error.wait, self._left())))
            raise

    def _forget(self) -> None:
        self.advance(-self._have())
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def _fetch(self) -> int:
        have, version = self._have(), self._version()
        if have and version is None:
            self._forget()
            have = 0
        headers = {"Accept-Encoding": "identity", "User-Agent": "r2d2-data"}
        if have:
            headers["Range"] = f"bytes={have}-"
            # The server sends all of it if it has another version now.
            headers |= {"If-Range": version} if version else {}
        with _asking(self.remote, headers, self.limits) as answer:
            total = self._look_at(answer, have)
            if answer.status_code != _PARTIAL and have:
                self._forget()
                have = 0
            self._remember(answer)
            self.announce(total)
            self._receive(answer, have, total)
        have = self._have()
        if total is not None and have != total:
            if have > total:
                raise _OutdatedError
            raise _PassingError(f"the answer ended after {have} of {total} bytes")
        return have

    def _look_at(self, answer: Any, have: int) -> int | None:
        """The size of the whole that an answer is about; None if it does not say.

        Raises:
            FileError: if it is about something else than what is wanted.
        """
        kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind in ("text/html", "application/xhtml+xml"):
            reason = "the server sends a web page instead of the file (its address may have changed)"
            raise FileError(errno.EBADMSG, reason, self.remote.url)
        length = answer.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
        if answer.status_code == _PARTIAL:
            span, _, whole = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
            if span.partition("-")[0] != str(have):
                raise _OutdatedError
            total = int(whole) if whole.isdecimal() else None if total is None else have + total
        if self.remote.size is not None and total is not None and total != self.remote.size:
            raise self._other(f"the server has {total} bytes; they should be {self.remote.size}")
        return total

    def _receive(self, answer: Any, have: int, total: int | None) -> None:
        begun, got = time.monotonic(), 0
        with self.part.open("ab") as file:
            for data in _chunks(answer):
                if total is not None and have + got + len(data) > total:
                    raise _OutdatedError
                file.write(data)
                got += len(data)
                self.advance(len(data))
                now = time.monotonic()
                late = now - begun - got / self.limits.slowest
                if have + got > self._best:
                    self._best = have + got
                    if late <= 0:
                        self._progressed = now
                if late > self.limits.read:
                    raise _PassingError(f"only {got} bytes came in {now - begun:.0f} s")

    def _version(self) -> str | None:
        """What `If-Range` takes: a strong ETag or a date; empty if the server gave none; None: of no use."""
        try:
            note = json.loads(self.note.read_text())
            return str(note["version"]) if note["url"] == self.remote.url else None
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def _remember(self, answer: Any) -> None:
        etag = answer.headers.get("ETag", "")
        version = "" if etag.startswith("W/") else etag
        version = version or answer.headers.get("Last-Modified", "")
        if not self.part.is_file():
            self.part.touch()
        with atomic_file(self.note) as file:
            file.write(json.dumps({"url": self.remote.url, "version": version}).encode())

    def _verify(self, size: int) -> None:
        if self.remote.size is not None and size != self.remote.size:
            raise self._other(f"{size} bytes came; they should be {self.remote.size}")
        if self.remote.sha256 is None:
            return
        with self.part.open("rb") as file:
            found = sha256_of(file)
        if found != self.remote.sha256:
            raise self._other(f"its SHA-256 is {found[:16]}... and should be {self.remote.sha256[:16]}...")

    def _other(self, reason: str) -> FileError:
        """What came is of no use, now or later."""
        self._forget()
        return FileError(errno.EBADMSG, f"it is not the file that was expected: {reason}", self.remote.url)


@contextmanager
def _asking(remote: RemoteFile, headers: dict[str, str], limits: Limits) -> Iterator[Any]:
    """An answer to a request, its body still to come; faults are told apart by whether they may pass."""
    import requests

    url = remote.url
    check_address(url, remote.sha256 is not None)
    try:
        with requests.Session() as session, _followed(session, remote, headers, limits) as answer:
            _check(answer, url)
            yield answer
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
        raise PlaceError(errno.EINVAL, f"it is no address ({error})", url) from error
    except requests.exceptions.SSLError as error:
        raise PlaceError(errno.EACCES, "the server's certificate is not trusted", url) from error
    except requests.exceptions.Timeout as error:
        raise _PassingError("the server does not answer") from error
    except requests.exceptions.RequestException as error:
        raise _PassingError(f"the connection fails ({_innermost(error)})") from error


def _followed(session: Any, remote: RemoteFile, headers: dict[str, str], limits: Limits) -> Any:
    """The answer behind all redirections, each of which is checked before it is followed."""
    url, waits = remote.url, (limits.connect, limits.read)
    for _ in range(1 + MAX_REDIRECTS):
        try:
            answer = session.get(url, headers=headers, stream=True, timeout=waits, allow_redirects=False)
        except ValueError as error:
            # requests reads the redirection as well, though it is not to follow it.
            raise PlaceError(
                errno.EINVAL, f"it is no address, or redirects to none ({error})", url
            ) from error
        if not answer.is_redirect:
            return answer
        answer.close()
        url = redirected(url, answer.headers["Location"], remote.sha256 is not None)
    raise PlaceError(errno.ELOOP, f"it redirects more than {MAX_REDIRECTS} times", remote.url)


def _check(answer: Any, url: str) -> None:
    status = answer.status_code
    if status == _BEYOND_THE_END:
        raise _OutdatedError
    if status in _PASSING:
        wait = answer.headers.get("Retry-After", "")
        raise _PassingError(
            f"the server answers {status} ({answer.reason})", float(wait) if wait.isdecimal() else 0.0
        )
    if status not in (200, _PARTIAL):
        raise PlaceError(errno.ENOENT, f"the server answers {status} ({answer.reason})", url)


def _chunks(answer: Any) -> Iterator[bytes]:
    """The body as it comes; unlike requests' own, a trickle is seen."""
    import urllib3

    try:
        while data := answer.raw.read1(_CHUNK):
            yield data
    except urllib3.exceptions.TimeoutError as error:
        raise _PassingError("the server stopped sending") from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise _PassingError(f"the connection was cut ({_innermost(error)})") from error


def _innermost(error: BaseException) -> str:
    """The first cause, without the libraries' wrapping."""
    reason: Any = error
    while True:
        inner = getattr(reason, "reason", None) or (reason.args[0] if getattr(reason, "args", None) else None)
        if not isinstance(inner, BaseException):
            break
        reason = inner
    text = str(reason).rpartition(": ")[2] or type(reason).__name__
    return text.strip("')\"")
