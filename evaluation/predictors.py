"""Predictors: what gives the keypoints of a benchmark's images, a network or files made elsewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch

from evaluation.collapse import CollapseSigns, collapse_signs
from evaluation.hpatches import Benchmark
from evaluation.images import ImageStore, resized
from evaluation.notes import Notes
from evaluation.protocols import Protocol
from r2d2.checkpoint import Model
from r2d2.containers import Keypoints
from r2d2.data.images import ImageRefused, normalise, open_image
from r2d2.keypoints import arithmetic, extract_keypoints


@dataclass(frozen=True)
class Prediction:
    """The keypoints of one image.

    Attributes:
        keypoints: best first; positions and `image_size` are those of the image as the protocol resizes it.
        original_size: (width, height) of the image in its file, pixels.
        seconds: that the extraction took, when it was done; 0 if nobody knows.
        reused: whether it was done at another time.
    """

    keypoints: Keypoints
    original_size: tuple[int, int]
    seconds: float
    reused: bool = False


class Predictor(ABC):
    """Gives keypoints for the images of one benchmark.

    Attributes:
        name: for titles.
        digest: SHA-256 (hexadecimal) of whatever decides the keypoints.
        device: where their descriptors are matched.
        notes: what was repaired on the way.
    """

    name: str
    digest: str
    device: torch.device
    notes: Notes

    @abstractmethod
    def predict(self, path: Path, protocol: Protocol) -> Prediction:
        """The keypoints of an image of the benchmark.

        Raises:
            ValueError: names the file if the image or its keypoints cannot be used.
        """

    @abstractmethod
    def arithmetic(self, protocol: Protocol) -> str:
        """In which arithmetic the keypoints are computed; `files` if that was done elsewhere."""

    @abstractmethod
    def collapse(self, paths: list[Path]) -> CollapseSigns | None:
        """Signs of collapse in a few images; None if there is no network to look at."""


class NetworkPredictor(Predictor):
    """Extracts keypoints with a network, on the device where it is."""

    def __init__(self, model: Model, benchmark: Benchmark, images: ImageStore) -> None:
        """A predictor.

        Args:
            model: the network.
            benchmark: whose images are asked for.
            images: decodes them.
        """
        self.name, self.digest, self.notes = model.name, model.digest, Notes()
        self.device = next(model.network.parameters()).device
        self._network, self._benchmark, self._images = model.network, benchmark, images

    def predict(self, path: Path, protocol: Protocol) -> Prediction:
        """See `Predictor.predict`."""
        with _naming_large(path):
            pixels = self._images.read(path)
            image = normalise(resized(pixels, protocol.shorter_side))
            start = perf_counter()
            found = extract_keypoints(self._network, image, protocol.extraction)
            return Prediction(found, (pixels.shape[1], pixels.shape[0]), perf_counter() - start)

    def arithmetic(self, protocol: Protocol) -> str:
        """See `r2d2.keypoints.arithmetic`."""
        return arithmetic(protocol.extraction, self.device)

    def collapse(self, paths: list[Path]) -> CollapseSigns | None:
        """See `evaluation.collapse`."""
        return collapse_signs(self._network, (self._images.read(path) for path in paths))


@contextmanager
def _naming_large(path: Path) -> Iterator[None]:
    """Turns a lack of memory into a refusal that names the image.

    Raises:
        ImageRefused: says how large the image is.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # The CPU's allocator of PyTorch raises a plain RuntimeError.
        short = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error)
        if not short:
            raise
        with open_image(path) as image:
            width, height = image.size
        reason = f"{width} x {height} pixels are too many for the memory of this machine"
        raise ImageRefused(path, f"{reason}; a smaller --max-size needs less") from error
