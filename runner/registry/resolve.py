"""Model sources: `runs:/...`, `models:/...` and checkpoint URIs, as folders on this machine."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from r2d2.storage.cache import CacheSettings
from r2d2.storage.location import is_remote, local_path
from r2d2.storage.s3 import TIMEOUT
from runner.registry.package import CHECKPOINT_PATH
from runner.tracking.experiments import Tracker
from runner.tracking.run import BEST_CHECKPOINT
from runner.tracking.store import root_cause

_FORMS = "runs:/RUN_ID, runs:/RUN_ID/PATH, models:/NAME@ALIAS or models:/NAME/VERSION"


def resolve_model(uri: str, tracker: Tracker, cache: Path | None = None) -> Path:
    """The folder of the checkpoint that a URI names; what is elsewhere is downloaded.

    Args:
        uri: `runs:/RUN_ID` (its best checkpoint), `runs:/RUN_ID/PATH` (an artifact of the run),
            `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        tracker: the MLflow store that knows it.
        cache: where downloads go; None: a temporary folder.

    Raises:
        ValueError: if the URI has another form, or what it names is not there.
    """
    scheme, _, rest = uri.partition(":/")
    if scheme == "runs" and rest:
        run_id, _, path = rest.partition("/")
        run = tracker.get_run(run_id)
        if path:
            return _download(tracker, tracker.client.get_run(run_id).info.artifact_uri, path, uri, cache)
        if BEST_CHECKPOINT not in run.tags:
            raise ValueError(f"{uri}: run '{run.name}' has no checkpoint")
        return local_checkpoint(run.tags[BEST_CHECKPOINT], cache, tracker.s3_timeout)
    if scheme == "models":
        return _download(tracker, _package_location(rest, uri, tracker), CHECKPOINT_PATH, uri, cache)
    raise ValueError(f"'{uri}' names no model; write {_FORMS}")


def local_checkpoint(uri: str, cache: Path | None = None, timeout: float = TIMEOUT) -> Path:
    """The folder of a checkpoint, downloaded if it lies on S3.

    Raises:
        ValueError: if it is not there, or lies elsewhere.
    """
    if is_remote(uri):
        objects = None if cache is None else CacheSettings(str(cache / "objects"), sys.maxsize, timeout)
        return local_path(uri, objects, timeout)
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file"):
        raise ValueError(f"the checkpoint {uri} is neither in a folder nor on S3, where sweeps keep theirs")
    folder = Path(unquote(parts.path) if parts.scheme else uri)
    if not folder.exists():
        raise ValueError(f"the checkpoint {folder} is not there (any more)")
    return folder


def _package_location(text: str, uri: str, tracker: Tracker) -> str:
    name, at, alias = text.partition("@")
    if not at:
        name, _, number = text.partition("/")
        if not number.isdecimal():
            raise ValueError(f"'{uri}' names no model version; write {_FORMS}")
    try:
        version = tracker.client.get_model_version_by_alias(name, alias).version if at else number
        return str(tracker.client.get_model_version_download_uri(name, str(version)))
    except MlflowException as error:
        raise ValueError(f"{uri} is not in the registry: {error.message.splitlines()[0]}") from error


def _download(tracker: Tracker, location: str, path: str, uri: str, cache: Path | None) -> Path:
    repository = get_artifact_repository(location, tracking_uri=tracker.tracking_uri)
    try:
        # Without a destination what lies on this machine is used in place.
        target = None if urlsplit(location).scheme in ("", "file") else _destination(cache)
        return Path(repository.download_artifacts(path, target))  # type: ignore[no-untyped-call]
    except Exception as error:
        raise ValueError(f"{uri} has no artifact '{path}': {root_cause(error)}") from error


def _destination(cache: Path | None) -> str:
    """A new folder, so that what was downloaded before is never mixed with what is downloaded now."""
    if cache is None:
        return tempfile.mkdtemp(prefix="r2d2-model-")
    folder = cache / "models"
    folder.mkdir(parents=True, exist_ok=True)
    return tempfile.mkdtemp(dir=folder)
