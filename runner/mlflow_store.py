"""The MLflow store: opened with our defaults, or refused at once with the reason."""

from __future__ import annotations

import logging
import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.telemetry import set_telemetry_client
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

ANSWER_WITHIN_S = 5.0
_CHATTY = ("mlflow.store.db.utils", "mlflow.store.model_registry.abstract_store", "mlflow.pyfunc")
_SQLITE_MAGIC = b"SQLite format 3\0"


def open_client(tracking_uri: str) -> MlflowClient:
    """MLflow's client of a store whose answer was waited for.

    Raises:
        ValueError: if the store does not answer within seconds, or cannot be opened.
    """
    _set_mlflow_up()
    _check_store(tracking_uri)
    try:
        client = MlflowClient(tracking_uri, registry_uri=tracking_uri)
        with _one_creates(tracking_uri):
            client.search_experiments(max_results=1)
    except Exception as error:
        raise ValueError(f"the MLflow store {tracking_uri} cannot be opened: {root_cause(error)}") from error
    return client


def _one_creates(uri: str) -> AbstractContextManager[object]:
    """Keeps two first commands from making the tables of a SQLite store at once: one of them would fail."""
    path = Path(uri.removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:") or not path.parent.is_dir():
        return nullcontext()
    return FileLock(path.with_name(f".{path.name}.lock"))


def root_cause(error: BaseException) -> str:
    """What went wrong in the first place, without the layers around it."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _set_mlflow_up() -> None:
    """Our defaults for MLflow's client; the environment overrides them.

    No usage statistics are sent to MLflow's makers; no links, bars and migrations are printed; a server that
    went away is given up after seconds instead of minutes: whoever logs is told, and tells it again later.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    set_telemetry_client()  # type: ignore[no-untyped-call]
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


def _check_store(uri: str) -> None:
    scheme = urlsplit(uri).scheme
    if scheme in ("http", "https"):
        _check_server(uri)
    elif scheme == "sqlite":
        _check_sqlite(Path(uri.removeprefix("sqlite:///")))
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
        raise ValueError(f"the MLflow server at {uri} does not answer: {root_cause(error)}") from error
    if response.status_code in (401, 403):
        raise ValueError(
            f"the MLflow server at {uri} refuses access (status {response.status_code}); set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        )
    if response.status_code != 200:
        raise ValueError(f"what answers at {uri} is no working MLflow server: status {response.status_code}")


def _check_sqlite(path: Path) -> None:
    """Looks at the file first, because MLflow would retry a damaged one for minutes."""
    if path.is_file():
        with path.open("rb") as file:
            start = file.read(len(_SQLITE_MAGIC))
        if start not in (b"", _SQLITE_MAGIC):
            raise ValueError(f"{path} is no SQLite database; MLflow's store is one")
