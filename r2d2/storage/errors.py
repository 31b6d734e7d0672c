"""Says in one sentence what is wrong with a place or one file of it, and whether it may pass."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

from r2d2.storage.retry import PassingError

# Python's, where it finds no folder for temporary files that it can write a few bytes into.
_NO_TEMPORARY_FOLDER = "No usable temporary directory"

_CREDENTIALS = {
    "InvalidAccessKeyId": "it does not know the access key",
    "SignatureDoesNotMatch": "the secret key does not fit the access key",
    "ExpiredToken": "the session token has expired",
    "InvalidToken": "the session token is not valid",
    "TokenRefreshRequired": "the session token has expired",
    "AccessDenied": "access is denied",
    "AllAccessDisabled": "access is denied",
    "403": "access is denied",
}
# What a server says of a key that was good and has ended; whoever issues keys may renew it.
_RENEWABLE = {"InvalidAccessKeyId", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"}
# Servers that answer so never do otherwise.
_FINAL = (501, 505)
_BUSY = {
    "SlowDown",
    "RequestTimeout",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "InternalError",
}
_VARIABLES = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
_CLOCK = {"RequestTimeTooSkewed", "RequestExpired"}


class StorageError(OSError):
    """A StorageError(errno, reason, where) says the reason in words, and the place or file it is about."""

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


class PlaceError(StorageError):
    """A place cannot be used: no credentials, no such bucket, a server that does not answer.

    No other file of the place can be had either, so a training should stop.
    """


class FileError(StorageError):
    """One file cannot be had: it is gone, it was changed, or it is corrupt. Others may well be there."""


def gone(where: str) -> FileError:
    """Makes the error for a file that was there, or should be."""
    return FileError(errno.ENOENT, "it is not there (any more)", where)


def changed(where: str, known: str, now: str = "another") -> FileError:
    """Makes the error for a file that was replaced since its place was opened."""
    reason = (
        f"it was changed while in use (when its place was opened: {known}, now: {now}); "
        "figures of both would mix: open the place anew, or put the file back"
    )
    return FileError(errno.ESTALE, reason, where)


def require_size(where: str, size: int, most: int) -> None:
    """Refuses what is larger than this program reads into memory.

    Args:
        where: it is.
        size: that it has, or that a server says, bytes.
        most: bytes.

    Raises:
        FileError: if it is larger.
    """
    if size > most:
        raise FileError(errno.EFBIG, f"it has {size} bytes; it may have at most {most}", where)


def corrupt(where: str, what: str) -> FileError:
    """Makes the error for a file whose content was wrong twice."""
    return FileError(errno.EIO, f"it is corrupt: {what}, and so it was when fetched again", where)


class DiskFull(Exception):  # noqa: N818 - it says what happened
    """A node could not write something because a disk is full, or a quota used up."""


def says_full(error: OSError) -> bool:
    """Says whether an error of the operating system, or of Python's temporary files, is about a full disk."""
    if error.errno == errno.ENOENT:
        return _NO_TEMPORARY_FOLDER in f"{error.strerror}"
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def name_full_disk(error: BaseException, path: Path) -> None:
    """Adds the path that was being written to an error that says that a disk is full, if it lacks one."""
    if isinstance(error, OSError) and says_full(error) and error.filename is None:
        error.filename = str(path)


@contextmanager
def full_disk_of(node: str) -> Iterator[None]:
    """Says which node could not write, and to which folder, if the work inside finds a disk full.

    Args:
        node: address of this one.

    Raises:
        DiskFull: in place of the operating system's error.
    """
    try:
        yield
    except OSError as error:
        if not says_full(error):
            raise
        what = error.strerror
        if error.errno != errno.ENOENT:
            # `atomic` names what it writes; what else is written at length are temporary files.
            what = f"{error.filename or tempfile.gettempdir()}: {what}"
        raise DiskFull(f"a disk of the node {node} is full ({what}); make room, then retry") from error


def passes(error: Exception) -> bool:
    """Says whether a fault may pass by itself: a server that is busy, a connection that was lost."""
    import urllib3.exceptions
    from botocore import exceptions as boto
    from botocore.parsers import ResponseParserError

    if isinstance(error, boto.ClientError):
        status, code, _ = _refusal(error)
        if status in _FINAL or code == "NotImplemented":
            return False
        return status >= 500 or status in (408, 429) or code in _BUSY
    return not isinstance(error, boto.SSLError) and isinstance(
        error,
        PassingError
        | boto.ConnectionError
        | boto.HTTPClientError
        | boto.IncompleteReadError
        | boto.ResponseStreamingError
        | ResponseParserError
        | urllib3.exceptions.HTTPError
        | HTTPException
        | ConnectionError
        | TimeoutError,
    )


def refuses_key(error: Exception) -> bool:
    """Says whether the server refuses a request because of the key that it was signed with."""
    return code_of(error) in _CREDENTIALS


def refuses_renewable_key(error: Exception) -> bool:
    """Says whether the server refuses a key as unknown (by now) or expired, so that it may be renewed."""
    return code_of(error) in _RENEWABLE


def lacks(error: Exception) -> bool:
    """Says whether the server cannot do what it was asked for, whoever asks."""
    status, code, _ = _refusal(error)
    return code in ("NotImplemented", "501") or status == 501


def code_of(error: Exception) -> str:
    """Returns the code of a server's refusal, e.g. `NoSuchKey`; empty for another error."""
    return _refusal(error)[1]


def _refusal(error: Exception) -> tuple[int, str, str]:
    """HTTP status, code and words of a server's refusal; 0 and empty for another error."""
    from botocore.exceptions import ClientError

    if not isinstance(error, ClientError):
        return 0, "", ""
    status, said = error.response.get("ResponseMetadata", {}), error.response.get("Error", {})
    return int(status.get("HTTPStatusCode", 0)), str(said.get("Code", "")), _line(said.get("Message") or "")


def explain(error: Exception, where: str, endpoint: str) -> StorageError:
    """Turns a fault that did not pass into a sentence that says what was tried, and no secret.

    Args:
        error: of boto3 or of the connection.
        where: the place or object asked for, `s3://bucket/key`.
        endpoint: the server's address.
    """
    from botocore import exceptions as boto

    if isinstance(error, StorageError):
        return error
    status, code, words = _refusal(error)
    bucket = where.removeprefix("s3://").partition("/")[0]
    tried = f"asked {endpoint} for the bucket '{bucket}' with {credentials_in_words()}"
    if code in _CREDENTIALS:
        said = f", in the server's words: {words}" if words else ""
        return PlaceError(errno.EACCES, f"{_CREDENTIALS[code]} ({code}){said}; {tried}", where)
    if code in _CLOCK:
        reason = f"this machine's clock and the server's differ too much ({code}): set the clock; {tried}"
        return PlaceError(errno.EACCES, reason, where)
    if code == "NoSuchBucket":
        return PlaceError(errno.ENOENT, f"there is no such bucket (any more); {tried}", where)
    if code in ("NoSuchKey", "404"):
        return gone(where)
    if isinstance(error, boto.ProfileNotFound):
        profile = error.kwargs.get("profile", "")
        reason = f"there is no profile '{profile}' (AWS_PROFILE) in ~/.aws/config or ~/.aws/credentials"
        return PlaceError(errno.EINVAL, reason, where)
    if isinstance(error, ValueError) and "Invalid endpoint" in str(error):
        given = str(error).partition(":")[2].strip()
        reason = f"the server's address is '{given}' (AWS_ENDPOINT_URL); write it as http(s)://HOST:PORT"
        return PlaceError(errno.EINVAL, reason, where)
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
        return PlaceError(errno.EACCES, f"there are no credentials: set {_VARIABLES}; {tried}", where)
    if isinstance(error, boto.ClientError):
        kind = PlaceError if status >= 500 else FileError
        reason = f"the server answers {code or status} ({words or 'no reason was given'}); {tried}"
        return kind(errno.EIO, reason, where)
    if passes(error):
        return PlaceError(errno.ETIMEDOUT, f"the server does not answer ({_line(error)}); {tried}", where)
    return PlaceError(errno.EIO, f"{_line(error)}; {tried}", where)


def credentials_in_words() -> str:
    """Says where boto3 finds credentials: in the environment, in a profile, or nowhere."""
    import boto3
    from botocore.exceptions import BotoCoreError

    try:
        session = boto3.Session()
        found = session.get_credentials()
    except BotoCoreError as error:
        return f"no credentials ({_line(error)})"
    if found is None:
        return "no credentials"
    if found.method == "env":
        return "credentials of the environment"
    return f"credentials of the profile '{session.profile_name}' ({found.method})"


def _line(error: object) -> str:
    return " ".join(str(error).split()).rstrip(".")
