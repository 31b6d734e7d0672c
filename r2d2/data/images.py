"""Turns image files into pixels: upright 8-bit RGB, or a refusal that names file and reason.

Grey, CMYK, palette and 16-bit images are converted, transparency is laid over white, EXIF rotation is
applied. The sides of an image are given as (width, height), its pixels as (H, W, 3).

Image files come from anywhere, so all of them are opened by `open_header`: it knows the formats that are
named here and no other, and compares the size with a limit before a pixel is decoded.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile as PillowFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, TiffImageFile

from r2d2.storage.errors import FileError, PlaceError
from r2d2.storage.files import StoredFile

Pixels = npt.NDArray[np.uint8]
# A file on this disk, or wherever its place is.
ImageFile = Path | StoredFile

# What is opened, by its content, and how such files are named. Pillow knows 40 more formats, one of which
# (EPS) hands the file to Ghostscript.
FORMATS = ("JPEG", "PNG", "PPM", "TIFF", "WEBP", "BMP", "GIF", "JPEG2000", "AVIF")
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".ppm", ".pgm", ".pbm", ".pnm", ".tif", ".tiff"}
    | {".webp", ".bmp", ".gif", ".jp2", ".j2k", ".avif"}
)
MIN_SIDE = 32
# Of one image: a photograph of 108 megapixels passes. Its pixels take 360 MB.
MAX_PIXELS = 120_000_000
# Of 255: less than this is no picture.
LEAST_CONTRAST = 8
NOTHING = "it shows nothing: the same grey almost everywhere"
_PLACES = 64


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
_LIMIT = f"an image may have at most {MAX_PIXELS // 10**6} million"


class ImageRefused(ValueError):  # noqa: N818 (it is named for what happened)
    """Says that an image file, or a file that belongs to one, cannot be used.

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
    """An OpenImage is an image whose header has been read and whose pixels have not.

    Attributes:
        path: the file.
        size: (width, height) of the upright image, pixels.
    """

    path: ImageFile
    size: tuple[int, int]
    _file: Image.Image
    _orientation: int

    def decode(self, shrink: int = 1) -> tuple[Image.Image, int]:
        """Decodes the pixels: RGB (H, W, 3) uint8 in [0, 255], upright."""
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
        ImageRefused: if it is missing, no image, too large, or smaller than 32 pixels.
        PlaceError: if nothing can be had from the place where it lies.
    """
    with refusing(path):
        content = path.open() if isinstance(path, StoredFile) else nullcontext(path)
    with content as source, open_header(source, path) as file:
        yield _opened(file, path)


def open_header(source: Path | BinaryIO, path: ImageFile, formats: tuple[str, ...] = FORMATS) -> PillowFile:
    """Opens an image whose pixels are not decoded yet, as stored. Everyone who opens an image does it here.

    Args:
        source: the file, or its content.
        path: what it is called in a refusal.
        formats: Pillow's names of those that it may have.

    Raises:
        ImageRefused: if it is missing, has another format, or more than MAX_PIXELS pixels.
    """
    with refusing(path):
        file = Image.open(source, formats=formats)
    if file.width * file.height > MAX_PIXELS:
        file.close()
        raise ImageRefused(path, f"{file.width}x{file.height} pixels; {_LIMIT}")
    return file


def _opened(file: Image.Image, path: ImageFile) -> OpenImage:
    width, height = file.size
    if min(width, height) < MIN_SIDE:
        raise ImageRefused(path, f"{width}x{height} pixels; both sides must be at least {MIN_SIDE}")
    with refusing(path):
        orientation = _orientation(file)
    size = (height, width) if orientation in _SWAPS_SIDES else (width, height)
    return OpenImage(path, size, file, orientation)


def refuse_nothing(image: Image.Image, path: ImageFile) -> None:
    """Refuses an image that shows nothing, for training and validation.

    Raises:
        ImageRefused: if the image shows nothing.
    """
    if shows_nothing(image):
        raise ImageRefused(path, NOTHING)


def read_image(path: ImageFile) -> Pixels:
    """Reads the upright pixels of an image file, (H, W, 3) uint8 RGB.

    Raises:
        ImageRefused: if it is missing, unreadable, truncated, or smaller than 32 pixels.
    """
    with open_image(path) as image:
        return np.array(image.decode()[0])


def is_image(name: str) -> bool:
    """Says whether a file is named like an image."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def shows_nothing(image: Image.Image) -> bool:
    """Says whether an RGB image is (nearly) the same everywhere: a black frame, a white page, a lost layer.

    The grey values of 64 x 64 places, but for one in a thousand at either end, lie within `LEAST_CONTRAST` of
    each other. Each is the mean of four pixels, which forgets some of a sensor's noise.
    """
    places = image.resize((2 * _PLACES, 2 * _PLACES), Image.Resampling.NEAREST).reduce(2)
    below = np.cumsum(places.convert("L").histogram())
    low, high = np.searchsorted(below, [0.001 * below[-1], 0.999 * below[-1]])
    return int(high - low) < LEAST_CONTRAST


@contextmanager
def refusing(path: ImageFile) -> Iterator[None]:
    """Turns whatever a broken file makes Pillow throw into a refusal that names it."""
    try:
        with warnings.catch_warnings():
            # Pillow's UserWarnings are about metadata, such as damaged EXIF; sizes have a limit of their own.
            warnings.simplefilter("ignore", UserWarning)
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
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
        raise ImageRefused(path, f"too many pixels; {_LIMIT}") from error
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
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        return _from_16_bit(image)
    if image.mode in ("I", "F"):
        kind = "32-bit or signed" if image.mode == "I" else "floating-point"
        raise ImageRefused(
            path, f"{kind} pixels, and the file does not say which value is white; store it with 8 or 16 bits"
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    """Grey of 16 bits as RGB of 8. A TIFF may have 12 bits, or 0 for white, which Pillow leaves as it is."""
    tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    white = 2 ** tags.get(BITSPERSAMPLE, (16,))[0] - 1
    grey = np.asarray(image).astype(np.uint32)
    eight = ((grey * 255 + white // 2) // white).clip(0, 255).astype(np.uint8)
    if tags.get(PHOTOMETRIC_INTERPRETATION) == 0:
        eight = 255 - eight
    return Image.fromarray(eight).convert("RGB")
