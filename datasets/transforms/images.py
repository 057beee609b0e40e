"""Transforms of images: crop, resize, convert to grey. Input and output are uint8 [N + 1, H, W, C]."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dreamset.core.errors import UserError
from dreamset.core.spec import ArraySpec
from dreamset.datasets.episode import Array, RawEpisode
from dreamset.datasets.sources.base import SourceDescription
from dreamset.datasets.transforms.base import EpisodeTransform

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
            raise UserError(f"{type(self).__name__}: there is no image among {sorted(specs)}; remove the transform")
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
    """One channel of brightness: 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), rounded half up."""

    only: Sequence[str] | None = None

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """[H, W, 1]."""
        if shape[2] != len(_LUMA):
            raise UserError(f"Grayscale needs three channels, the images have {shape[2]}; exclude them with 'only'")
        return (*shape[:2], 1)

    def frames(self, frames: Frames) -> Frames:
        """[N + 1, H, W, 1]."""
        grey = np.empty((*frames.shape[:3], 1), np.uint8)
        for frame, brightness in zip(
            frames, grey, strict=True
        ):  # frame by frame: the sums take four times as much memory
            brightness[..., 0] = (frame @ _LUMA + 500) // 1000
        return grey
