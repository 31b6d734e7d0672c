"""Opens the MLflow store with our defaults, or refuses it at once with the reason.

It also describes what made a run: the code as tags, and the environment.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import logging
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.telemetry import set_telemetry_client
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.mlflow_tags import (
    MLFLOW_GIT_BRANCH,
    MLFLOW_GIT_COMMIT,
    MLFLOW_GIT_DIRTY,
    MLFLOW_SOURCE_NAME,
    MLFLOW_SOURCE_TYPE,
)
from mlflow.utils.rest_utils import http_request

from r2d2.source_code import SourceCode
from r2d2.version import PROJECT
from runner.cluster.processors import usable_cpus
from runner.tracking.moved_home import follow_home

ANSWER_WITHIN_S = 10.0
_CHATTY = ("mlflow.store.db.utils", "mlflow.store.model_registry.abstract_store", "mlflow.pyfunc")
# What a proxy says for a server that is not there.
_AWAY = (502, 503, 504)
# Letters that are shown of a server's own words.
_WORDS = 200
_SQLITE_MAGIC = b"SQLite format 3\0"
_DIRTY = "-dirty"


class ServerAwayError(ValueError):
    """Says that the MLflow server does not answer."""


class TrackingError(RuntimeError):
    """Says that MLflow did not take what was logged; it may be logged again later."""


@contextmanager
def as_tracking_error(*errors: type[Exception]) -> Iterator[None]:
    """Turns MLflow's exceptions, and `errors`, into a TrackingError with the root cause."""
    kinds: tuple[type[Exception], ...] = (MlflowException, *errors)
    try:
        yield
    except kinds as error:
        raise TrackingError(root_cause(error)) from error


def open_client(
    tracking_uri: str, artifact_root: str | None = None, *, may_be_away: bool = False
) -> MlflowClient:
    """Waits for the store's answer and returns MLflow's client of it.

    Args:
        tracking_uri: of the store.
        artifact_root: folder of a local store's files, which may have been moved together with it.
        may_be_away: whether a server that does not answer is accepted, as one that will later.

    Raises:
        ServerAwayError: if the server does not answer within seconds.
        ValueError: if the store refuses access, or cannot be opened.
    """
    _set_mlflow_up()
    try:
        check_store(tracking_uri)
    except ServerAwayError:
        if not may_be_away:
            raise
        return MlflowClient(tracking_uri, registry_uri=tracking_uri)
    try:
        with _one_creates(tracking_uri):
            if tracking_uri.startswith("sqlite:") and artifact_root is not None:
                follow_home(_database(tracking_uri), Path(artifact_root))
            client = MlflowClient(tracking_uri, registry_uri=tracking_uri)
            client.search_experiments(max_results=1)
    except Exception as error:
        shown = without_password(tracking_uri)
        raise ValueError(f"the MLflow store {shown} cannot be opened: {root_cause(error)}") from error
    return client


def _one_creates(uri: str) -> AbstractContextManager[object]:
    """Keeps two first commands from making the tables of a SQLite store at once: one of them would fail."""
    path = _database(uri)
    if not uri.startswith("sqlite:") or not path.parent.is_dir():
        return nullcontext()
    return FileLock(path.with_name(f".{path.name}.lock"))


def _database(uri: str) -> Path:
    """Returns the file of a SQLite store."""
    return Path(uri.removeprefix("sqlite:///"))


def without_password(uri: str) -> str:
    """Returns a tracking URI as it may be shown and stored."""
    parts = urlsplit(uri)
    if parts.password is None:
        return uri
    return uri.replace(f":{parts.password}@", ":***@", 1)


def root_cause(error: BaseException) -> str:
    """Finds what went wrong in the first place, without the layers around it."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _set_mlflow_up() -> None:
    """Sets our defaults for MLflow's client; the environment overrides them.

    No usage statistics are sent to MLflow's makers; no links, bars and migrations are printed. A request is
    made once: the reporter tries again later, and checks first whether only the answer was lost.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    set_telemetry_client()  # type: ignore[no-untyped-call]
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


def check_store(uri: str) -> None:
    """Asks a server once, looks at a file once.

    Raises:
        ServerAwayError: if the server does not answer.
        ValueError: if it refuses access, or is no store of MLflow's.
    """
    scheme = urlsplit(uri).scheme
    if scheme in ("http", "https") and urlsplit(uri).password is not None:
        raise ValueError(
            f"MLFLOW_TRACKING_URI holds a password ({without_password(uri)}), which would be shown where "
            "jobs are; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead"
        )
    if scheme in ("http", "https"):
        _check_server(uri)
    elif scheme == "sqlite":
        _check_sqlite(_database(uri))
    elif scheme in ("", "file"):
        raise ValueError(
            f"MLflow keeps no runs in folders such as '{uri}'; use sqlite:///FILE or http(s)://SERVER"
        )


def _check_server(uri: str) -> None:
    """Asks once, where MLflow's own client would try again for minutes."""
    try:
        response = http_request(  # type: ignore[no-untyped-call]
            get_default_host_creds(uri),  # type: ignore[no-untyped-call]
            "/api/2.0/mlflow/experiments/search",
            "POST",
            json={"max_results": 1},
            max_retries=0,
            timeout=ANSWER_WITHIN_S,
            raise_on_status=False,
        )
    except MlflowException as error:
        raise ServerAwayError(f"the MLflow server at {uri} does not answer: {root_cause(error)}") from error
    status = response.status_code
    said = f"status {status}{_own_words(response.text)}"
    if status in (401, 403):
        raise ValueError(f"the MLflow server at {uri} refuses access: {said}{_advice(status, response.text)}")
    if status in _AWAY:
        raise ServerAwayError(f"the MLflow server at {uri} does not answer: {said}")
    if status != 200:
        raise ValueError(f"what answers at {uri} is no working MLflow server: {said}")


def _own_words(text: str) -> str:
    """Returns a server's reason for a refusal: the message of MLflow's JSON, or a line of text."""
    try:
        message = str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        message = "" if text.lstrip().startswith("<") else text
    words = " ".join(message.split())
    return f", '{words[:_WORDS]}'" if words else ""


def _advice(status: int, text: str) -> str:
    """Says what can be done, if the server's words or its status leave one cause."""
    if "host header" in text.lower():
        return (
            "; its operator adds the name in this address to the names that it answers to "
            "(mlflow server --allowed-hosts, or MLFLOW_SERVER_ALLOWED_HOSTS)"
        )
    login = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
    if status == 401:
        return f"; set {login}, or correct them"
    return f"; if it knows users, {login} must be those of one who may do this"


def _check_sqlite(path: Path) -> None:
    """Looks at the file first, because MLflow would retry a damaged one for minutes."""
    if path.is_file():
        with path.open("rb") as file:
            start = file.read(len(_SQLITE_MAGIC))
        if start not in (b"", _SQLITE_MAGIC):
            raise ValueError(f"{path} is no SQLite database; MLflow's store is one")


def code_tags(code: SourceCode) -> dict[str, str]:
    """Returns tags that name code: its commit, branch and whether the tree differs, or the package's version.

    Those of git are the keys under which MLflow's pages look for them.
    """
    # Without a source MLflow's pages do not show the commit.
    tags = {"r2d2.code_version": code.version, MLFLOW_SOURCE_NAME: PROJECT, MLFLOW_SOURCE_TYPE: "LOCAL"}
    if code.commit:
        is_dirty = code.version.endswith(_DIRTY) or bool(code.diff)
        tags |= {MLFLOW_GIT_COMMIT: code.commit, MLFLOW_GIT_DIRTY: str(is_dirty).lower()}
    return tags | ({MLFLOW_GIT_BRANCH: code.branch} if code.branch else {})


@functools.cache
def environment() -> Mapping[str, Any]:
    """Lists the system and every installed package with its version, for `environment.json`; reads once."""
    packages = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    return {
        "python": sys.version.split()[0],
        "system": platform.platform(),
        "machine": platform.machine(),
        "cpus": usable_cpus(),
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    }
