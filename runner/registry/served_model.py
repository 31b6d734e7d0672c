"""Defines the model that MLflow serves: images in, keypoints, descriptors and scores out.

Copies of this file, of the package `r2d2` and of a checkpoint make a model version; MLflow runs the copy to
load the model, so nothing is unpickled. Hence this file imports nothing of `runner`, and registers its model
with MLflow when it is run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import numpy.typing as npt
import torch
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from r2d2.checkpoint import load_model
from r2d2.data.normalisation import normalise
from r2d2.extraction.keypoints import Extractor
from r2d2.extraction.settings import ExtractionSettings

CHECKPOINT = "checkpoint"

Image = npt.NDArray[np.uint8]


class ServedModel(PythonModel):
    """Extracts keypoints with a network."""

    def load_context(self, context: PythonModelContext) -> None:
        """Loads the checkpoint, onto the GPU if there is one."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.network = load_model(Path(context.artifacts[CHECKPOINT])).network.to(device)

    # MLflow reads the annotation of `model_input`: a bare np.ndarray is the one that makes it neither guess a
    # signature nor warn.
    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002  (MLflow's interface)
        model_input: np.ndarray,
        params: dict[str, Any] | None = None,
    ) -> list[dict[str, npt.NDArray[np.float32]]]:
        """Extracts the keypoints of each image.

        Args:
            context: not used.
            model_input: one image (H, W, 3), a list of images, or a batch (B, H, W, 3); RGB, uint8.
            params: fields of `ExtractionSettings`; what is left out has its default.

        Returns:
            For each image, N keypoints, best first: `keypoints` (N, 3) x, y and patch diameter in pixels,
            `descriptors` (N, D) of unit length, `scores` (N,).

        Raises:
            ValueError: for an array that is no such image, or a parameter out of range.
        """
        extract = Extractor(self.network, ExtractionSettings(**(params or {})))
        found = [extract(normalise(image)) for image in as_images(model_input)]
        return [{"keypoints": f.keypoints, "descriptors": f.descriptors, "scores": f.scores} for f in found]


def as_images(images: Any) -> list[Image]:
    """Turns one image, a list or a batch into a list; nested lists of numbers (from JSON) will do.

    Raises:
        ValueError: says which image is wrong, and how.
    """
    alone = images.ndim == 3 if isinstance(images, np.ndarray) else bool(images) and np.ndim(images[0]) == 2
    if alone:
        images = [images]
    return [_as_image(image, number) for number, image in enumerate(images, start=1)]


def _as_image(image: Any, number: int) -> Image:
    array = np.asarray(image)
    if array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise ValueError(f"image {number} has shape {array.shape}; it must be (height, width, 3), RGB")
    if isinstance(image, list) and array.dtype.kind in "iu" and array.min() >= 0 and array.max() <= 255:
        array = array.astype(np.uint8)
    if array.dtype != np.uint8:
        raise ValueError(f"image {number} is of type {array.dtype}; it must be uint8, 0 to 255")
    return array


mlflow.models.set_model(ServedModel())
