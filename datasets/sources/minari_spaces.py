"""From Minari's serialised spaces to fixed columns: how the values of each space are decoded."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec
from dreamset.datasets.sources.codecs import Codec, ImageCodec, OneHotCodec, VectorCodec

Space = Mapping[str, Any]

_SMALLEST_GREY_IMAGE = 32  # as Minari: a smaller [H, W] array of bytes is a table, not a picture
_LARGEST_ONE_HOT = 1 << 16
_LARGEST_ROW = 1 << 27  # numbers in one observation: more is a damaged description


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
