"""Makes the validation benchmark from photographs that are kept out of training.

Sweeps choose on it, so that nothing is tuned on HPatches. Its folder has the layout of HPatches and a
`recipe.json` that says what it was made from.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import Image

from evaluation.benchmarks.hpatches import LEFT_OUT
from evaluation.benchmarks.synthesis import first_view, random_viewpoint, reduce_photo, relight, render
from r2d2.data.images import ImageRefused, read_image, refuse_nothing
from r2d2.data.photos import PhotoSet
from r2d2.data.places import content_digest
from r2d2.formats.stored_json import typed
from r2d2.storage.atomic import atomic_folder

Homography = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]

RECIPE = "recipe.json"

# Grows whenever the same photographs would give another benchmark.
VERSION = 2

# Of images 2 to 6.
STRENGTHS = (0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Recipe:
    """A Recipe says what a validation benchmark was made from; equal recipes mean equal benchmarks.

    Attributes:
        photos: the digest of the photographs.
        seed: of all draws.
        size: width and height of the images, exchanged for upright photographs.
        version: of the generator.
        refused: (name, reason) of photographs that could not be used.
    """

    photos: str
    seed: int
    size: tuple[int, int]
    version: int = VERSION
    refused: tuple[tuple[str, str], ...] = ()

    def same_source(self, other: Recipe) -> bool:
        """Says whether both benchmarks were made from the same photographs in the same way."""
        mine, others = asdict(self), asdict(other)
        return all(mine[key] == others[key] for key in ("photos", "seed", "size", "version"))


def build_validation_benchmark(
    photos: PhotoSet, folder: Path, seed: int = 0, size: tuple[int, int] = (384, 256)
) -> Path:
    """Writes two sequences per photograph, `v_<stem>` and `i_<stem>`; images 2 to 6 differ more and more.

    Everything follows from the seed and the photographs' contents, byte for byte. A folder made from the same
    photographs in the same way is left as it is, an older one is replaced, whole or not at all. Photographs
    smaller than `size` are enlarged, as training does. One that cannot be read
    or shows nothing is left out; the recipe says which and why.

    Args:
        photos: kept out of training.
        folder: where the benchmark shall be.
        seed: of all draws.
        size: width and height of the images in pixels, exchanged for upright photographs.

    Returns:
        `folder`.

    Raises:
        ValueError: if the folder holds something that was not written by this function, or no photograph can
            be used.
    """
    if min(size) < 32:
        raise ValueError(f"size is {size[0]} x {size[1]}; both sides must be at least 32 pixels")
    wanted = Recipe(photos.digest, seed, size)
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        found = read_recipe(folder)
        if found is None:
            raise ValueError(
                f"{folder} holds files but no {RECIPE} of a validation benchmark; it is not replaced. Delete "
                "it if nobody needs it"
            )
        if wanted.same_source(found):
            return folder
    with atomic_folder(folder) as temporary:
        refused = _write_sequences(photos, temporary, seed, size)
        if len(refused) == len(photos):
            reasons = "; ".join(": ".join(entry) for entry in refused[:3])
            raise ValueError(f"no photograph can be used for validation ({reasons or 'none was given'})")
        recipe = asdict(Recipe(photos.digest, seed, size, refused=tuple(refused)))
        (temporary / RECIPE).write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")
    return folder


def read_recipe(folder: Path) -> Recipe | None:
    """Reads what a validation benchmark was made from; None if there is no such file of a known form."""
    path = folder / RECIPE
    if not path.is_file():
        return None
    try:
        return typed(Recipe, json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        return None


def _write_sequences(
    photos: PhotoSet, folder: Path, seed: int, size: tuple[int, int]
) -> list[tuple[str, str]]:
    """Writes the sequences of all photographs; returns those that could not be used, with reasons."""
    taken: set[str] = set()
    refused = []
    for name, file in zip(photos.names, photos.files, strict=True):
        try:
            photo = read_image(file)
            refuse_nothing(Image.fromarray(photo), file)
        except ImageRefused as error:
            refused.append((name, error.reason))
            continue
        content = int(content_digest(file), 16)
        rng = np.random.default_rng([seed, content])
        _write_photo(photo, folder, _free_name(PurePosixPath(name).stem, taken), size, rng)
    return refused


def _free_name(stem: str, taken: set[str]) -> str:
    """A name of its own for a photograph, and none that the HPatches protocol leaves out."""
    candidates = [stem, *(f"{stem}-{number}" for number in range(2, len(taken) + 3))]
    name = next(c for c in candidates if c not in taken and not {f"v_{c}", f"i_{c}"} & LEFT_OUT)
    taken.add(name)
    return name


def _write_photo(
    photo: Pixels, folder: Path, name: str, size: tuple[int, int], rng: np.random.Generator
) -> None:
    if photo.shape[0] > photo.shape[1]:
        size = (size[1], size[0])
    photo = reduce_photo(photo, size)
    photo_size = (photo.shape[1], photo.shape[0])
    view = first_view(photo_size, size)
    first = render(photo, view, size)
    viewpoints = [random_viewpoint(strength, view, photo_size, size, rng) for strength in STRENGTHS]
    others = [render(photo, view @ np.linalg.inv(homography), size) for homography in viewpoints]
    _write_sequence(folder / f"v_{name}", [first, *others], viewpoints)
    relit = [relight(first, strength, rng) for strength in STRENGTHS]
    _write_sequence(folder / f"i_{name}", [first, *relit], [np.eye(3)] * len(STRENGTHS))


def _write_sequence(folder: Path, images: list[Pixels], homographies: list[Homography]) -> None:
    folder.mkdir()
    for number, image in enumerate(images, start=1):
        Image.fromarray(image).save(folder / f"{number}.png", compress_level=1)
    for number, homography in enumerate(homographies, start=2):
        lines = (" ".join(f"{value:.12g}" for value in row) for row in homography)
        (folder / f"H_1_{number}").write_text("\n".join(lines) + "\n", encoding="utf-8")
