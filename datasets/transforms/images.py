"""Transforms of images: crop, resize, convert to grey, make images of vectors. Images are uint8 [N + 1, H, W, C]."""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dreamset.core.errors import UserError
from dreamset.core.images import ImageAxes
from dreamset.core.spec import ArraySpec
from dreamset.datasets.episode import Array, RawEpisode
from dreamset.datasets.sources.base import SourceDescription
from dreamset.datasets.sources.codecs import without_doubts
from dreamset.datasets.transforms.base import EpisodeTransform

T = TypeVar("T")
Frames = NDArray[np.uint8]  # [N + 1, H, W, C]

_LUMA = np.array([299, 587, 114], np.uint32)  # thousandths, ITU-R BT.601; integers round alike on every machine


class ImageTransform(EpisodeTransform):
    """A transform of every image column, or of those in ``only``."""

    only: Sequence[str] | None

    @abstractmethod
    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """[H, W, C] after the transform."""

    @abstractmethod
    def frames(self, frames: Frames) -> Frames:
        """The images after the transform."""

    def columns(self, description: SourceDescription) -> SourceDescription:
        """The new shapes."""
        specs = {**description.privileged, **description.observations}
        images = sorted(name for name, spec in specs.items() if spec.is_image)
        if not images:
            raise UserError(
                f"{type(self).__name__}: there is no image among {', '.join(sorted(specs))}; remove the transform"
            )
        for name in self.only or ():
            if name not in images:
                raise UserError(f"{type(self).__name__}: {name!r} in 'only' is not an image; available: {images}")
        return replace(
            description,
            observations={name: self._spec(name, spec) for name, spec in description.observations.items()},
            privileged={name: self._spec(name, spec) for name, spec in description.privileged.items()},
        )

    def apply(self, raw: RawEpisode) -> RawEpisode:
        """The episode with transformed images."""
        return replace(raw, observations=self._each(raw.observations), privileged=self._each(raw.privileged))

    def _spec(self, name: str, spec: ArraySpec) -> ArraySpec:
        return ArraySpec(self.shape(spec.shape), "uint8") if spec.is_image and self._chosen(name) else spec

    def _each(self, columns: Mapping[str, Array]) -> dict[str, Array]:
        return {
            name: self.frames(values.astype(np.uint8, copy=False))
            if values.ndim == 4 and values.dtype == np.uint8 and self._chosen(name)
            else values
            for name, values in columns.items()
        }

    def _chosen(self, name: str) -> bool:
        return self.only is None or name in self.only


@dataclass(frozen=True)
class Resize(ImageTransform):
    """Shrinks to ``height`` x ``width`` with an area filter: a new pixel is the mean of the area that it covers.

    For whole factors this is the mean of a block; otherwise pixels on a border are weighted by their share. Sums are
    exact and rounded half up.
    """

    height: int
    width: int
    only: Sequence[str] | None = None

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """[height, width, C]."""
        if self.height < 1 or self.width < 1 or self.height > shape[0] or self.width > shape[1]:
            raise UserError(
                f"Resize to {self.height} x {self.width}: images are {shape[0]} x {shape[1]}, and an area filter can "
                f"only shrink them; choose a smaller size"
            )
        return (self.height, self.width, *shape[2:])

    def frames(self, frames: Frames) -> Frames:
        """Means of blocks for whole factors, otherwise weighted sums frame by frame."""
        rows, height, width, channels = frames.shape
        if (height, width) == (self.height, self.width):
            return frames
        if height % self.height == 0 and width % self.width == 0:
            tall, wide = height // self.height, width // self.width
            blocks = frames.reshape(rows, self.height, tall, self.width, wide, channels)
            sums = blocks.sum(axis=(2, 4), dtype=np.uint32)
            means: Frames = ((sums + tall * wide // 2) // (tall * wide)).astype(np.uint8)
            return means
        down, across = _overlaps(height, self.height), _overlaps(width, self.width)
        resized = np.empty((rows, self.height, self.width, channels), np.uint8)
        for frame, small in zip(frames, resized, strict=True):
            sums = across @ (down @ frame.reshape(height, -1)).reshape(self.height, width, channels)
            small[:] = (sums + height * width // 2) // (height * width)
        return resized


def _overlaps(old: int, new: int) -> NDArray[np.float64]:
    """[new, old] the overlap of each new pixel with each old pixel, in units of 1 / new.

    All values are whole numbers below 2^53, so sums of products with bytes are exact in any order.
    """
    ends = np.minimum(np.arange(1, new + 1)[:, None] * old, np.arange(1, old + 1) * new)
    begins = np.maximum(np.arange(new)[:, None] * old, np.arange(old) * new)
    overlaps: NDArray[np.float64] = np.maximum(ends - begins, 0).astype(np.float64)
    return overlaps


@dataclass(frozen=True)
class Crop(ImageTransform):
    """Cuts out ``height`` x ``width`` pixels at the corner ``top``, ``left``; by default at the centre."""

    height: int
    width: int
    top: int | None = None
    left: int | None = None
    only: Sequence[str] | None = None

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """[height, width, C]."""
        top, left = self._corner(shape)
        fits = top >= 0 and top + self.height <= shape[0] and left >= 0 and left + self.width <= shape[1]
        if not fits or self.height < 1 or self.width < 1:
            raise UserError(
                f"Crop of {self.height} x {self.width} at {top}, {left} does not fit into images of {shape[0]} x "
                f"{shape[1]}; choose another rectangle"
            )
        return (self.height, self.width, *shape[2:])

    def frames(self, frames: Frames) -> Frames:
        """A copy, so that the original images can be freed."""
        top, left = self._corner(frames.shape[1:])
        return frames[:, top : top + self.height, left : left + self.width].copy()

    def _corner(self, shape: tuple[int, ...]) -> tuple[int, int]:
        top = (shape[0] - self.height) // 2 if self.top is None else self.top
        return top, (shape[1] - self.width) // 2 if self.left is None else self.left


@dataclass(frozen=True)
class Grayscale(ImageTransform):
    """One channel of brightness per frame: 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), rounded half up.

    A stack of k colour images has 3 k channels and becomes one of k channels.
    """

    only: Sequence[str] | None = None

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """[H, W, C / 3]."""
        if shape[2] % len(_LUMA):
            raise UserError(
                f"Grayscale needs three channels per frame, the images have {shape[2]}; exclude them with 'only'"
            )
        return (*shape[:2], shape[2] // len(_LUMA))

    def frames(self, frames: Frames) -> Frames:
        """[N + 1, H, W, C / 3]."""
        grey = np.empty((len(frames), *self.shape(frames.shape[1:])), np.uint8)
        for frame, brightness in zip(frames, grey, strict=True):  # one by one: the sums take four times as much memory
            brightness[:] = (frame.reshape(*brightness.shape, len(_LUMA)) @ _LUMA + 500) // 1000
        return grey


@dataclass(frozen=True)
class StackFrames(ImageTransform):
    """Every image with the ``count`` - 1 before it as further channels, for models without memory; oldest first.

    The first image of an episode takes the place of those before it. ``dreamset.environments.stacked`` does the same to
    an environment. Transforms that join or drop steps belong before this one.
    """

    count: int
    only: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UserError(f"StackFrames: count is {self.count}; allowed: 1 or more")

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """[H, W, count C]."""
        return (*shape[:2], self.count * shape[2])

    def frames(self, frames: Frames) -> Frames:
        """[N + 1, H, W, count C]."""
        rows, channels = len(frames), frames.shape[3]
        stacked = np.empty((rows, *self.shape(frames.shape[1:])), np.uint8)
        for place in range(self.count):
            source = np.maximum(np.arange(rows) - (self.count - 1 - place), 0)
            stacked[..., place * channels : (place + 1) * channels] = frames[source]
        return stacked


@dataclass(frozen=True)
class AsImage(EpisodeTransform):
    """Makes images of a column that was read as a vector: floats, flags, depth, or flattened images.

    ``black`` becomes 0 and ``white`` 255, linearly between them and rounded; other values are an error unless ``clip``
    is set.

    Args:
        name: the column.
        shape: of the stored rows, such as [H, W], [H, W, C], [C, H, W] or [k, H, W, C]; see ``core/images.py``.
        white: the value that becomes 255.
        black: the value that becomes 0.
        clip: whether values outside become black or white.
    """

    name: str
    shape: Sequence[int]
    white: float
    black: float = 0.0
    clip: bool = False

    def __post_init__(self) -> None:
        if self._axes is None:
            raise UserError(
                f"AsImage: shape is {list(self.shape)}; allowed: [H, W], [H, W, C], [C, H, W] or [k, H, W, C], with "
                f"sides longer than the other axes"
            )
        if not (math.isfinite(self.black) and math.isfinite(self.white) and self.black != self.white):
            raise UserError(f"AsImage: black is {self.black} and white is {self.white}; allowed: two different numbers")

    def columns(self, description: SourceDescription) -> SourceDescription:
        """The column as images; the doubt about it is settled."""
        specs = {**description.privileged, **description.observations}
        if self.name not in specs:
            raise UserError(f"AsImage: {self.name!r} does not exist; available: {sorted(specs)}")
        if specs[self.name] != ArraySpec((math.prod(self.shape),), "float32"):
            got = f"{specs[self.name].dtype}{list(specs[self.name].shape)}"
            raise UserError(
                f"AsImage: {self.name!r} is {got}, but images of shape {list(self.shape)} have "
                f"{math.prod(self.shape)} numbers; change the shape or remove the transform"
            )
        return replace(
            description,
            observations=self._replaced(description.observations, self._spec),
            privileged=self._replaced(description.privileged, self._spec),
            doubts=without_doubts(description.doubts, [self.name]),
        )

    def apply(self, raw: RawEpisode) -> RawEpisode:
        """The episode with images.

        Raises:
            UserError: if a value is outside ``black`` to ``white``.
        """
        known = {**raw.privileged, **raw.observations}
        if self.name not in known:
            return raw
        images = self._images(known[self.name], raw.name)
        return replace(
            raw,
            observations=self._replaced(raw.observations, images),
            privileged=self._replaced(raw.privileged, images),
        )

    def _images(self, rows: Array, where: str) -> Frames:
        assert self._axes is not None
        images = np.empty((len(rows), *self._axes.shape), np.uint8)
        for step, (row, image) in enumerate(zip(rows, images, strict=True)):
            levels = np.rint((row.astype(np.float64) - self.black) * (255 / (self.white - self.black)))
            outside = np.flatnonzero((levels < 0) | (levels > 255))
            if outside.size and not self.clip:
                raise UserError(
                    f"{where}: {self.name!r} is {row[outside[0]]:g} at step {step}; allowed: {self.black:g} to "
                    f"{self.white:g}; change black and white of AsImage, or set clip to true"
                )
            axes = np.clip(levels, 0, 255).reshape(self.shape).transpose(self._axes.order)
            image[:] = axes.reshape(self._axes.shape)
        return images

    def _replaced(self, columns: Mapping[str, T], value: T) -> dict[str, T]:
        return {name: value if name == self.name else column for name, column in columns.items()}

    @property
    def _spec(self) -> ArraySpec:
        assert self._axes is not None
        return ArraySpec(self._axes.shape, "uint8")

    @property
    def _axes(self) -> ImageAxes | None:
        return ImageAxes.of(self.shape)
