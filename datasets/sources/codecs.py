"""Decodes stored values into columns: float32 vectors, one-hot rows, uint8 images."""

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dreamset.core.errors import UserError
from dreamset.core.spec import ArraySpec
from dreamset.datasets.episode import Array

JPEG_START = b"\xff\xd8\xff"


class Codec(Protocol):
    """Decodes the values of one space into rows of one column."""

    @property
    def spec(self) -> ArraySpec:
        """Shape and dtype of a decoded row."""

    def decode(self, values: Array, where: str) -> Array:
        """Rows of ``spec``; raises a ``UserError`` if the stored values do not match the space."""


@dataclass(frozen=True, slots=True)
class VectorCodec:
    """Decodes numbers of any shape and dtype into flat float32 vectors."""

    shape: tuple[int, ...]

    @property
    def spec(self) -> ArraySpec:
        """One flat vector."""
        return ArraySpec((math.prod(self.shape),), "float32")

    def decode(self, values: Array, where: str) -> Array:
        """[rows, size]; values beyond float32 become infinite, which the check of the episode reports."""
        if values.dtype.kind not in "fiub" or values.shape[1:] != self.shape:
            got = f"{values.dtype}{list(values.shape[1:])}"
            raise UserError(
                f"{where} holds {got} per row, its space declares numbers of shape {list(self.shape)}; "
                f"fix or drop the episode, or omit the column"
            )
        with np.errstate(over="ignore"):
            return values.reshape(len(values), -1).astype(np.float32)


@dataclass(frozen=True, slots=True)
class OneHotCodec:
    """Decodes one integer of ``size`` choices into a one-hot row."""

    size: int
    start: int

    @property
    def spec(self) -> ArraySpec:
        """One number per choice."""
        return ArraySpec((self.size,), "float32")

    def decode(self, values: Array, where: str) -> Array:
        """[rows, size]."""
        if values.dtype.kind not in "iu" or values.shape[1:] not in ((), (1,)):
            got = f"{values.dtype}{list(values.shape[1:])}"
            raise UserError(f"{where} holds {got} per row, expected one integer of a Discrete space")
        choice = values.reshape(len(values)).astype(np.int64) - self.start
        outside = np.flatnonzero((choice < 0) | (choice >= self.size))
        if outside.size:
            step, got = outside[0], choice[outside[0]] + self.start
            raise UserError(
                f"{where} is {got} at step {step}; allowed: {self.start} to {self.start + self.size - 1}; "
                f"fix or drop the episode"
            )
        rows = np.zeros((len(choice), self.size), np.float32)
        rows[np.arange(len(choice)), choice] = 1
        return rows


@dataclass(frozen=True, slots=True)
class ImageCodec:
    """Decodes images, raw or JPEG, into uint8 [height, width, channels]."""

    shape: tuple[int, ...]  # of the space: [H, W], [H, W, C] or [C, H, W]

    @property
    def channels_first(self) -> bool:
        """Whether the space is [C, H, W], recognised by the shortest axis being the first."""
        return len(self.shape) == 3 and self.shape[0] < min(self.shape[1:])

    @property
    def spec(self) -> ArraySpec:
        """[H, W, C]."""
        if self.channels_first:
            return ArraySpec((*self.shape[1:], self.shape[0]), "uint8")
        return ArraySpec((*self.shape, 1)[:3], "uint8")

    def is_encoded(self, values: Any) -> bool:
        """Whether stored values (array or dataset) are JPEG files; Minari stores bytes of variable or equal length."""
        return bool(values.dtype.kind == "O" or (values.dtype == np.uint8 and values.ndim == 2))

    def decode(self, values: Array, where: str) -> Array:
        """[rows, H, W, C]."""
        if self.is_encoded(values):
            frames = np.empty((len(values), *self.shape), np.uint8)
            for step, encoded in enumerate(values):
                frames[step] = self._decode_jpeg(encoded.tobytes(), f"{where} at step {step}")
        else:
            frames = self._checked(values, where)
        if self.channels_first:
            return np.ascontiguousarray(frames.transpose(0, 2, 3, 1))
        return frames.reshape(len(frames), *self.spec.shape)

    def _checked(self, values: Array, where: str) -> NDArray[np.uint8]:
        if values.dtype != np.uint8 or values.shape[1:] != self.shape:
            got = f"{values.dtype}{list(values.shape[1:])}"
            raise UserError(f"{where} holds {got} per row, its space declares uint8{list(self.shape)}")
        return values.astype(np.uint8, copy=False)

    def _decode_jpeg(self, encoded: bytes, where: str) -> NDArray[np.uint8]:
        with _opened_jpeg(encoded, where) as image:
            shape = _shape_of(image)
            if shape != self.shape:  # checked before the pixels are decoded
                raise UserError(f"{where} is an image of {list(shape)}, its space declares {list(self.shape)}")
            return np.asarray(image, np.uint8)


def jpeg_shape(encoded: bytes, where: str) -> tuple[int, ...]:
    """[height, width] of a grey image, else [height, width, channels], without decoding its pixels.

    Raises:
        UserError: if it is not a JPEG file.
    """
    with _opened_jpeg(encoded, where) as image:
        return _shape_of(image)


def inferred_codec(dtype: np.dtype[Any], row_shape: tuple[int, ...], where: str) -> Codec:
    """The codec of a column without a declared space: uint8 [H, W, C] or [C, H, W] is an image.

    Raises:
        UserError: if the values are not numbers, or rows are empty.
    """
    if dtype.kind not in "fiub" or 0 in row_shape:
        raise UserError(f"{where} holds {dtype}{list(row_shape)} per row, expected numbers; omit the column")
    if dtype == np.uint8 and len(row_shape) == 3:
        return ImageCodec(row_shape)
    return VectorCodec(row_shape)


@contextmanager
def _opened_jpeg(encoded: bytes, where: str) -> Iterator[Image.Image]:
    try:
        with Image.open(io.BytesIO(encoded), formats=["JPEG"]) as image:
            yield image
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{where} is not a readable JPEG ({error}); copy the dataset again") from error


def _shape_of(image: Image.Image) -> tuple[int, ...]:
    channels = len(image.getbands())
    return (image.height, image.width) if channels == 1 else (image.height, image.width, channels)
