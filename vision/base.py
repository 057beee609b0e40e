"""What data and environments need of a frozen encoder, and what all encoders share."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dreamset.core.errors import UserError

if TYPE_CHECKING:  # an encoder that is only described must not need PyTorch
    from torch import Tensor

    from dreamset.vision.networks import PatchNetwork

BATCH = 32  # images that pass through the network at once
DEVICES = ("auto", "cpu", "cuda")


class PatchEncoder(Protocol):
    """Turns images into features of their patches, always in the same way."""

    @property
    def name(self) -> str:
        """Name of the network."""

    @property
    def digest(self) -> str:
        """Hash of everything that the features depend on: the weights and the settings."""

    @property
    def shape(self) -> tuple[int, int]:
        """P patches and C channels."""

    def settings(self) -> Mapping[str, Any]:
        """The settings that the features depend on, as plain values."""

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Images [N, H, W, 3] to features [N, P, C]; patches row by row."""


def label(encoder: PatchEncoder) -> str:
    """``NAME:DIGEST``, by which a column of patch features names its encoder."""
    return f"{encoder.name}:{encoder.digest}"


class FrozenEncoder(ABC):
    """A network with fixed weights. Subclasses are frozen dataclasses of settings.

    Images are resized to ``size`` x ``size`` pixels, bilinearly and with antialiasing; images of another aspect ratio
    are stretched. Then each pixel p from 0 to 255 becomes (p - mean) / deviation, with the numbers of the network.
    """

    @property
    @abstractmethod
    def size(self) -> int:
        """Edge of the images that the network sees."""

    @property
    @abstractmethod
    def pool(self) -> int:
        """Features are means over ``pool`` x ``pool`` neighbouring patches, which makes models cheaper."""

    @property
    @abstractmethod
    def device(self) -> str:
        """auto, cpu or cuda; auto takes a GPU if there is one."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the network."""

    @property
    @abstractmethod
    def normalization(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Mean and deviation of red, green and blue, from 0 to 255."""

    @abstractmethod
    def network(self) -> "PatchNetwork":
        """The network before its weights are loaded."""

    @abstractmethod
    def weights(self) -> "Mapping[str, Tensor]":
        """The weights of the network by their names in it."""

    def settings(self) -> Mapping[str, Any]:
        """The settings that the features depend on, as plain values."""
        mean, deviation = self.normalization
        return {"size": self.size, "pool": self.pool, "mean": list(mean), "deviation": list(deviation)}

    @cached_property
    def digest(self) -> str:
        """Hash of name, settings and weights, 16 hexadecimal digits."""
        total = hashlib.sha256(json.dumps([self.name, self.settings()], sort_keys=True).encode())
        for name, value in sorted(self._loaded.state_dict().items()):
            total.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
            total.update(self.fingerprint(value))
        return total.hexdigest()[:16]

    def fingerprint(self, values: "Tensor") -> bytes:
        """What the digest takes of a tensor of weights: its values."""
        return values.cpu().contiguous().numpy().tobytes()

    @cached_property
    def shape(self) -> tuple[int, int]:
        """P patches and C channels.

        Raises:
            UserError: if the patches of a side cannot be pooled.
        """
        side = self._loaded.side(self.size)
        if side % self.pool:
            raise UserError(
                f"{type(self).__name__}: pool is {self.pool}; allowed: divisors of {side}, the patches on each side of "
                f"images of {self.size} pixels; change pool or size"
            )
        return (side // self.pool) ** 2, self._loaded.channels

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Images [N, H, W, 3] to features [N, P, C]; patches row by row.

        Raises:
            UserError: if the images have not three channels.
        """
        require_colour(self, images.shape[1:])
        parts = [self._of_batch(images[first : first + BATCH]) for first in range(0, len(images), BATCH)]
        return np.concatenate([np.empty((0, *self.shape), np.float16), *parts])

    @cached_property
    def _loaded(self) -> "PatchNetwork":
        """The network with its weights, ready for use.

        Raises:
            UserError: if the weights do not fit the network, or the settings are wrong.
        """
        import torch

        if self.device not in DEVICES or self.pool < 1 or self.size < 1:
            raise UserError(
                f"{type(self).__name__}: size is {self.size}, pool is {self.pool} and device is {self.device!r}; "
                f"allowed: 1 or more for size and pool, and {', '.join(DEVICES)} for device"
            )
        network = self.network()
        _load(network, self.weights(), self.name)
        automatic = "cuda" if torch.cuda.is_available() else "cpu"
        return network.to(automatic if self.device == "auto" else self.device).eval().requires_grad_(False)

    def _of_batch(self, images: NDArray[np.uint8]) -> NDArray[np.float16]:
        """The features of a few images."""
        import torch

        from dreamset.vision.networks import pooled, prepared

        with torch.inference_mode():
            mean, deviation = self.normalization
            device = next(self._loaded.parameters()).device
            planes = prepared(torch.tensor(images, device=device), self.size, mean, deviation)
            patches = pooled(self._loaded(planes), self.pool).flatten(1, 2)  # [N, P, C]
            half: NDArray[np.float16] = patches.half().cpu().numpy()
        return half


def require_colour(encoder: PatchEncoder, shape: tuple[int, ...]) -> None:
    """Checks that images are colour images, [H, W, 3].

    Raises:
        UserError: if they are not.
    """
    if len(shape) != 3 or shape[2] != 3:
        raise UserError(
            f"the encoder {encoder.name} reads images [height, width, 3], got {list(shape)}; place PatchFeatures "
            f"before the transforms Grayscale and StackFrames, or name another image"
        )


def _load(network: "PatchNetwork", weights: "Mapping[str, Tensor]", name: str) -> None:
    """Loads weights into a network that they must fit exactly."""
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    given = {key: tuple(value.shape) for key, value in weights.items()}
    unequal = sorted(key for key in wanted.keys() | given.keys() if wanted.get(key) != given.get(key))
    if unequal:
        key = unequal[0]
        raise UserError(
            f"the weights are not those of {name}: {len(unequal)} entries differ, such as {key!r}, which is "
            f"{given.get(key, 'missing')} in the file and {wanted.get(key, 'missing')} in the network; choose the "
            f"weights of this network"
        )
    network.load_state_dict(weights)
