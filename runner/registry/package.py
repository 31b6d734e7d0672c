"""Packages a model version: a checkpoint, the code that runs it, and what it takes and returns.

It also finds models by name: `runs:/...` and `models:/...` as folders on this machine.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import tempfile
from dataclasses import fields
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow.pyfunc
import numpy as np
import numpy.typing as npt
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import Array

import r2d2
from r2d2.checkpoint import WEIGHTS
from r2d2.config import CONFIG_FILE
from r2d2.extraction.settings import ExtractionSettings
from r2d2.formats.optimiser_file import OPTIMISER
from r2d2.storage.location import is_remote, local_path
from r2d2.storage.s3 import TIMEOUT
from r2d2.storage.scratch import lasting_scratch_folder, scratch_folder
from runner.tracking.experiments import Tracker
from runner.tracking.run import BEST_CHECKPOINT
from runner.tracking.store import root_cause

CHECKPOINT = "checkpoint"
CHECKPOINT_PATH = f"artifacts/{CHECKPOINT}"
"""Where the checkpoint lies within a package."""

REQUIREMENTS = ("mlflow", "numpy", "pillow", "safetensors", "torch")

_FORMS = "runs:/RUN_ID, runs:/RUN_ID/PATH, models:/NAME@ALIAS or models:/NAME/VERSION"
_SERVED_MODEL = Path(__file__).with_name("served_model.py")
_TYPES = {
    bool: DataType.boolean,
    int: DataType.long,
    float: DataType.double,
    str: DataType.string,
}


def save_package(checkpoint: Path, target: Path, model: Model) -> None:
    """Writes the MLflow model folder `target`.

    The package `r2d2` is stored with the checkpoint, so that a version gives the same answers when the code
    has changed, and can be served where this project is not installed. Nothing is pickled, and nothing is
    downloaded.

    Args:
        checkpoint: a checkpoint's folder.
        target: a folder that does not exist yet.
        model: MLflow's header, filled in.

    Raises:
        ValueError: if a file of the checkpoint is a link or no regular file.
    """
    with scratch_folder() as scratch:
        # Under one name, whatever the folder was called, and without what others put beside a checkpoint.
        copy = scratch / CHECKPOINT
        _copy_checkpoint(checkpoint, copy)
        mlflow.pyfunc.save_model(
            path=str(target),
            mlflow_model=model,
            python_model=str(_SERVED_MODEL),
            artifacts={CHECKPOINT: str(copy)},
            code_paths=[str(Path(r2d2.__file__).parent)],
            signature=signature(),
            input_example=_example(),
            pip_requirements=[_pinned(name) for name in REQUIREMENTS],
        )
    for cache in target.rglob("__pycache__"):
        shutil.rmtree(cache)


def _copy_checkpoint(checkpoint: Path, copy: Path) -> None:
    """Copies the files that make a checkpoint, by name: what else lies there is not published.

    A link is refused: whatever it points to on this machine would become part of the model.
    """
    copy.mkdir()
    for name in (CONFIG_FILE, WEIGHTS, OPTIMISER):
        file = checkpoint / name
        if file.is_symlink() or (file.exists() and not file.is_file()):
            raise ValueError(f"{file} is a link or no regular file; only regular files are published")
        if file.is_file():
            shutil.copyfile(file, copy / name)


def signature() -> ModelSignature:
    """Says what a model takes (images; the fields of ExtractionSettings as parameters) and returns."""
    number = DataType.float
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec(Array(Array(number)), "keypoints"),
        ColSpec(Array(Array(number)), "descriptors"),
        ColSpec(Array(number), "scores"),
    ]
    defaults = ExtractionSettings()
    params = [
        ParamSpec(field.name, _TYPES[type(getattr(defaults, field.name))], getattr(defaults, field.name))
        for field in fields(defaults)
    ]
    images = TensorSpec(np.dtype(np.uint8), (-1, -1, -1, 3), "images")
    made = ModelSignature(Schema([images]), Schema(outputs), ParamSchema(params))
    # MLflow would refuse a single image and a list of images of several sizes, which no tensor describes.
    # This leaves the check to the model's own `predict`, as for a signature that MLflow reads off type hints.
    made._is_signature_from_type_hint = True
    return made


def _example() -> npt.NDArray[np.uint8]:
    """Returns a small image that shows the form."""
    rows, columns = np.mgrid[:32, :32]
    return np.stack([rows * 8, columns * 8, rows * columns // 4], axis=-1).astype(np.uint8)[None]


def _pinned(package: str) -> str:
    # A local part such as "+cpu" names a build that no registry has.
    return f"{package}=={importlib.metadata.version(package).partition('+')[0]}"


def resolve_model(uri: str, tracker: Tracker) -> Path:
    """Finds the folder of the checkpoint that a URI names; remote files are downloaded for this process.

    Args:
        uri: `runs:/RUN_ID` (its best checkpoint), `runs:/RUN_ID/PATH` (an artifact of the run),
            `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        tracker: the MLflow store that knows it.

    Raises:
        ValueError: if the URI has another form, or what it names is not there.
    """
    scheme, _, rest = uri.partition(":/")
    if scheme == "runs" and rest:
        run_id, _, path = rest.partition("/")
        run = tracker.get_run(run_id)
        if path:
            return _download(tracker, tracker.client.get_run(run_id).info.artifact_uri, path, uri)
        if BEST_CHECKPOINT not in run.tags:
            raise ValueError(f"{uri}: run '{run.name}' has no checkpoint")
        return local_checkpoint(run.tags[BEST_CHECKPOINT], tracker.s3_timeout)
    if scheme == "models":
        version = registered_version(uri, tracker)
        location = tracker.client.get_model_version_download_uri(version.name, str(version.version))
        return _download(tracker, location, CHECKPOINT_PATH, uri)
    raise ValueError(f"'{uri}' names no model; write {_FORMS}")


def local_checkpoint(uri: str, timeout: float = TIMEOUT) -> Path:
    """Returns the folder of a checkpoint, downloaded if it lies on S3.

    Raises:
        ValueError: if it is not there, or lies elsewhere.
    """
    if is_remote(uri):
        return local_path(uri, timeout=timeout)
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file"):
        raise ValueError(f"the checkpoint {uri} is neither in a folder nor on S3, where sweeps keep theirs")
    folder = Path(unquote(parts.path) if parts.scheme else uri)
    if not folder.exists():
        raise ValueError(f"the checkpoint {folder} is not there (any more)")
    return folder


def registered_version(uri: str, tracker: Tracker) -> ModelVersion:
    """Finds the model version that `models:/NAME@ALIAS` or `models:/NAME/VERSION` names.

    Raises:
        ValueError: if the URI has another form, or the registry does not know the version.
    """
    name, at, alias = uri.partition(":/")[2].partition("@")
    if not at:
        name, _, number = name.partition("/")
        if not number.isdecimal():
            raise ValueError(f"'{uri}' names no model version; write {_FORMS}")
    try:
        if at:
            return tracker.client.get_model_version_by_alias(name, alias)
        return tracker.client.get_model_version(name, number)
    except MlflowException as error:
        raise ValueError(f"{uri} is not in the registry: {error.message.splitlines()[0]}") from error


def _download(tracker: Tracker, location: str, path: str, uri: str) -> Path:
    repository = get_artifact_repository(location, tracking_uri=tracker.tracking_uri)
    try:
        # Without a destination what lies on this machine is used in place. A new folder otherwise: what was
        # downloaded before is never mixed with what is downloaded now.
        here = urlsplit(location).scheme in ("", "file")
        target = None if here else tempfile.mkdtemp(dir=lasting_scratch_folder())
        return Path(repository.download_artifacts(path, target))  # type: ignore[no-untyped-call]
    except Exception as error:
        raise ValueError(f"{uri} has no artifact '{path}': {root_cause(error)}") from error
