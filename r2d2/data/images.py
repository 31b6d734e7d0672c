"""Image files to pixels: upright 8-bit RGB, or a refusal that names the file and the reason.

Grey, CMYK, palette and 16-bit images are converted, transparency is laid over white, EXIF rotation is
applied. The sides of an image are given as (width, height), its pixels as (H, W, 3).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from r2d2.storage.errors import FileError, PlaceError
from r2d2.storage.files import StoredFile

Pixels = npt.NDArray[np.uint8]
# A file on this disk, or wherever its place is.
ImageFile = Path | StoredFile

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".bmp", ".tif", ".tiff", ".webp"})
MIN_SIDE = 32

# ImageNet statistics of RGB in [0, 1], with which upstream's networks were trained.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPS_SIDES = (5, 6, 7, 8)
_LARGEST_16_BIT = 65535


class ImageRefused(ValueError):  # noqa: N818 (it is named for what happened)
    """An image file, or a file that belongs to one, that cannot be used.

    Attributes:
        file: which one, as text.
        reason: why, without the file's name.
    """

    def __init__(self, file: ImageFile | str, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file = str(file)
        self.reason = reason

    def __reduce__(self) -> tuple[type[ImageRefused], tuple[str, str]]:
        return ImageRefused, (self.file, self.reason)


@dataclass(frozen=True)
class OpenImage:
    """An image whose header has been read and whose pixels have not.

    Attributes:
        path: the file.
        size: (width, height) of the upright image, pixels.
    """

    path: ImageFile
    size: tuple[int, int]
    _file: Image.Image
    _orientation: int

    def decode(self, shrink: int = 1) -> tuple[Image.Image, int]:
        """The upright image with its pixels, that of a JPEG perhaps at 1/2, 1/4 or 1/8 of its size.

        Shrinking makes decoding quicker.

        Args:
            shrink: the largest shrinking that is welcome: 1, 2, 4 or 8.

        Returns:
            The image, RGB, and the factor it was shrunk by. Each pixel covers factor x factor pixels of the
            photograph, from its top left corner on; the last row and column perhaps in part.

        Raises:
            ImageRefused: if the pixels cannot be decoded.
        """
        factor = self._draft(shrink)
        with refusing(self.path):
            image = _to_rgb(self._file, self.path)
            turn = _UPRIGHT.get(self._orientation)
            return image if turn is None else image.transpose(turn), factor

    def _draft(self, shrink: int) -> int:
        width, height = self._file.size
        if self._orientation in _UPRIGHT and (width % shrink or height % shrink):
            # Turning would bring the pixel that is covered in part to the first row or column.
            return 1
        if shrink == 1 or self._file.draft(None, (width // shrink, height // shrink)) is None:
            return 1
        return round(width / self._file.width)


@contextmanager
def open_image(path: ImageFile) -> Iterator[OpenImage]:
    """Opens an image file and reads its header.

    Raises:
        ImageRefused: if it is missing, no image, or smaller than 32 pixels.
        PlaceError: if nothing can be had from the place where it lies.
    """
    with refusing(path):
        content = path.open() if isinstance(path, StoredFile) else nullcontext(path)
    with content as source:
        with refusing(path):
            file = Image.open(source)
        with file:
            yield _opened(file, path)


def _opened(file: Image.Image, path: ImageFile) -> OpenImage:
    width, height = file.size
    if min(width, height) < MIN_SIDE:
        raise ImageRefused(path, f"{width}x{height} pixels; both sides must be at least {MIN_SIDE}")
    with refusing(path):
        orientation = _orientation(file)
    size = (height, width) if orientation in _SWAPS_SIDES else (width, height)
    return OpenImage(path, size, file, orientation)


def read_image(path: ImageFile) -> Pixels:
    """The upright pixels of an image file, (H, W, 3) uint8 RGB.

    Raises:
        ImageRefused: if it is missing, unreadable, truncated, or smaller than 32 pixels.
    """
    with open_image(path) as image:
        return np.array(image.decode()[0])


def list_images(folder: Path) -> list[Path]:
    """The image files in a folder and in the folders below it, sorted by path; hidden ones are left out.

    Raises:
        ValueError: if the folder is missing or holds no image.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder '{folder}'")
    found = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    ]
    if not found:
        raise ValueError(f"the folder '{folder}' holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def normalise(pixels: Pixels) -> Tensor:
    """What the network sees: (H, W, 3) uint8 RGB to (3, H, W) float32, `(rgb / 255 - MEAN) / STD`."""
    # The copy is contiguous by channel, so that the arithmetic that follows is quick.
    planes = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    return normalise_planes(planes.to(torch.float32))


def normalise_planes(planes: Tensor) -> Tensor:
    """The same for float planes (..., 3, H, W) of RGB in [0, 255], in their own memory."""
    mean, std = _statistics(planes.device)
    return planes.sub_(mean).div_(std)


def denormalise(image: Tensor) -> Pixels:
    """The inverse of `normalise`: (3, H, W) float to (H, W, 3) uint8, rounded and clamped to [0, 255]."""
    mean, std = _statistics(image.device)
    planes = (image.detach() * std + mean).round().clamp(0, 255).to(torch.uint8)
    pixels: Pixels = planes.permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(pixels)


@cache
def _statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    mean, std = (torch.tensor(values, device=device).mul_(255).view(3, 1, 1) for values in (MEAN, STD))
    return mean, std


@contextmanager
def refusing(path: ImageFile) -> Iterator[None]:
    """Turns whatever a broken file makes Pillow throw into a refusal that names it."""
    try:
        with warnings.catch_warnings():
            # Pillow's UserWarnings are about metadata, such as damaged EXIF.
            warnings.simplefilter("ignore", UserWarning)
            yield
    except (ImageRefused, MemoryError, PlaceError):
        raise
    except FileError as error:
        raise ImageRefused(path, error.strerror or str(error)) from error
    except FileNotFoundError:
        raise ImageRefused(path, "there is no such file") from None
    except UnidentifiedImageError:
        raise ImageRefused(path, "not an image of a known format") from None
    except Image.DecompressionBombError as error:
        raise ImageRefused(path, f"too many pixels ({error})") from error
    except Exception as error:
        # Broken files raise OSError, SyntaxError, ValueError, struct.error, zlib.error, IndexError, ...
        raise ImageRefused(path, f"cannot be read ({error or type(error).__name__})") from error


def _orientation(file: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 is upright."""
    if file.format not in ("JPEG", "MPO"):
        # Other formats may hold it behind the pixels.
        file.load()
    try:
        return int(file.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:
        # Damaged EXIF is common on the web and harms no pixel: like a viewer, take them as they are.
        return 1


def _to_rgb(image: Image.Image, path: ImageFile) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        image.load()
        return image
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _from_16_bit(np.asarray(image), path)
    if image.mode == "F":
        raise ImageRefused(path, "floating-point pixels; store it with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _from_16_bit(grey: npt.NDArray[np.integer], path: ImageFile) -> Image.Image:
    if grey.min() < 0 or grey.max() > _LARGEST_16_BIT:
        raise ImageRefused(path, "32-bit pixels; store it with 8 or 16 bits")
    eight = (grey.astype(np.uint32) * 255 + _LARGEST_16_BIT // 2) // _LARGEST_16_BIT
    return Image.fromarray(eight.astype(np.uint8)).convert("RGB")
