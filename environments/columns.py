"""Converts any observation space to named columns: float32 vectors, one-hot rows and uint8 images.

The columns equal those of an ingested recording, so that a model gets the same inputs while acting.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial, singledispatch
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dreamset.core.images import ImageAxes, image_axes
from dreamset.environments.actions import one_hot
from dreamset.environments.frames import area_resize

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Column:
    """Converts values of a space to rows."""

    space: spaces.Box
    encode: Callable[[Any], Array]

    @property
    def is_image(self) -> bool:
        """Whether rows are uint8 [H, W, C]."""
        return self.space.dtype == np.uint8


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value of a nested observation."""

    path: tuple[str, ...]
    space: spaces.Space[Any]
    column: Column | None  # None if the value has no fixed size

    @property
    def name(self) -> str:
        """The path joined by dots; an unnamed observation is ``image`` or ``state``."""
        kind = "image" if self.column is not None and self.column.is_image else "state"
        return ".".join(self.path).replace("/", ".") or kind

    def read(self, observation: Any) -> Array:
        """The row of this value."""
        assert self.column is not None
        for key in self.path:
            observation = observation[key]
        return self.column.encode(observation)


def leaves(space: spaces.Space[Any], image_size: int | None, path: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """Every value of a space, in order; images are shrunk to ``image_size`` squared unless it is None."""
    if isinstance(space, spaces.Dict):
        for name, child in space.spaces.items():
            yield from leaves(child, image_size, (*path, name))
    else:
        yield Leaf(path, space, column(space, image_size))


@singledispatch
def column(space: spaces.Space[Any], image_size: int | None) -> Column | None:  # noqa: ARG001
    """The column of a space; None for spaces without a fixed number of values."""
    return None


@column.register
def _box(space: spaces.Box, image_size: int | None) -> Column:
    axes = _axes(space)
    if axes is not None:
        return _image(axes, image_size)
    with np.errstate(over="ignore"):  # bounds beyond float32 become infinite
        low, high = space.low.astype(np.float32).ravel(), space.high.astype(np.float32).ravel()
    return Column(spaces.Box(low, high, dtype=np.float32), _flat)


@column.register
def _discrete(space: spaces.Discrete, image_size: int | None) -> Column:  # noqa: ARG001
    count, start = int(space.n), int(space.start)
    return Column(spaces.Box(0.0, 1.0, (count,), np.float32), lambda value: one_hot(int(value) - start, count))


@column.register
def _multi_discrete(space: spaces.MultiDiscrete, image_size: int | None) -> Column:  # noqa: ARG001
    low = np.asarray(space.start, np.float32).ravel()
    high = low + np.asarray(space.nvec, np.float32).ravel() - 1
    return Column(spaces.Box(low, high, dtype=np.float32), _flat)


@column.register
def _multi_binary(space: spaces.MultiBinary, image_size: int | None) -> Column:  # noqa: ARG001
    return Column(spaces.Box(0.0, 1.0, (int(np.prod(space.shape)),), np.float32), _flat)


def _axes(space: spaces.Box) -> ImageAxes | None:
    """The axes of a space of images, as in a recording of it; None for vectors."""
    axes = image_axes(str(space.dtype), space.shape)
    whole = len(space.shape) != 2 or bool((space.low == 0).all() and (space.high == 255).all())
    return axes if whole else None


def _image(axes: ImageAxes, image_size: int | None) -> Column:
    height, width, channels = axes.shape
    if image_size is not None:
        height = width = image_size
    box = spaces.Box(0, 255, (height, width, channels), np.uint8)
    return Column(box, partial(_frame, axes=axes, height=height, width=width))


def _frame(value: Any, *, axes: ImageAxes, height: int, width: int) -> NDArray[np.uint8]:
    frame = np.asarray(value, np.uint8).transpose(axes.order)
    return area_resize(np.ascontiguousarray(frame).reshape(axes.shape), height, width)


def _flat(value: Any) -> NDArray[np.float32]:
    return np.asarray(value, np.float32).reshape(-1)
