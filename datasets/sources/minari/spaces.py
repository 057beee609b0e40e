"""Maps Minari's serialised spaces to codecs of columns."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from dreamset.core.errors import UserError
from dreamset.core.images import image_axes
from dreamset.datasets.sources.codecs import Codec, ImageCodec, OneHotCodec, VectorCodec
from dreamset.datasets.sources.minari.storage import LeafPath

Space = Mapping[str, Any]

LARGEST_ONE_HOT = 1 << 16
_LARGEST_ROW = 1 << 27  # numbers in one observation; more means a damaged description


def leaves(space: Space, path: LeafPath = ()) -> dict[LeafPath, Space]:
    """The spaces with values, by path, in the order of the space."""
    if space["type"] == "Dict":
        children = dict(space["subspaces"])
    elif space["type"] == "Tuple":
        children = {f"_index_{i}": child for i, child in enumerate(space["subspaces"])}
    else:
        return {path: space}
    return {p: leaf for name, child in children.items() for p, leaf in leaves(child, (*path, str(name))).items()}


def row_shape(space: Space) -> tuple[int, ...]:
    """The shape of one value of a leaf space; () for scalar spaces such as Discrete."""
    match space["type"]:
        case "Box":
            return tuple(map(int, space["shape"]))
        case "MultiDiscrete":
            return np.shape(space["nvec"])
        case "MultiBinary":
            return tuple(map(int, np.atleast_1d(space["n"])))
        case _:
            return ()


def codec_of(space: Space) -> Codec | None:
    """The codec of a leaf space; None without a fixed, positive number of values, such as for text."""
    match space["type"]:
        case "Box" if 0 in space["shape"]:
            return None
        case "Box":
            shape = checked_shape(space)
            return ImageCodec(shape) if _is_image(space) else VectorCodec(shape, str(space["dtype"]))
        case "Discrete":
            return OneHotCodec(_checked_size(int(space["n"])), int(space.get("start", 0)))
        case "MultiDiscrete" | "MultiBinary":
            return VectorCodec(checked_shape(space))
        case _:
            return None


def checked_shape(space: Space) -> tuple[int, ...]:
    """``row_shape``; raises a ``UserError`` if it is empty or too large."""
    shape = row_shape(space)
    if not 1 <= math.prod(shape) <= _LARGEST_ROW:
        kind = space["type"]
        raise UserError(f"a {kind} of shape {list(shape)}; allowed: 1 to {_LARGEST_ROW} numbers; record it smaller")
    return shape


def bounds(space: Space, side: str) -> tuple[float, ...]:
    """The ``low`` or ``high`` bounds of a Box, flattened."""
    return tuple(np.broadcast_to(np.asarray(space[side], np.float64), checked_shape(space)).ravel().tolist())


def _is_image(space: Space) -> bool:
    """Whether rows are images by ``core/images.py``; two axes also need the bounds of bytes, as in Minari."""
    shape = checked_shape(space)
    if image_axes(str(space["dtype"]), shape) is None:
        return False
    return len(shape) != 2 or set(bounds(space, "low") + bounds(space, "high")) == {0.0, 255.0}


def _checked_size(size: int) -> int:
    if not 1 <= size <= LARGEST_ONE_HOT:
        raise UserError(f"a Discrete space of {size} values; allowed: 1 to {LARGEST_ONE_HOT}; record it as a Box")
    return size
