"""The package of a model version: a checkpoint, the code that runs it, and what it takes and returns."""

from __future__ import annotations

import importlib.metadata
import shutil
from dataclasses import fields
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import numpy.typing as npt
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import Array

import r2d2
from r2d2.checkpoint import CONFIG, OPTIMISER, WEIGHTS
from r2d2.extraction.settings import ExtractionSettings
from r2d2.scratch import scratch_folder

CHECKPOINT = "checkpoint"
CHECKPOINT_PATH = f"artifacts/{CHECKPOINT}"
"""Where the checkpoint lies within a package."""

REQUIREMENTS = ("mlflow", "numpy", "pillow", "safetensors", "torch")

_SERVED_MODEL = Path(__file__).with_name("served_model.py")
_TYPES = {bool: DataType.boolean, int: DataType.long, float: DataType.double}


def save_package(checkpoint: Path, target: Path, model: Model) -> None:
    """Writes the MLflow model folder `target`.

    The package `r2d2` goes with the checkpoint, so that a version keeps giving the same answers when the code
    has moved on, and is served where this project is not installed. Nothing is pickled, and nothing is looked
    up in the network.

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
    for name in (CONFIG, WEIGHTS, OPTIMISER):
        file = checkpoint / name
        if file.is_symlink() or (file.exists() and not file.is_file()):
            raise ValueError(f"{file} is a link or no regular file; only regular files are published")
        if file.is_file():
            shutil.copyfile(file, copy / name)


def signature() -> ModelSignature:
    """What a model takes (images, and the fields of ExtractionSettings as parameters) and returns."""
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
    """A small image that shows the form."""
    rows, columns = np.mgrid[:32, :32]
    return np.stack([rows * 8, columns * 8, rows * columns // 4], axis=-1).astype(np.uint8)[None]


def _pinned(package: str) -> str:
    # A local part such as "+cpu" names a build that no registry has.
    return f"{package}=={importlib.metadata.version(package).partition('+')[0]}"
