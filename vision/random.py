"""An encoder without pretraining, for the ablation that shows what the pretraining is worth."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dreamset.vision.base import FrozenEncoder

if TYPE_CHECKING:
    from torch import Tensor

    from dreamset.vision.networks import PatchNetwork

IMAGES, PATCHES = 16, 8  # random images of so many patches of one colour on each side, enlarged smoothly


@dataclass(frozen=True)
class RandomWeights(FrozenEncoder):
    """The same network with the same images, but with random weights, as at the start of a training.

    Batch norms have the statistics of random images; without any, the features would vanish from layer to layer.

    Attributes:
        encoder: whose network it is. Of EfficientNetLite0 no pretrained weights are needed.
        seed: of the weights.
    """

    encoder: FrozenEncoder
    seed: int = 0

    @property
    def name(self) -> str:
        """The name of the encoder, with ``random_`` before it."""
        return f"random_{self.encoder.name}"

    @property
    def size(self) -> int:
        """That of the encoder."""
        return self.encoder.size

    @property
    def pool(self) -> int:
        """That of the encoder."""
        return self.encoder.pool

    @property
    def device(self) -> str:
        """That of the encoder."""
        return self.encoder.device

    @property
    def normalization(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """That of the encoder."""
        return self.encoder.normalization

    def settings(self) -> Mapping[str, Any]:
        """The settings that the features depend on, as plain values."""
        return {**self.encoder.settings(), "seed": self.seed}

    def network(self) -> "PatchNetwork":
        """The network with its random weights."""
        return self._initialized

    def weights(self) -> "Mapping[str, Tensor]":
        """The random weights."""
        return self._initialized.state_dict()

    def fingerprint(self, values: "Tensor") -> bytes:  # noqa: ARG002 - the seed stands for the values
        """Nothing: the last bits of random weights depend on the machine, and the seed is among the settings."""
        return b""

    @cached_property
    def _initialized(self) -> "PatchNetwork":
        import torch

        from dreamset.vision.networks import prepared, settle_norms

        with torch.random.fork_rng(devices=[]):  # the global generator keeps its state
            torch.manual_seed(self.seed)
            network = self.encoder.network()
            images = torch.randint(0, 256, (IMAGES, PATCHES, PATCHES, 3), dtype=torch.uint8)
            settle_norms(network, prepared(images, self.size, *self.normalization))
        return network
