"""The one place where still pictures of people are decoded: any common file -> upright 8-bit RGB on white."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from livetoon.errors import DataError

PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
SMALLEST = 2  # px, side below which a file is no picture but a placeholder
FULL_16_BIT = 65535


def pictures(folder: Path) -> list[Path]:
    """The pictures in a folder, by name, hidden ones left out; none when there is no such folder.

    >>> pictures(Path("no-such-folder"))
    []
    """
    folder = Path(folder)
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in PICTURES and not path.name.startswith(".") and path.is_file()
    )


def read(path: Path, size: int | None = None) -> np.ndarray:
    """Decode a picture: (H, W, 3) uint8 RGB, or (size, size, 3) where a square side in px is given.

    Turned upright by its EXIF orientation, transparent parts on white, 16 bit scaled to 8, CMYK, grey and palette as
    RGB, of an animation the first picture. DataError, one sentence that names the file, where that cannot be done.
    """
    path = Path(path)
    try:
        with _without_alarm(), Image.open(path, formats=FORMATS) as image:
            if min(image.size) < SMALLEST:
                raise DataError(f"only {image.width}x{image.height} px; take it out of the folder")
            image.load()
            picture = _rgb(_upright(image))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except Exception as error:  # a broken file makes decoders raise nearly any class
        raise DataError(f"{path}: {_explained(path, error)}") from None
    return resized(picture, size) if size else picture


def resized(picture: np.ndarray, size: int) -> np.ndarray:
    """(H, W[, 3]) uint8 -> (size, size[, 3]), itself where it is that large.

    >>> resized(np.zeros((4, 6, 3), np.uint8), 2).shape
    (2, 2, 3)
    """
    if picture.shape[:2] == (size, size):
        return picture
    shrinks = max(picture.shape[:2]) > size
    return cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


@contextmanager
def _without_alarm() -> Iterator[None]:
    """Pillow warns of a bomb from 89 megapixels on, which cameras have, and refuses twice as many."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a picture with damaged notes is still a picture
        return image


def _rgb(image: Image.Image) -> np.ndarray:
    """Any mode of Pillow's -> (H, W, 3) uint8 RGB."""
    if image.mode.startswith("I"):
        return _from_16_bit(np.asarray(image))
    if image.mode == "F":
        raise DataError("its values are floating-point numbers; save it with 8 or 16 bits a channel")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def _from_16_bit(grey: np.ndarray) -> np.ndarray:
    """(H, W) integers up to 65535 -> (H, W, 3) uint8; Pillow's own conversion would cut all above 255."""
    if grey.min() < 0 or grey.max() > FULL_16_BIT:
        raise DataError("its values have 32 bits; save it with 8 or 16 bits a channel")
    grey = (grey.astype(np.float32) * (255 / FULL_16_BIT)).round().astype(np.uint8)
    return cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)


def _explained(path: Path, error: Exception) -> str:
    if not path.is_file():
        return "no such file"
    if isinstance(error, PermissionError):
        return "may not be read; change its permissions or take it out of the folder"
    if path.stat().st_size == 0:
        return "an empty file; copy it again or take it out of the folder"
    if isinstance(error, Image.DecompressionBombError):
        return "too many pixels to be a photo; make it smaller or take it out of the folder"
    if isinstance(error, Image.UnidentifiedImageError):
        return "not a picture that can be read (JPEG, PNG, WebP, BMP, TIFF, GIF); take it out of the folder"
    said = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return f"broken off or damaged ({said}); copy it again or take it out of the folder"
