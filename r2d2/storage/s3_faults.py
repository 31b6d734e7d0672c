"""Faults of an S3 server: which of them pass by themselves, and each one in a sentence."""

from __future__ import annotations

import errno
from http.client import HTTPException

from r2d2.storage.errors import FileError, PlaceError, StorageError, gone

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
_CLOCK = {"RequestTimeTooSkewed", "RequestExpired"}


class StalledError(Exception):
    """An answer that comes too slowly to wait for its end, or that ended too early."""


def passes(error: Exception) -> bool:
    """Whether a fault may pass by itself: a server that is busy, a connection that was lost."""
    import urllib3.exceptions
    from botocore import exceptions as boto
    from botocore.parsers import ResponseParserError

    if isinstance(error, boto.ClientError):
        status = _status_of(error)
        if status in _FINAL or code_of(error) == "NotImplemented":
            return False
        return status >= 500 or status in (408, 429) or code_of(error) in _BUSY
    if isinstance(error, boto.SSLError):
        return False
    lost = (
        StalledError,
        boto.ConnectionError,
        boto.HTTPClientError,
        boto.IncompleteReadError,
        boto.ResponseStreamingError,
        ResponseParserError,
        urllib3.exceptions.HTTPError,
        HTTPException,
        ConnectionError,
        TimeoutError,
    )
    return isinstance(error, lost)


def refuses_key(error: Exception) -> bool:
    """Whether the server refuses a request because of the key that it was signed with."""
    return code_of(error) in _CREDENTIALS


def refuses_renewable_key(error: Exception) -> bool:
    """Whether the server says that a key is not known (any more), or has expired."""
    return code_of(error) in _RENEWABLE


def lacks(error: Exception) -> bool:
    """Whether the server says that it cannot do what it was asked for, whoever asks."""
    return code_of(error) in ("NotImplemented", "501") or _status_of(error) == 501


def no_conditional_writes(where: str, endpoint: str) -> PlaceError:
    """The sentence for a server without what keeps two drivers from running one sweep."""
    return PlaceError(
        errno.ENOTSUP,
        f"the server {endpoint} has no conditional writes (it refuses If-None-Match), without which two "
        "drivers could run one sweep; choose another server, or a folder that all nodes share",
        where,
    )


def _status_of(error: Exception) -> int:
    from botocore.exceptions import ClientError

    if not isinstance(error, ClientError):
        return 0
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def code_of(error: Exception) -> str:
    """The code of a server's refusal, e.g. `NoSuchKey`; empty for another error."""
    from botocore.exceptions import ClientError

    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def explain(error: Exception, where: str, endpoint: str) -> StorageError:
    """The sentence for a fault that did not pass, with what was tried; never a secret.

    Args:
        error: of boto3 or of the connection.
        where: the place or object asked for, `s3://bucket/key`.
        endpoint: the server's address.
    """
    from botocore import exceptions as boto

    if isinstance(error, StorageError):
        return error
    code, bucket = code_of(error), where.removeprefix("s3://").partition("/")[0]
    tried = f"asked {endpoint} for the bucket '{bucket}' with {credentials_in_words()}"
    if code in _CREDENTIALS:
        return PlaceError(errno.EACCES, f"{_CREDENTIALS[code]} ({code}){_said(error)}; {tried}", where)
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
        advice = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        reason = f"there are no credentials: {advice}; {tried}"
        return PlaceError(errno.EACCES, reason, where)
    if isinstance(error, boto.ClientError):
        status = _status_of(error)
        kind = PlaceError if status >= 500 else FileError
        message = error.response.get("Error", {}).get("Message") or "no reason was given"
        return kind(errno.EIO, f"the server answers {code or status} ({_line(message)}); {tried}", where)
    if passes(error):
        return PlaceError(errno.ETIMEDOUT, f"the server does not answer ({_line(error)}); {tried}", where)
    return PlaceError(errno.EIO, f"{_line(error)}; {tried}", where)


def credentials_in_words() -> str:
    """Where boto3 finds credentials: the environment, a profile, or nowhere."""
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


def _said(error: Exception) -> str:
    """The server's own words, if there are any."""
    from botocore.exceptions import ClientError

    words = error.response.get("Error", {}).get("Message") if isinstance(error, ClientError) else ""
    return f", in the server's words: {_line(words)}" if words else ""


def _line(error: object) -> str:
    return " ".join(str(error).split()).rstrip(".")
