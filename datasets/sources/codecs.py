"""Decodes stored values into columns: float32 vectors, one-hot rows, uint8 images."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dreamset.core.errors import UserError
from dreamset.core.images import ImageAxes, image_axes, likely_image
from dreamset.core.spec import ArraySpec
from dreamset.datasets.episode import Array
from dreamset.datasets.sources.encoded import decode_image, rows_of_bytes


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
    dtype: str = "float32"  # of the stored numbers, for the doubt whether they are images

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
    """Decodes images, raw or encoded as JPEG or PNG, into uint8 [height, width, channels]."""

    shape: tuple[int, ...]  # as stored or encoded: [H, W], [H, W, C], [C, H, W], [k, H, W, C], ...

    @property
    def spec(self) -> ArraySpec:
        """[H, W, C]."""
        return ArraySpec(self._axes.shape, "uint8")

    def decode(self, values: Array, where: str) -> Array:
        """[rows, H, W, C]."""
        stored = rows_of_bytes(values)
        frames = self._decoded(stored, where) if self._is_encoded(stored) else self._checked(stored, where)
        order = (0, *(1 + axis for axis in self._axes.order))
        return np.ascontiguousarray(frames.transpose(order)).reshape(len(frames), *self._axes.shape)

    @property
    def _axes(self) -> ImageAxes:
        axes = ImageAxes.of(self.shape)
        assert axes is not None, f"{self.shape} is no shape of an image"
        return axes

    def _is_encoded(self, values: Array) -> bool:
        """Whether rows are files: bytes of variable length, or of equal length with zeros behind shorter files."""
        return bool(values.dtype.kind == "O" or (values.dtype == np.uint8 and values.ndim == 2))

    def _decoded(self, values: Array, where: str) -> NDArray[np.uint8]:
        try:
            frames = np.empty((len(values), *self.shape), np.uint8)
        except MemoryError as error:
            raise UserError(
                f"{where}: {len(values)} images of {list(self.shape)} exceed the memory; store smaller images or "
                f"shorter episodes"
            ) from error
        for step, encoded in enumerate(values):
            frames[step] = decode_image(encoded.tobytes(), self.shape, f"{where} at step {step}")
        return frames

    def _checked(self, values: Array, where: str) -> NDArray[np.uint8]:
        if values.dtype != np.uint8 or values.shape[1:] != self.shape:
            got = f"{values.dtype}{list(values.shape[1:])}"
            raise UserError(
                f"{where} holds {got} per row, expected uint8{list(self.shape)} as declared or as in other episodes; "
                f"all images of a column need one size: resize them, or drop the episode"
            )
        return values.astype(np.uint8, copy=False)


def inferred_codec(
    dtype: np.dtype[Any], row_shape: tuple[int, ...], where: str, *, encoded: tuple[int, ...] | None = None
) -> Codec:
    """The codec of a column without a declared space; ``core/images.py`` says which rows are images.

    Args:
        dtype: of the stored values.
        row_shape: of a stored row.
        where: start of the message.
        encoded: shape of the images if the column holds files, () if the first one is damaged; else None.

    Raises:
        UserError: if the values are neither numbers nor images, or rows are empty.
    """
    if encoded is not None:
        if not encoded:
            raise UserError(
                f"{where} begins with a damaged or very large image; copy the file again or omit the column"
            )
        return ImageCodec(encoded)
    if dtype.kind not in "fiub" or 0 in row_shape:
        raise UserError(
            f"{where} holds {dtype}{list(row_shape)} per row, expected numbers, or JPEG and PNG files as bytes; "
            f"omit the column"
        )
    if image_axes(dtype.name, row_shape):
        return ImageCodec(row_shape)
    return VectorCodec(row_shape, dtype.name)


_WHITE = {"bool": "1", "uint8": "255", "uint16": "65535"}  # the largest value; most images of floats end at 1
_LONG_ROW = 1024  # bytes; such a row is more likely a file than a vector


def image_doubts(codecs: Mapping[str, Codec]) -> tuple[str, ...]:
    """A sentence for each column, by its name in the store, that is read as a vector but looks like images."""
    return tuple(
        f"{_doubted(name)}: {codec.dtype}{list(codec.shape)} per row is read as a vector of {codec.spec.size} numbers; "
        f"{remedy}"
        for name, codec in codecs.items()
        if isinstance(codec, VectorCodec) and (remedy := _remedy(name, codec))
    )


def _remedy(name: str, codec: VectorCodec) -> str | None:
    """What to do if the column holds images; None if it does not look like that."""
    shape = likely_image(codec.dtype, codec.shape)
    if shape is not None:
        return (
            f"if it holds images, add the transform {{_target_: dreamset.datasets.transforms.AsImage, name: {name}, "
            f"shape: {list(shape)}, white: {_WHITE.get(codec.dtype, '1.0')}}} to dataset.transforms; white is the "
            f"value that becomes 255"
        )
    if codec.dtype == "uint8" and len(codec.shape) == 1 and codec.shape[0] >= _LONG_ROW:
        return "if it holds JPEG or PNG files, write a file into the first row, by which they are recognised"
    return None


def without_doubts(doubts: Iterable[str], names: Iterable[str]) -> tuple[str, ...]:
    """The doubts without those of ``image_doubts`` about the named columns."""
    settled = tuple(map(_doubted, names))
    return tuple(doubt for doubt in doubts if not doubt.startswith(settled))


def _doubted(name: str) -> str:
    return f"{name!r} may be images"
