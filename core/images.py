"""What an image is: which axes of an array are its sides, and which are its channels."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

SMALLEST_SIDE = 32  # of an array that has not three axes, as in Minari: smaller ones are tables of numbers


@dataclass(frozen=True, slots=True)
class ImageAxes:
    """How to turn an array into an image: move its axes into ``order``, then reshape it to ``shape``."""

    order: tuple[int, ...]  # the two sides first, then the others
    shape: tuple[int, int, int]  # [H, W, C]

    @classmethod
    def of(cls, shape: Sequence[int]) -> "ImageAxes | None":
        """The axes of an array of this shape; None if it cannot be an image.

        The sides are two adjacent axes that are longer than all others. The other axes become channels in their order:
        those of [k, H, W, C] are the channels of frame 0, then those of frame 1. [H, W, C] needs no long sides.
        """
        first = _first_side(shape)
        if first is None:
            return None
        others = [axis for axis in range(len(shape)) if axis not in (first, first + 1)]
        channels = prod(shape[axis] for axis in others)
        return cls((first, first + 1, *others), (shape[first], shape[first + 1], channels))

    @property
    def is_large(self) -> bool:
        """Whether both sides have the length at which an array of any number of axes counts as an image."""
        return min(self.shape[:2]) >= SMALLEST_SIDE


def _first_side(shape: Sequence[int]) -> int | None:
    if not 2 <= len(shape) <= 4:
        return None
    for axis in range(len(shape) - 1):
        others = (*shape[:axis], *shape[axis + 2 :])
        if min(shape[axis : axis + 2]) > max(others, default=0):
            return axis
    return 0 if len(shape) == 3 else None


def image_axes(dtype: str, shape: Sequence[int]) -> ImageAxes | None:
    """The axes of rows that are images: bytes with three axes, or with two or four if both sides are long enough.

    None for everything else. Floats, booleans and wider integers are never images by themselves, because only the
    user knows which value is white.
    """
    axes = ImageAxes.of(shape) if dtype == "uint8" else None
    return axes if axes is not None and (len(shape) == 3 or axes.is_large) else None


def likely_image(dtype: str, shape: Sequence[int]) -> tuple[int, ...] | None:
    """The shape of the images that rows of numbers may be: the rows' own, or that of a square image in one axis.

    None if the rows do not look like images. Only a doubt may be based on this.
    """
    if len(shape) == 1:
        return _square(shape[0], grey=dtype == "uint8")
    axes = ImageAxes.of(shape)
    return tuple(shape) if axes is not None and axes.is_large else None


def _square(size: int, *, grey: bool) -> tuple[int, ...] | None:
    """[S, S, 3], or [S, S] if ``grey``: vectors of other numbers often have a square length."""
    for channels in (3, 1) if grey else (3,):
        side = round((size / channels) ** 0.5)
        if side >= SMALLEST_SIDE and side * side * channels == size:
            return (side, side, channels) if channels > 1 else (side, side)
    return None
