"""Predicts the keypoints of a benchmark's images, by a network or from files made elsewhere."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from evaluation.benchmarks.hpatches import Benchmark, file_digest
from evaluation.collapse import collapse_signs
from evaluation.predictions.features import Notes, read_features
from evaluation.predictions.images import ImageStore, resized, size_at
from evaluation.predictions.store import VERSION, Arrays, PredictionStore, decode_keypoints, encode_keypoints
from evaluation.protocols import Protocol
from r2d2.checkpoint import Model
from r2d2.collapse import CollapseSigns
from r2d2.containers import Keypoints
from r2d2.data.images import ImageRefused, open_image
from r2d2.data.normalisation import normalise
from r2d2.extraction.keypoints import Extractor, arithmetic
from r2d2.extraction.settings import ExtractionSettings
from r2d2.geometry import apply_homography, resize_homography
from r2d2.processor.memory import is_of_memory

NOTHING_FOUND = (
    "no keypoints: the image is smaller than --min-size, or nothing passes --min-reliability and "
    "--min-repeatability"
)


@dataclass(frozen=True)
class Prediction:
    """A Prediction holds the keypoints of one image.

    Attributes:
        keypoints: best first; positions and `image_size` are those of the image as the protocol resizes it.
        original_size: (width, height) of the image in its file, pixels.
        seconds: the time of the extraction, when it was done; 0 if unknown.
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

    def note_emptiness(self, keypoints: Keypoints, path: Path) -> None:
        """Notes an image in which a network found nothing: its pairs count 0, which may not be meant."""
        if not len(keypoints):
            self.notes.add(NOTHING_FOUND, path)

    @abstractmethod
    def predict(self, path: Path, protocol: Protocol) -> Prediction:
        """Predicts the keypoints of an image of the benchmark.

        Raises:
            ValueError: names the file if the image or its keypoints cannot be used.
        """

    @abstractmethod
    def arithmetic(self, protocol: Protocol) -> str:
        """Names the arithmetic of the keypoints; `files` if another program computed them."""

    @abstractmethod
    def collapse(self, paths: list[Path]) -> CollapseSigns | None:
        """Looks for signs of collapse in a few images; None if there is no network."""


class NetworkPredictor(Predictor):
    """Extracts keypoints with a network, on the device where it is."""

    def __init__(self, model: Model, images: ImageStore) -> None:
        """Prepares the network for extraction.

        Args:
            model: the network.
            images: decodes them.
        """
        self.name, self.digest, self.notes = model.name, model.digest, Notes()
        self.device = next(model.network.parameters()).device
        self._network, self._images = model.network, images
        self._extractors: dict[ExtractionSettings, Extractor] = {}

    def predict(self, path: Path, protocol: Protocol) -> Prediction:
        """Extracts the keypoints of an image; see `Predictor.predict`."""
        with _naming_large(path):
            pixels = self._images.read(path)
            image = normalise(resized(pixels, protocol.shorter_side))
            extract = self._extractor(protocol.extraction)
            start = perf_counter()
            found = extract(image)
            self.note_emptiness(found, path)
            return Prediction(found, (pixels.shape[1], pixels.shape[0]), perf_counter() - start)

    def arithmetic(self, protocol: Protocol) -> str:
        """Names the arithmetic; see `r2d2.extraction.keypoints.arithmetic`."""
        return arithmetic(protocol.extraction, self.device)

    def collapse(self, paths: list[Path]) -> CollapseSigns | None:
        """Looks for signs of collapse; see `evaluation.collapse`."""
        return collapse_signs(self._network, (self._images.read(path) for path in paths))

    def _extractor(self, settings: ExtractionSettings) -> Extractor:
        if settings not in self._extractors:
            self._extractors[settings] = Extractor(self._network, settings)
        return self._extractors[settings]


class StoredPredictor(Predictor):
    """Asks another predictor only for what is not in a store yet.

    A new prediction is encoded and decoded as the store would do it, so that found and new predictions give
    the same numbers.
    """

    def __init__(self, predictor: Predictor, benchmark: Benchmark, store: PredictionStore) -> None:
        """Puts a store before another predictor.

        Args:
            predictor: is asked for what is missing.
            benchmark: whose images they are.
            store: keeps predictions and signs of collapse.
        """
        self.name, self.digest, self.device = predictor.name, predictor.digest, predictor.device
        self.notes = predictor.notes
        self._predictor, self._benchmark, self._store = predictor, benchmark, store

    def predict(self, path: Path, protocol: Protocol) -> Prediction:
        """Reads the keypoints of an image from the store, or asks the other predictor and stores them."""
        key = {
            "kind": "keypoints",
            "version": VERSION,
            "model": self.digest,
            "image": self._benchmark.image_digests[path],
            "shorter_side": protocol.shorter_side,
            "extraction": asdict(protocol.extraction),
            "arithmetic": self.arithmetic(protocol),
        }
        stored = self._store.read(key)
        if stored is not None:
            predicted = _prediction(stored, reused=True)
            self.note_emptiness(predicted.keypoints, path)
            return predicted
        made = self._predictor.predict(path, protocol)
        arrays = encode_keypoints(made.keypoints) | {
            "original_size": np.array(made.original_size, dtype=np.int64),
            "seconds": np.array(made.seconds, dtype=np.float64),
        }
        self._write(key, arrays)
        return _prediction(arrays, reused=False)

    def arithmetic(self, protocol: Protocol) -> str:
        """Names the arithmetic of the predictor that is asked."""
        return self._predictor.arithmetic(protocol)

    def collapse(self, paths: list[Path]) -> CollapseSigns | None:
        """Returns the signs of collapse that were found the first time."""
        images = [self._benchmark.image_digests[path] for path in paths]
        key = {"kind": "collapse", "version": VERSION, "model": self.digest, "images": images}
        stored = self._store.read(key)
        if stored is not None:
            return CollapseSigns(**{name: float(value) for name, value in stored.items()})
        found = self._predictor.collapse(paths)
        if found is not None:
            self._write(key, {name: np.array(value) for name, value in asdict(found).items()})
        return found

    def _write(self, key: dict[str, Any], arrays: Arrays) -> None:
        well = self._store.warning is None
        self._store.write(key, arrays)
        if well and self._store.warning is not None:
            self.notes.add(self._store.warning)


class FeaturePredictor(Predictor):
    """Reads keypoints that another program wrote beside the images, see `evaluation.predictions.features`.

    They are in pixels of the image files whatever size the program worked at. Under a protocol that resizes
    images they are moved to where the resized image shows them; the settings of extraction do not apply to
    them but for `top_k`.
    """

    def __init__(self, benchmark: Benchmark, tag: str) -> None:
        """Finds the files and digests them.

        Args:
            benchmark: whose images have a file `<image>.<tag>` each.
            tag: e.g. `superpoint`.

        Raises:
            ValueError: if an image has none; names it.
        """
        self.name, self.notes = tag, Notes()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._tag = tag
        self._dim: tuple[int, Path] | None = None
        total = hashlib.sha256()
        for image in (image for sequence in benchmark.sequences for image in sequence.images):
            path = self._file(image)
            if not path.is_file():
                raise ValueError(f"there is no file of features {path}; every image needs one beside it")
            total.update(bytes.fromhex(file_digest(path)))
        self.digest = total.hexdigest()

    def predict(self, path: Path, protocol: Protocol) -> Prediction:
        """Reads the keypoints of an image; see `Predictor.predict`."""
        with open_image(path) as image:
            size = image.size
        found = read_features(self._file(path), size, protocol.extraction.top_k, self.notes)
        self._check_dim(found, self._file(path))
        wanted = size_at(size, protocol.shorter_side)
        if wanted != size:
            places = apply_homography(resize_homography(*size, *wanted), found.keypoints[:, :2])
            scales = found.keypoints[:, 2:] * (wanted[0] / size[0])
            moved = np.hstack([places, scales]).astype(np.float32)
            found = Keypoints(moved, found.descriptors, found.scores, wanted)
        return Prediction(found, size, seconds=0.0)

    def arithmetic(self, protocol: Protocol) -> str:  # noqa: ARG002 (that of files is the same in all)
        """Returns `files`: the keypoints were computed elsewhere."""
        return "files"

    def collapse(self, paths: list[Path]) -> CollapseSigns | None:  # noqa: ARG002 (there is nothing to look at)
        """Returns None: there is no network."""
        return None

    def _file(self, image: Path) -> Path:
        return image.with_name(f"{image.name}.{self._tag}")

    def _check_dim(self, found: Keypoints, path: Path) -> None:
        if not len(found):
            return
        dim = found.descriptors.shape[1]
        if self._dim is None:
            self._dim = dim, path
        elif self._dim[0] != dim:
            raise ValueError(
                f"{path} has descriptors of {dim} numbers and {self._dim[1]} of {self._dim[0]}; "
                "all must have the same"
            )


def _prediction(arrays: Arrays, reused: bool) -> Prediction:
    width, height = (int(side) for side in arrays["original_size"])
    return Prediction(decode_keypoints(arrays), (width, height), float(arrays["seconds"]), reused)


@contextmanager
def _naming_large(path: Path) -> Iterator[None]:
    """Turns a lack of memory into a refusal that names the image.

    Raises:
        ImageRefused: says how large the image is.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_of_memory(error):
            raise
        with open_image(path) as image:
            width, height = image.size
        reason = f"{width} x {height} pixels are too many for the memory of this machine"
        raise ImageRefused(path, f"{reason}; a smaller --max-size needs less") from error
