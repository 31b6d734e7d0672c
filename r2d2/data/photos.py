"""Defines a set of photographs: which files, what identifies them, which are held out from training."""

from __future__ import annotations

import hashlib
import importlib.util
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePosixPath

from r2d2.data.images import IMAGE_SUFFIXES, ImageRefused, is_image, open_image, refuse_nothing
from r2d2.data.places import OpenPlace, content_digest, contents_of, digest_of, open_place
from r2d2.storage.errors import PlaceError
from r2d2.storage.files import FileSet, FolderFiles, StoredFile
from r2d2.storage.manifest import MANIFEST

SAMPLES = "samples"

# Photographs that installed packages ship. Left out: drawings, text, masks and micrographs, the second view
# of the motorcycle (it would put one scene on both sides of a split), clock_motion (nothing in it is sharp).
_SAMPLES = {
    "sklearn": ("datasets/images", ("china.jpg", "flower.jpg")),
    "skimage": (
        "data",
        (
            "astronaut.png",
            "brick.png",
            "camera.png",
            "chelsea.png",
            "coffee.png",
            "coins.png",
            "grass.png",
            "gravel.png",
            "hubble_deep_field.jpg",
            "moon.png",
            "motorcycle_left.png",
            "retina.jpg",
            "rocket.jpg",
        ),
    ),
    "matplotlib": ("mpl-data/sample_data", ("grace_hopper.jpg",)),
}
_DISTRIBUTIONS = {"sklearn": "scikit-learn", "skimage": "scikit-image", "matplotlib": "matplotlib"}


@dataclass(frozen=True)
class PhotoSet:
    """A PhotoSet holds photographs, in the order of their names.

    Attributes:
        files: wherever they lie.
        names: what they are called wherever the place is: their paths below it, with slashes.
    """

    files: tuple[StoredFile, ...]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        assert len(self.files) == len(self.names)
        assert list(self.names) == sorted(set(self.names)), "names must be sorted and distinct"

    def __len__(self) -> int:
        return len(self.files)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Returns the files of photographs that lie on this disk."""
        return tuple(Path(str(file)) for file in self.files)

    @cached_property
    def contents(self) -> dict[str, str]:
        """Returns the SHA-256 of each photograph by its name; it reads every file that no manifest describes.

        Raises:
            ImageRefused: if a file cannot be read.
        """
        return contents_of(zip(self.names, self.files, strict=True))

    @property
    def digest(self) -> str:
        """Returns the SHA-256 over names and contents; raises as `contents`."""
        return digest_of(self.contents)


def open_photos(name: str, places: OpenPlace = open_place) -> PhotoSet:
    """Opens the photographs of a place, or those that installed packages ship, named "samples".

    Args:
        name: "samples", a folder, or `s3://bucket/prefix`.
        places: opens a place.

    Raises:
        ValueError: if the place is missing or holds none, or a package of the samples is not installed.
        StorageError: if a place on S3 cannot be looked at.
    """
    if name == SAMPLES:
        return photo_set({file.name: file for file in _sample_files()})
    files = places(name)
    photos = {name: StoredFile(files, name) for name in files.names if is_image(name)}
    if not photos:
        raise ValueError(f"the folder '{name}' holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return photo_set(photos)


def passed_over(
    files: FileSet,
    own: str = MANIFEST,
    is_read: Callable[[str], bool] = is_image,
    why: str = "named like no image",
) -> tuple[str, ...]:
    """Says what lies at a place and is not read: files of other names, links that lead nowhere.

    Args:
        files: of the place.
        own: the suffix of files that this program writes; they are not mentioned.
        is_read: whether a file of this name is read.
        why: others are not.
    """
    others = Counter(
        PurePosixPath(name).suffix.lower() or "without a suffix"
        for name in files.names
        if not is_read(name) and not name.endswith(own)
    )
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common())
    said = (f"{files.place}: passed over, {why}: {kinds}",)
    links = files.passed_over if isinstance(files, FolderFiles) else ()
    return (*(said if others else ()), *links)


def photo_set(files: dict[str, StoredFile]) -> PhotoSet:
    """Makes the set of photographs of these names."""
    names = sorted(files)
    return PhotoSet(tuple(files[name] for name in names), tuple(names))


def split(photos: PhotoSet, held_out: int, seed: int) -> tuple[PhotoSet, PhotoSet]:
    """Splits photographs into (training, held out).

    Which ones are held out depends on their names and the seed alone; another photograph in the folder
    changes at most one of them. A photograph that cannot be read, or shows nothing, is not held out: the
    benchmark would lack it, while training replaces it and counts it. Further copies of a held-out file are
    in neither part, so that nothing held out is ever trained on.

    Raises:
        ValueError: if no photograph would be left to train on.
    """
    ranked = sorted(photos.names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    by_name = dict(zip(photos.names, photos.files, strict=True))
    readable = (name for name in ranked if _can_be_read(by_name[name]))
    held = {name: by_name[name] for name in islice(readable, held_out)}
    if len(held) < min(held_out, len(photos)):
        raise ValueError(
            f"only {len(held)} of {len(photos)} photographs can be read; too few to hold out {held_out} and "
            "train on the rest"
        )
    rest = {name: by_name[name] for name in ranked if name not in held}
    copies = Copies(held.values())
    training = {name: file for name, file in rest.items() if file not in copies}
    if not training:
        raise ValueError(
            f"{len(photos)} photographs ({len(rest)} of them copies of others) are too few "
            f"to hold out {held_out} and train on the rest"
        )
    return photo_set(training), photo_set(held)


class Copies:
    """Says whether a file has the content of one of some others; only files of equal size are read."""

    def __init__(self, files: Iterable[StoredFile]) -> None:
        self._by_size: dict[int, list[StoredFile]] = defaultdict(list)
        for file in files:
            self._by_size[file.size].append(file)

    def __contains__(self, file: StoredFile) -> bool:
        try:
            others = self._by_size.get(file.size, ())
            return any(content_digest(file) == content_digest(other) for other in others)
        except PlaceError:
            raise
        except (OSError, ImageRefused):
            # What cannot be read is no copy of what could; training replaces it and counts it.
            return False


def _sample_files() -> list[StoredFile]:
    found: list[StoredFile] = []
    for package, (folder, names) in _SAMPLES.items():
        # Finds the package without importing it, which would take seconds.
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise ValueError(
                f"the sample photographs need the package {_DISTRIBUTIONS[package]}, which is not installed; "
                "`pip install scikit-image scikit-learn` adds them, or name a folder of photographs"
            )
        place = Path(spec.origin).parent / folder
        missing = [name for name in names if not (place / name).is_file()]
        if missing:
            warnings.warn(
                f"this version of {_DISTRIBUTIONS[package]} does not ship {', '.join(missing)}; "
                "the sample photographs are fewer",
                stacklevel=3,
            )
        files = FolderFiles(str(place), tuple(sorted(set(names) - set(missing))))
        found += [StoredFile(files, name) for name in files.names]
    return found


def _can_be_read(file: StoredFile) -> bool:
    try:
        with open_image(file) as image:
            refuse_nothing(image.decode()[0], file)
    except ImageRefused:
        return False
    return True
