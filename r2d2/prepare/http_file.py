"""Fetches one file from a web server: a connection that is cut is taken up again where it was cut.

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
from r2d2.storage.errors import FileError, PlaceError
from r2d2.storage.manifest import sha256_of
from r2d2.storage.retry import PassingError, patiently, steady

# Answers that may be others a moment later.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
_PARTIAL, _BEYOND_THE_END = 206, 416


@dataclass(frozen=True)
class Limits:
    """Limits say how many seconds anything may take, so that every wait ends.

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
    """A RemoteFile is a file on a web server, and what is known of its content.

    Attributes:
        url: https; http where its content is known or it is of this machine.
        size: bytes; None: whatever the server says.
        sha256: hexadecimal; None: unknown.
    """

    url: str
    size: int | None = None
    sha256: str | None = None


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
    _OneStream(remote, target, advance, announce, limits or Limits()).run()


@dataclass
class _OneStream:
    remote: RemoteFile
    target: Path
    advance: Callable[[int], None]
    announce: Callable[[int | None], None]
    limits: Limits
    # The furthest byte that ever came, and when: coming that far again is no progress.
    _best: int = 0
    _progressed: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.part = self.target.with_name(f"{self.target.name}.part")
        self.note = self.target.with_name(f"{self.target.name}.part.json")

    def run(self) -> None:
        self.advance(self._kept()[0])
        try:
            patiently(self._attempt, lambda error: isinstance(error, PassingError), self._left)
        except PassingError as error:
            have, _ = self._kept()
            kept = f"; {have} bytes are kept and the same command goes on from there" if have else ""
            reason = f"{error} for {self.limits.timeout:.0f} s{kept}"
            raise PlaceError(errno.ETIMEDOUT, reason, self.remote.url) from error
        self._verify()
        self.part.replace(self.target)
        self.note.unlink(missing_ok=True)

    def _left(self) -> float:
        return self.limits.timeout - (time.monotonic() - self._progressed)

    def _kept(self) -> tuple[int, str]:
        """Bytes that have come so far, and their version for `If-Range`; 0 where they are of no use."""
        try:
            note = json.loads(self.note.read_text())
            if note["url"] == self.remote.url:
                return self.part.stat().st_size, str(note["version"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            pass
        return 0, ""

    def _forget(self) -> None:
        self.advance(-self._kept()[0])
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def _outdated(self) -> PassingError:
        self._forget()
        return PassingError("the file was changed on the server while it came")

    def _attempt(self) -> None:
        """Fetches what is missing."""
        have, version = self._kept()
        headers = {"Accept-Encoding": "identity", "User-Agent": "r2d2-data"}
        if have:
            # With another version than that of `If-Range` the server sends all of it.
            headers |= {"Range": f"bytes={have}-"} | ({"If-Range": version} if version else {})
        with _asking(self.remote, headers, self.limits) as answer:
            self._check_status(answer)
            total = self._total(answer, have)
            if have and answer.status_code != _PARTIAL:
                self._forget()
                have = 0
            self._remember(answer, have)
            self.announce(total)
            have = self._receive(answer, have, total)
        if total is not None and have != total:
            raise PassingError(f"the answer ended after {have} of {total} bytes")

    def _check_status(self, answer: Any) -> None:
        status, said = answer.status_code, f"the server answers {answer.status_code} ({answer.reason})"
        if status == _BEYOND_THE_END:
            raise self._outdated()
        if status in _PASSING:
            wait = answer.headers.get("Retry-After", "")
            time.sleep(max(0.0, min(float(wait) if wait.isdecimal() else 0.0, self._left())))
            raise PassingError(said)
        if status not in (200, _PARTIAL):
            raise PlaceError(errno.ENOENT, said, self.remote.url)
        if answer.headers.get("Content-Type", "").lower().startswith(("text/html", "application/xhtml+xml")):
            reason = "the server sends a web page instead of the file (its address may have changed)"
            raise FileError(errno.EBADMSG, reason, self.remote.url)

    def _total(self, answer: Any, have: int) -> int | None:
        """The size of the whole that an answer is about; None if it does not say."""
        length = answer.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
        if answer.status_code == _PARTIAL:
            span, _, whole = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
            if span.partition("-")[0] != str(have):
                raise self._outdated()
            total = int(whole) if whole.isdecimal() else None if total is None else have + total
        if self.remote.size is not None and total not in (None, self.remote.size):
            raise self._other(f"the server has {total} bytes; they should be {self.remote.size}")
        return total

    def _receive(self, answer: Any, have: int, total: int | None) -> int:
        """Writes what comes; returns how much there is then."""
        begun, first, slowest = time.monotonic(), have, self.limits.slowest
        with self.part.open("ab") as file:
            for data in steady(lambda most: _come(answer, most), self.limits.read, slowest):
                if total is not None and have + len(data) > total:
                    raise self._outdated()
                file.write(data)
                have += len(data)
                self.advance(len(data))
                now = time.monotonic()
                if have > self._best:
                    self._best = have
                    if now - begun <= (have - first) / slowest:
                        self._progressed = now
        return have

    def _remember(self, answer: Any, have: int) -> None:
        """Notes which version comes now; bytes that no note describes are gone."""
        etag = answer.headers.get("ETag", "")
        version = ("" if etag.startswith("W/") else etag) or answer.headers.get("Last-Modified", "")
        if not have:
            self.part.write_bytes(b"")
        with atomic_file(self.note) as file:
            file.write(json.dumps({"url": self.remote.url, "version": version}).encode())

    def _verify(self) -> None:
        size = self.part.stat().st_size
        if self.remote.size not in (None, size):
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
    """The answer behind all redirections, each checked before it is followed; its body is still to come."""
    import requests

    url, known, waits = remote.url, remote.sha256 is not None, (limits.connect, limits.read)
    check_address(url, known)
    try:
        with requests.Session() as session:
            for _ in range(1 + MAX_REDIRECTS):
                with session.get(
                    url, headers=headers, stream=True, timeout=waits, allow_redirects=False
                ) as answer:
                    if not answer.is_redirect:
                        yield answer
                        return
                    url = redirected(url, answer.headers["Location"], known)
        raise PlaceError(errno.ELOOP, f"it redirects more than {MAX_REDIRECTS} times", remote.url)
    except requests.exceptions.SSLError as error:
        raise PlaceError(errno.EACCES, "the server's certificate is not trusted", url) from error
    except requests.exceptions.Timeout as error:
        raise PassingError("the server does not answer") from error
    except ValueError as error:
        # requests reads the redirection as well, though it is not to follow it.
        raise PlaceError(errno.EINVAL, f"it is no address, or redirects to none ({error})", url) from error
    except requests.exceptions.RequestException as error:
        raise PassingError(f"the connection fails ({_innermost(error)})") from error


def _come(answer: Any, most: int) -> bytes:
    """What has come of a body, at most so many bytes; unlike what requests offers, a trickle is seen."""
    import urllib3

    try:
        data: bytes = answer.raw.read1(most)
        return data
    except urllib3.exceptions.TimeoutError as error:
        raise PassingError("the server stopped sending") from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise PassingError(f"the connection was cut ({_innermost(error)})") from error


def _innermost(error: BaseException) -> str:
    """The first cause, without the libraries' wrapping."""
    while isinstance(inner := getattr(error, "reason", None) or next(iter(error.args), None), BaseException):
        error = inner
    text = str(inner or error).rpartition(": ")[2] or type(error).__name__
    return text.strip("')\"")
