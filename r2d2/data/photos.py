"""A set of photographs: which files, what identifies them, and which are held out from training."""

from __future__ import annotations

import filecmp
import hashlib
import importlib.util
import warnings
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

from r2d2.data.images import ImageRefused, list_images, read_image

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
    """Photographs, in the order of their names.

    Attributes:
        paths: the files.
        names: what they are called wherever the folder lies: their paths below it, with slashes.
    """

    paths: tuple[Path, ...]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        assert len(self.paths) == len(self.names)
        assert list(self.names) == sorted(set(self.names)), "names must be sorted and distinct"

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def digest(self) -> str:
        """Sha256 over names and contents; reads every file when first asked for.

        Raises:
            ImageRefused: if a file cannot be read.
        """
        total = hashlib.sha256()
        for name, path in zip(self.names, self.paths, strict=True):
            total.update(f"{_content(path)}  {name}\n".encode())
        return total.hexdigest()


def open_photos(name: str) -> PhotoSet:
    """The photographs of a folder, or with the name "samples" those that installed packages ship.

    Raises:
        ValueError: if the folder is missing or empty, or a package of the samples is not installed.
    """
    if name == SAMPLES:
        return _photo_set({path.name: path for path in _sample_paths()})
    folder = Path(name).expanduser()
    return _photo_set({path.relative_to(folder).as_posix(): path for path in list_images(folder)})


def split(photos: PhotoSet, held_out: int, seed: int) -> tuple[PhotoSet, PhotoSet]:
    """Splits photographs into (training, held out).

    Which ones are held out depends on their names and the seed alone; another photograph in the folder
    changes at most one of them. One that cannot be read is not held out: it would be missing in what is made
    of them, while training replaces it and counts it. Further copies of a held-out file are in neither part,
    so that nothing held out is ever trained on.

    Raises:
        ValueError: if no photograph would be left to train on.
    """
    ranked = sorted(photos.names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    by_name = dict(zip(photos.names, photos.paths, strict=True))
    readable = (name for name in ranked if _can_be_read(by_name[name]))
    held = {name: by_name[name] for name in islice(readable, held_out)}
    if len(held) < min(held_out, len(photos)):
        raise ValueError(
            f"only {len(held)} of {len(photos)} photographs can be read; too few to hold out {held_out} and "
            "train on the rest"
        )
    rest = {name: by_name[name] for name in ranked if name not in held}
    copies = _copies(held, rest)
    training = {name: path for name, path in rest.items() if name not in copies}
    if not training:
        raise ValueError(
            f"{len(photos)} photographs ({len(copies)} of them copies of others) are too few "
            f"to hold out {held_out} and train on the rest"
        )
    return _photo_set(training), _photo_set(held)


def _photo_set(paths: dict[str, Path]) -> PhotoSet:
    names = sorted(paths)
    return PhotoSet(tuple(paths[name] for name in names), tuple(names))


def _sample_paths() -> list[Path]:
    found = []
    for package, (folder, names) in _SAMPLES.items():
        # Finds the package without importing it, which would take seconds.
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise ValueError(
                f"the sample photographs need the package {_DISTRIBUTIONS[package]}, which is not installed; "
                "install it or name a folder of photographs"
            )
        paths = [Path(spec.origin).parent / folder / name for name in names]
        missing = [path.name for path in paths if not path.is_file()]
        if missing:
            warnings.warn(
                f"this version of {_DISTRIBUTIONS[package]} does not ship {', '.join(missing)}; "
                "the sample photographs are fewer",
                stacklevel=3,
            )
        found += [path for path in paths if path.is_file()]
    return found


def _can_be_read(path: Path) -> bool:
    try:
        read_image(path)
    except ImageRefused:
        return False
    return True


def _copies(held: dict[str, Path], rest: dict[str, Path]) -> set[str]:
    """The names in `rest` whose content is that of a file in `held`; only files of equal size are read."""
    sizes: dict[int, list[Path]] = defaultdict(list)
    for path in held.values():
        sizes[path.stat().st_size].append(path)
    return {
        name
        for name, path in rest.items()
        if any(filecmp.cmp(path, other, shallow=False) for other in sizes.get(path.stat().st_size, ()))
    }


def _content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ImageRefused(path, f"cannot be read ({error.strerror})") from error
