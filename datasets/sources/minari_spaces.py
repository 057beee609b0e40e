"""From Minari's serialised spaces to fixed columns: how the values of each space are decoded."""

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec, ArraySpec
from dreamset.datasets.episode import Array

Space = Mapping[str, Any]

_SMALLEST_GREY_IMAGE = 32  # as Minari: a smaller [H, W] array of bytes is a table, not a picture
_LARGEST_ONE_HOT = 1 << 16
_LARGEST_ROW = 1 << 27  # numbers in one observation: more is a damaged description


class Codec(Protocol):
    """Decodes the values of one leaf space into rows of one column."""

    @property
    def spec(self) -> ArraySpec:
        """Shape and dtype of a decoded row."""

    def decode(self, values: Array, where: str) -> Array:
        """Rows of ``spec``, or ``UserError`` if the stored values do not fit the space."""


@dataclass(frozen=True, slots=True)
class VectorCodec:
    """Numbers of any shape and dtype become flat float32 vectors."""

    shape: tuple[int, ...]

    @property
    def spec(self) -> ArraySpec:
        """One flat vector."""
        return ArraySpec((math.prod(self.shape),), "float32")

    def decode(self, values: Array, where: str) -> Array:
        """[rows, size]; values too large for float32 become infinite and are found by the episode's check."""
        if values.dtype.kind not in "fiub" or values.shape[1:] != self.shape:
            got = f"{values.dtype}{list(values.shape[1:])}"
            raise UserError(f"{where} holds {got} per row, its space says numbers of shape {list(self.shape)}")
        with np.errstate(over="ignore"):
            return values.reshape(len(values), -1).astype(np.float32)


@dataclass(frozen=True, slots=True)
class OneHotCodec:
    """A choice among ``size`` becomes a row with a single one."""

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
            raise UserError(f"{where} holds {got} per row, a Discrete space needs one integer")
        choice = values.reshape(len(values)).astype(np.int64) - self.start
        outside = np.flatnonzero((choice < 0) | (choice >= self.size))
        if outside.size:
            step, got = outside[0], choice[outside[0]] + self.start
            raise UserError(
                f"{where} is {got} at step {step}, allowed are {self.start} to {self.start + self.size - 1}; "
                f"mend or drop the episode"
            )
        rows = np.zeros((len(choice), self.size), np.float32)
        rows[np.arange(len(choice)), choice] = 1
        return rows


@dataclass(frozen=True, slots=True)
class ImageCodec:
    """Pictures, raw or as JPEG, become uint8 [height, width, channels]."""

    shape: tuple[int, ...]  # of the space: [H, W], [H, W, C] or [C, H, W]

    @property
    def channels_first(self) -> bool:
        """Whether the space is [C, H, W]: then the first axis is by far the shortest."""
        return len(self.shape) == 3 and self.shape[0] < min(self.shape[1:])

    @property
    def spec(self) -> ArraySpec:
        """Always with the channels last."""
        if self.channels_first:
            return ArraySpec((*self.shape[1:], self.shape[0]), "uint8")
        return ArraySpec((*self.shape, 1)[:3], "uint8")

    def is_encoded(self, values: Any) -> bool:
        """Whether stored values (an array or a dataset) are JPEG files: Minari writes ragged or equally long bytes."""
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
            raise UserError(f"{where} holds {got} per row, its space says uint8{list(self.shape)}")
        return values.astype(np.uint8, copy=False)

    def _decode_jpeg(self, encoded: bytes, where: str) -> NDArray[np.uint8]:
        try:
            with Image.open(io.BytesIO(encoded), formats=["JPEG"]) as image:
                shape = (image.height, image.width, *self._bands(len(image.getbands())))
                if shape != self.shape:  # before the pixels are decoded
                    raise UserError(f"{where} is a picture of {list(shape)}, its space says {list(self.shape)}")
                return np.asarray(image, np.uint8)
        except (OSError, SyntaxError) as error:
            raise UserError(f"{where} is no readable JPEG ({error}); copy the dataset again") from error

    @staticmethod
    def _bands(count: int) -> tuple[int, ...]:
        return () if count == 1 else (count,)


def leaves(space: Space, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Space]:
    """The spaces that hold values, by where Minari's HDF5 keeps them."""
    if space["type"] == "Dict":
        children = dict(space["subspaces"])
    elif space["type"] == "Tuple":
        children = {f"_index_{i}": child for i, child in enumerate(space["subspaces"])}
    else:
        return {path: space}
    return {p: leaf for name, child in children.items() for p, leaf in leaves(child, (*path, str(name))).items()}


def codec_of(space: Space) -> Codec | None:
    """How a leaf space is decoded; None if it holds no fixed number of values, such as text, or none at all."""
    match space["type"]:
        case "Box" if 0 in space["shape"]:
            return None
        case "Box":
            return ImageCodec(_shape(space)) if _is_image(space) else VectorCodec(_shape(space))
        case "Discrete":
            return OneHotCodec(_checked_size(int(space["n"])), int(space.get("start", 0)))
        case "MultiDiscrete":
            return VectorCodec(np.shape(space["nvec"]))
        case "MultiBinary":
            return VectorCodec(tuple(np.atleast_1d(space["n"]).tolist()))
        case _:
            return None


def action_codec(space: Space, where: str) -> tuple[ActionSpec, Codec]:
    """The action's spec and how recorded actions are decoded.

    Raises:
        UserError: if the space is neither Box nor Discrete.
    """
    match space["type"]:
        case "Box":
            vector = VectorCodec(_shape(space))
            return ActionSpec(vector.spec.size, False, _bounds(space, "low"), _bounds(space, "high")), vector
        case "Discrete":
            one_hot = OneHotCodec(_checked_size(int(space["n"])), int(space.get("start", 0)))
            return ActionSpec(one_hot.size, True, (0.0,) * one_hot.size, (1.0,) * one_hot.size), one_hot
        case other:
            raise UserError(f"{where}: the action space is {other}, supported are Box and Discrete; record it as one")


def _is_image(space: Space) -> bool:
    shape = _shape(space)
    if space["dtype"] != "uint8":
        return False
    if len(shape) == 2:
        return min(shape) >= _SMALLEST_GREY_IMAGE and set(_bounds(space, "low") + _bounds(space, "high")) == {
            0.0,
            255.0,
        }
    return len(shape) == 3


def _shape(space: Space) -> tuple[int, ...]:
    shape = tuple(map(int, space["shape"]))
    if not 1 <= math.prod(shape) <= _LARGEST_ROW:
        raise UserError(f"a Box of shape {list(shape)}, allowed are 1 to {_LARGEST_ROW} numbers; record it smaller")
    return shape


def _bounds(space: Space, side: str) -> tuple[float, ...]:
    return tuple(np.broadcast_to(np.asarray(space[side], np.float64), _shape(space)).ravel().tolist())


def _checked_size(size: int) -> int:
    if not 1 <= size <= _LARGEST_ONE_HOT:
        raise UserError(f"a Discrete space of {size} values, allowed are 1 to {_LARGEST_ONE_HOT}; record it as a Box")
    return size
