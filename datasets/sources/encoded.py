"""Encoded images: rows of bytes that are JPEG or PNG files, with zeros behind shorter ones if all are equally long."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dreamset.core.errors import UserError
from dreamset.datasets.episode import Array

SMALLEST_IMAGE = 4  # pixels per side; with fewer, channels could not be distinguished from sides
LARGEST_IMAGE = 4096
SMALLEST_FILE = 64  # bytes; a shorter row that begins like a file is a vector
PEEK = 1 << 20  # bytes of a first row that suffice to find the size of its image

_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
_FORMATS = ("JPEG", "PNG")
_CONVERTED = {"1": "L", "P": "RGB"}  # of bits and palettes; the pixels would be indices
_MODES = ("L", "LA", "RGB", "RGBA")  # one byte per channel


def starts_as_image(row: bytes) -> bool:
    """Whether bytes, or the first of them, begin like a JPEG or PNG file."""
    return row.startswith(_STARTS)


def may_hold_images(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
    """Whether rows of equal length may be encoded images: bytes with one axis, byte strings or opaque values."""
    if dtype == np.uint8:
        return len(shape) == 2 and shape[1] >= SMALLEST_FILE
    return dtype.kind in "SV" and dtype.names is None and len(shape) == 1 and dtype.itemsize >= SMALLEST_FILE


def image_shape(row: bytes, where: str) -> tuple[int, ...]:
    """[H, W] of a grey image, else [H, W, C], without decoding its pixels.

    Raises:
        UserError: if the bytes are no JPEG or PNG file, or the image is too small or too large.
    """
    with opened_image(row, where) as image:
        shape = shape_of(image)
    if not SMALLEST_IMAGE <= min(shape[:2]) <= max(shape[:2]) <= LARGEST_IMAGE:
        raise UserError(
            f"{where} is an image of {shape[0]} x {shape[1]}; allowed: sides of {SMALLEST_IMAGE} to {LARGEST_IMAGE} "
            f"pixels; resize the images or omit the column"
        )
    return shape


def first_image(row: bytes) -> tuple[int, ...] | None:
    """``image_shape`` of a column's first row; () if it is damaged, None if it is no image."""
    if not starts_as_image(row):
        return None
    try:
        return image_shape(row, "")
    except UserError:
        return ()


def decode_image(row: bytes, shape: tuple[int, ...], where: str) -> NDArray[np.uint8]:
    """The pixels of an image of this shape.

    Raises:
        UserError: if it is damaged or of another shape, which is checked before the pixels are decoded.
    """
    with opened_image(row, where) as image:
        if shape_of(image) != shape:
            raise UserError(
                f"{where} is an image of {list(shape_of(image))}, expected {list(shape)} as declared or as in other "
                f"episodes; resize the images, or drop the episode"
            )
        return np.asarray(plain(image), np.uint8)


@contextmanager
def opened_image(row: bytes, where: str) -> Iterator[Image.Image]:
    """The image, of which only the header is read yet.

    Raises:
        UserError: if the bytes are no JPEG or PNG file with one byte per channel, also from within the context.
    """
    try:
        with Image.open(io.BytesIO(row), formats=_FORMATS) as image:
            if image.mode not in (*_CONVERTED, *_MODES):
                raise UserError(
                    f"{where} is an image in mode {image.mode}; allowed: grey or RGB of 8 bits, with or without alpha; "
                    f"convert the images or omit the column"
                )
            yield image
    except UserError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{where} is not a readable JPEG or PNG ({error}); copy the dataset again") from error


def plain(image: Image.Image) -> Image.Image:
    """The image with one byte per channel, also if it is stored as bits or with a palette."""
    return image.convert(_CONVERTED[image.mode]) if image.mode in _CONVERTED else image


def shape_of(image: Image.Image) -> tuple[int, ...]:
    """[H, W] of an image with one channel, else [H, W, C]."""
    channels = Image.getmodebands(_CONVERTED.get(image.mode, image.mode))
    return (image.height, image.width) if channels == 1 else (image.height, image.width, channels)


def rows_of_bytes(values: Array) -> Array:
    """Byte strings and opaque values [T] as bytes [T, L]; other arrays as they are."""
    if values.dtype.kind not in "SV":
        return values
    return np.frombuffer(values.tobytes(), np.uint8).reshape(len(values), values.dtype.itemsize)
