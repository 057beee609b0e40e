"""TD-MPC's encoder and dynamics: deterministic networks whose outputs are latent states."""

from collections.abc import Mapping, Sequence
from functools import partial
from math import prod

import torch
from torch import Tensor, nn

from dreamset.core.errors import UserError
from dreamset.core.spec import ArraySpec, DataSpec, VectorStatistics
from dreamset.models.encoders import Encoder, ObservationEncoder, PatchesEncoder, Standardize
from dreamset.models.layers import (
    MISH_LAYER_NORM,
    RELU,
    Style,
    images_to_planes,
    initialize_convolutions,
    mlp,
)
from dreamset.models.told.norms import LatentNorm, simplicial

CONVOLUTIONS = ((7, 2), (5, 2), (3, 2), (3, 1))  # kernel and stride of each layer
SMALLEST_FRAME = 8


class FrameEncoder(ObservationEncoder):
    """Four convolutions of ``depth`` channels with kernels of 7, 5, 3 and 3: the images of TD-MPC2.

    Frames of 64 pixels become 4 x 4 positions. In smaller frames the convolutions that no longer fit are left out:
    frames of 32 pixels become 2 x 2 positions. Stacked frames are further channels.
    """

    def __init__(self, spec: ArraySpec, *, depth: int, style: Style = RELU) -> None:
        super().__init__()
        sides, channels = spec.shape[:2], spec.shape[2]
        if min(sides) < SMALLEST_FRAME:
            raise UserError(
                f"the convolutional encoder supports frames of at least {SMALLEST_FRAME} pixels, got {spec.shape}; "
                "use larger images"
            )
        layers: list[nn.Module] = []
        for kernel, stride in CONVOLUTIONS:
            if min(sides) < kernel:
                break
            layers += [nn.Conv2d(channels, depth, kernel, stride), *style.after_planes(depth)]
            channels, sides = depth, tuple((side - kernel) // stride + 1 for side in sides)
        self.layers = nn.Sequential(*layers)
        initialize_convolutions(self.layers, style.initialize)
        self.embedding_size = channels * prod(sides)

    def forward(self, image: Tensor) -> Tensor:
        """``uint8`` images [..., H, W, C] to embeddings [..., E]."""
        planes: Tensor = self.layers(images_to_planes(image))
        return planes.reshape(*image.shape[:-3], self.embedding_size)


class HiddenVectorEncoder(ObservationEncoder):
    """Hidden layers on the standardised vector; published TD-MPC reads it as it is."""

    def __init__(
        self, spec: ArraySpec, statistics: VectorStatistics, *, hidden: int, layers: int, style: Style = MISH_LAYER_NORM
    ) -> None:
        super().__init__()
        self.standardize = Standardize(statistics)
        self.layers = style.trunk(spec.size, hidden=hidden, layers=layers)
        self.embedding_size = hidden if layers else spec.size

    def forward(self, vector: Tensor) -> Tensor:
        """Vectors [..., O] to embeddings [..., E]."""
        embedding: Tensor = self.layers(self.standardize(vector))
        return embedding


class LatentEncoder(nn.Module):
    """z = h(o): hidden layers for the vectors, convolutions for each image, then a linear layer and the norm.

    All vectors are read side by side. The published code for images has no linear layer; its latent has the size that
    the convolutions leave. Here any frames give a latent of any size, and images and vectors can be observed together.

    Args:
        spec: the data's specification.
        size: Z.
        hidden, layers: units and number of the hidden layers for vectors.
        names: observations to read; by default all.
        depth: channels of the convolutions.
        style: of the hidden layers.
        norm: constructs the latent's norm from Z.
        image_style: of the convolutions.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        size: int,
        hidden: int,
        layers: int,
        names: Sequence[str] | None = None,
        depth: int = 32,
        style: Style = MISH_LAYER_NORM,
        norm: LatentNorm = simplicial,
        image_style: Style = RELU,
    ) -> None:
        super().__init__()
        self.observations = Encoder(
            spec,
            depth=depth,
            hidden=hidden,
            layers=layers,
            names=names,
            image=partial(FrameEncoder, style=image_style),
            vector=partial(HiddenVectorEncoder, style=style),
            patches=partial(PatchesEncoder, style=style),
            one_for_vectors=True,
        )
        self.last = style.linear(self.observations.embedding_size, size)
        self.norm = norm(size)
        self.size = size

    def forward(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Observations [..., *shape] by name to latent states [..., Z]."""
        latent: Tensor = self.norm(self.last(self.observations(observations)))
        return latent


class LatentDynamics(nn.Module):
    """z' = d(z, a): hidden layers on both, then a linear layer and the norm.

    Args:
        size: Z.
        action: size of the action.
        hidden, layers: units and number of the hidden layers.
        style: of the hidden layers.
        norm: constructs the latent's norm from Z.
    """

    def __init__(
        self,
        size: int,
        action: int,
        *,
        hidden: int,
        layers: int,
        style: Style = MISH_LAYER_NORM,
        norm: LatentNorm = simplicial,
    ) -> None:
        super().__init__()
        self.layers = mlp(size + action, size, hidden=hidden, layers=layers, style=style)
        self.norm = norm(size)

    def forward(self, latent: Tensor, action: Tensor) -> Tensor:
        """The next latent state [..., Z] after ``action`` [..., A] in ``latent`` [..., Z]."""
        following: Tensor = self.norm(self.layers(torch.cat([latent, action], dim=-1)))
        return following
