"""Specifications of observations and actions: plain values that can be written to json."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # reading a dataset's description must not need PyTorch
    from torch import Tensor


GOAL_PREFIX = "goal."  # goal.image is what the image would be at the goal of the episode


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """Shape and dtype of one named array, without batch and time axes."""

    shape: tuple[int, ...]
    dtype: str
    encoder: str | None = None  # NAME:DIGEST of the frozen encoder, if these are patch features, shaped [P, C]

    @property
    def is_patches(self) -> bool:
        """Whether these are patch features of an image, by a frozen encoder."""
        return self.encoder is not None

    @property
    def is_image(self) -> bool:
        """Whether this is an image: ``uint8``, shaped [height, width, channels]."""
        return self.dtype == "uint8" and len(self.shape) == 3

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        by = f" of the encoder {self.encoder}" if self.is_patches else ""
        return f"{self.dtype} {list(self.shape)}{by}"


@dataclass(frozen=True, slots=True)
class ActionSpec:
    """A continuous action of ``size`` numbers between ``low`` and ``high``, or a one-hot choice of ``size`` actions."""

    size: int
    discrete: bool
    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.low) != self.size or len(self.high) != self.size:
            raise ValueError(f"an action of size {self.size} needs as many bounds, got {self.low} and {self.high}")

    @property
    def bounded(self) -> bool:
        """Whether every bound is finite, so that actions can be rescaled to [-1, 1]."""
        return not self.discrete and all(map(math.isfinite, self.low + self.high))

    def normalize(self, action: "Tensor") -> "Tensor":
        """From the environment's units to [-1, 1]; unbounded and one-hot actions are returned unchanged."""
        if not self.bounded:
            return action
        low, high = self._bounds(action)
        return (action - low) / (high - low) * 2 - 1

    def denormalize(self, action: "Tensor") -> "Tensor":
        """The inverse of ``normalize``."""
        if not self.bounded:
            return action
        low, high = self._bounds(action)
        return low + (action + 1) / 2 * (high - low)

    def _bounds(self, like: "Tensor") -> tuple["Tensor", "Tensor"]:
        return like.new_tensor(self.low), like.new_tensor(self.high)


@dataclass(frozen=True, slots=True)
class VectorStatistics:
    """Mean and standard deviation of a vector over the training episodes; of patch features, one number each."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class DataSpec:
    """Everything that a model must know about its data before it is built."""

    observations: Mapping[str, ArraySpec]
    action: ActionSpec
    privileged: Mapping[str, ArraySpec]
    statistics: Mapping[str, VectorStatistics]  # of every column of vectors or patch features

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``json.dump``; infinite bounds as text, since json has no infinity."""
        plain = asdict(self)
        for array in (*plain["observations"].values(), *plain["privileged"].values()):
            if array["encoder"] is None:  # as before there were patch features
                del array["encoder"]
        for side in ("low", "high"):
            plain["action"][side] = [bound if math.isfinite(bound) else str(bound) for bound in plain["action"][side]]
        return plain

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "DataSpec":
        """The inverse of ``to_json``."""
        return cls(
            observations={name: _array_spec(spec) for name, spec in value["observations"].items()},
            action=ActionSpec(
                size=int(value["action"]["size"]),
                discrete=bool(value["action"]["discrete"]),
                low=tuple(map(float, value["action"]["low"])),
                high=tuple(map(float, value["action"]["high"])),
            ),
            privileged={name: _array_spec(spec) for name, spec in value["privileged"].items()},
            statistics={
                name: VectorStatistics(tuple(map(float, s["mean"])), tuple(map(float, s["std"])))
                for name, s in value["statistics"].items()
            },
        )


def _array_spec(value: Mapping[str, Any]) -> ArraySpec:
    encoder = value.get("encoder")
    shape = tuple(map(int, value["shape"]))
    return ArraySpec(shape, str(value["dtype"]), None if encoder is None else str(encoder))
