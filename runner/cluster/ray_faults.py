"""Turns faults of starting Ray, joining a cluster or asking its job server into a sentence with a remedy."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from search_spaces.sweep import home_folder

# Ray's word for a cluster that it starts for this process alone.
OWN = "local"

_DASHBOARD = ("http://", "https://")
# What Ray says of two versions, one after the other: those of the cluster, then those of this process.
_VERSIONS = re.compile(r"Ray: (\S+)\s+Python: (\S+)")
_LONGEST = 300


@contextmanager
def plain_faults(address: str) -> Iterator[None]:
    """Turns whatever Ray raises in the block into a ValueError that says what is wrong at `address`.

    Ray has no exception class for them: they are RuntimeError, OSError, RayError or bare Exception.

    Args:
        address: of the cluster or its dashboard; `local`: of one that is started here.

    Raises:
        ValueError: see `ray_fault`.
    """
    try:
        yield
    except Exception as error:
        raise ValueError(ray_fault(error, address)) from error


def ray_fault(error: BaseException, address: str) -> str:
    """Says in one sentence what is wrong, and what to do about it.

    Args:
        error: of Ray's start, join or job server.
        address: as of `plain_faults`.
    """
    chain = _chain(error)
    # Some come with the traceback of another process as their text.
    text = " ".join(f"{type(link).__name__}: {link}" for link in chain)
    if "AuthenticationError" in text:
        return (
            f"{_named(address)} refuses the token, or asks for one; set RAY_AUTH_MODE=token and the "
            "cluster's own token in RAY_AUTH_TOKEN or ~/.ray/auth_token"
        )
    versions = _VERSIONS.findall(text)
    if len(versions) > 1:
        return _other_version(_named(address), *versions[:2])
    if "AF_UNIX path length" in text:
        folder = _temporary()
        return (
            f"Ray's temporary folder has too long a path for sockets ({folder}, {len(folder)} characters): "
            "set RAY_TMPDIR to a short one, such as /tmp"
        )
    reason = _reason(chain[-1])
    if address == OWN:
        return _not_started(reason)
    if "Request failed with status" in text:
        return f"the job server at {address} refuses what it is asked: {reason}"
    if address.startswith(_DASHBOARD):
        return f"no job server answers at {address} ({reason}); give the dashboard's address, https://HEAD or http://localhost:8265"
    return f"no Ray cluster answers at {address}: {reason}"


def refuse_dashboard(address: str, answer: bytes) -> None:
    """Refuses a web server as a cluster's address: a cluster is joined at another port.

    Args:
        address: the address that the user gave for a cluster.
        answer: what listens there said when it was asked for a page; nothing if it was not.

    Raises:
        ValueError: if it is a web server.
    """
    if address.startswith(_DASHBOARD) or answer.startswith(b"HTTP/"):
        raise ValueError(
            f"{address} is the address of a dashboard or another web server; a cluster is joined at "
            "HOST:6379, at ray://HOST:10001, or with `auto` on one of its nodes; r2d2 submit takes the "
            "dashboard's"
        )


def make_token_folder() -> None:
    """Makes the folder in which Ray keeps a token, for this user alone: Ray lets everybody read the token.

    Raises:
        ValueError: if there is no home folder, or none that can be written.
    """
    folder = home_folder() / ".ray"
    given = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if given or os.environ.get("RAY_AUTH_MODE") == "disabled":
        return
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid == os.getuid():
            folder.chmod(0o700)
    except OSError as error:
        raise ValueError(
            f"Ray keeps its token in {folder}, which cannot be written ({error.strerror}); set HOME to a "
            "folder that you can write"
        ) from error


def _chain(error: BaseException) -> list[BaseException]:
    """Returns the error and its causes."""
    found: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in found:
        found.append(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return found


def _reason(error: BaseException) -> str:
    """Returns the last line of an error's text, or its kind."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].strip()[:_LONGEST]


def _named(address: str) -> str:
    return "Ray on this machine" if address == OWN else f"the cluster at {address}"


def _temporary() -> str:
    return os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108  (Ray's own choice)


def _other_version(cluster: str, theirs: tuple[str, str], ours: tuple[str, str]) -> str:
    return (
        f"{cluster} runs Ray {theirs[0]} on Python {theirs[1]}, this command Ray {ours[0]} on Python "
        f"{ours[1]}, and both must be the same: install the one here or the other there"
    )


def _not_started(reason: str) -> str:
    logs = f"{_temporary()}/ray/session_latest/logs"
    if "timed out" in reason.lower():
        load = f"{os.getloadavg()[0]:.0f} processes for {os.cpu_count()} CPUs"
        return (
            f"Ray did not start in time: this machine may be overloaded (at the moment {load}) or short of "
            f"memory; try again when it is not. Ray's own words are in {logs}"
        )
    return f"Ray cannot be started on this machine: {reason}; its own words are in {logs}"
