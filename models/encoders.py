"""Encoders map named observations to one embedding."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Protocol

import torch
from torch import Tensor, nn

from dreamset.core.errors import UserError
from dreamset.core.spec import ArraySpec, DataSpec, VectorStatistics
from dreamset.models.layers import (
    ELU,
    RELU,
    SILU_RMS_NORM,
    Style,
    images_to_planes,
    initialize_convolutions,
    mlp,
)
from dreamset.models.symlog import symlog

SMALLEST = 4  # edge of the smallest planes in Dreamer v3's image networks
MULTIPLES = (2, 3, 4, 4)  # their channels at each level, in multiples of the depth; deeper levels repeat the last one


class ObservationEncoder(nn.Module):
    """A module from one observation [..., *shape] to an embedding [..., embedding_size]."""

    embedding_size: int


class ImageEncoder(ObservationEncoder):
    """Strided convolutions: four kernels of 4, stride 2, widths depth * 1, 2, 4, 8 for 64 pixels.

    With ReLU this is the encoder of Dreamer v1 (appendix A; from World Models), with ELU that of v2. The number of
    layers follows the frame size: the last layer has at most 3 x 3 positions.
    """

    def __init__(self, spec: ArraySpec, *, depth: int, style: Style = RELU) -> None:
        super().__init__()
        edge = spec.shape[0]
        if spec.shape[0] != spec.shape[1] or edge < 8:
            resize = "{_target_: dreamset.datasets.transforms.Resize, height: 64, width: 64}"
            raise UserError(
                f"the convolutional encoder supports square frames of at least 8 pixels, got {spec.shape}; "
                f"add {resize} to dataset.transforms and ingest again"
            )
        channels, width = spec.shape[2], depth
        layers: list[nn.Module] = []
        while edge > 3:
            layers += [nn.Conv2d(channels, width, kernel_size=4, stride=2), *style.after_planes(width)]
            channels, width, edge = width, width * 2, (edge - 4) // 2 + 1
        self.layers = nn.Sequential(*layers)
        initialize_convolutions(self.layers, style.initialize)
        self.embedding_size = channels * edge * edge

    def forward(self, image: Tensor) -> Tensor:
        """``uint8`` images [..., H, W, C] to embeddings [..., E]."""
        planes: Tensor = self.layers(images_to_planes(image))
        return planes.reshape(*image.shape[:-3], self.embedding_size)


class PooledImageEncoder(ObservationEncoder):
    """Convolutions with kernels of 5, each followed by 2 x 2 max pooling (Dreamer v3).

    Every level halves the frame, down to 4 x 4 positions; 64 pixels need four levels of depth * 2, 3, 4, 4 channels.
    """

    def __init__(self, spec: ArraySpec, *, depth: int, style: Style = SILU_RMS_NORM) -> None:
        super().__init__()
        channels = spec.shape[2]
        layers: list[nn.Module] = []
        for width in pyramid_widths(spec, depth):
            layers += [nn.Conv2d(channels, width, kernel_size=5, padding=2), nn.MaxPool2d(2)]
            layers += style.after_planes(width)
            channels = width
        self.layers = nn.Sequential(*layers)
        initialize_convolutions(self.layers, style.initialize)
        self.embedding_size = channels * SMALLEST * SMALLEST

    def forward(self, image: Tensor) -> Tensor:
        """``uint8`` images [..., H, W, C] to embeddings [..., E]."""
        planes: Tensor = self.layers(images_to_planes(image))
        return planes.reshape(*image.shape[:-3], self.embedding_size)


def pyramid_widths(spec: ArraySpec, depth: int) -> Sequence[int]:
    """Channels of each level between the frame and 4 x 4 positions, the largest planes first.

    Raises:
        UserError: if the frame is not square, or repeated halving does not give 4 x 4 positions.
    """
    edge = spec.shape[0]
    if spec.shape[0] != spec.shape[1] or edge < 4 * SMALLEST or edge & (edge - 1):
        raise UserError(
            f"Dreamer v3's encoder and decoder support square frames of 16, 32, 64, ... pixels, got {spec.shape}"
        )
    levels = (edge // SMALLEST).bit_length() - 1
    return [depth * MULTIPLES[min(level, len(MULTIPLES) - 1)] for level in range(levels)]


class VectorEncoder(ObservationEncoder):
    """A dense network on the standardised vector."""

    def __init__(
        self, spec: ArraySpec, statistics: VectorStatistics, *, hidden: int, layers: int, style: Style = ELU
    ) -> None:
        super().__init__()
        self.standardize = Standardize(statistics)
        self.layers = mlp(spec.size, hidden, hidden=hidden, layers=layers, style=style)
        self.embedding_size = hidden

    def forward(self, vector: Tensor) -> Tensor:
        """Vectors [..., O] to embeddings [..., E]."""
        embedding: Tensor = self.layers(self.standardize(vector))
        return embedding


class SymlogVectorEncoder(ObservationEncoder):
    """Hidden layers on symlog(x), which needs no dataset statistics (Dreamer v3)."""

    def __init__(
        self,
        spec: ArraySpec,
        statistics: VectorStatistics,  # noqa: ARG002 - other vector encoders use them
        *,
        hidden: int,
        layers: int,
        style: Style = SILU_RMS_NORM,
    ) -> None:
        super().__init__()
        self.layers = style.trunk(spec.size, hidden=hidden, layers=layers)
        self.embedding_size = hidden

    def forward(self, vector: Tensor) -> Tensor:
        """Vectors [..., O] to embeddings [..., E]."""
        embedding: Tensor = self.layers(symlog(vector))
        return embedding


class PatchesEncoder(ObservationEncoder):
    """Projects the standardised features of every patch alike, then a dense network reads all patches.

    Args:
        spec: of the patch features, [P, C].
        statistics: one mean and one deviation of all of them.
        hidden, layers: of the dense network.
        projection: numbers that are kept of each patch.
        style: activation, norm and initialisation.
    """

    def __init__(
        self,
        spec: ArraySpec,
        statistics: VectorStatistics,
        *,
        hidden: int,
        layers: int,
        projection: int = 16,
        style: Style = ELU,
    ) -> None:
        super().__init__()
        patches, channels = spec.shape
        self.standardize = Standardize(statistics)
        self.project = style.linear(channels, projection)
        self.layers = mlp(patches * projection, hidden, hidden=hidden, layers=layers, style=style)
        self.embedding_size = hidden

    def forward(self, patches: Tensor) -> Tensor:
        """Patch features [..., P, C] to embeddings [..., E]."""
        embedding: Tensor = self.layers(self.project(self.standardize(patches)).flatten(-2))
        return embedding


class Standardize(nn.Module):
    """(x - mean) / std with the statistics of the training episodes, which the state dict holds."""

    mean: Tensor
    std: Tensor

    def __init__(self, statistics: VectorStatistics) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(statistics.mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(statistics.std, dtype=torch.float32))

    def forward(self, values: Tensor) -> Tensor:
        """Standardised vectors [..., O] or patch features [..., P, C], in float32."""
        return (values - self.mean) / self.std


class MakesImageEncoder(Protocol):
    """Constructs an image encoder: its class, or a partial of it."""

    def __call__(self, spec: ArraySpec, *, depth: int) -> ObservationEncoder:
        """An encoder of images of ``spec``."""


class MakesVectorEncoder(Protocol):
    """Constructs a vector encoder: its class, or a partial of it."""

    def __call__(
        self, spec: ArraySpec, statistics: VectorStatistics, *, hidden: int, layers: int
    ) -> ObservationEncoder:
        """An encoder of vectors of ``spec``."""


class Encoder(nn.Module):
    """One encoder for each observation, of its kind; embeddings are concatenated in the order of the names.

    With ``one_for_vectors`` a single encoder, the last one, reads all vectors side by side (Dreamer v2 and v3).

    Args:
        spec: the data's specification.
        depth: channels of the first convolution of an image.
        hidden, layers: of the dense networks.
        names: observations to read; by default all. Others are only targets of the objective, such as patch features.
        image, vector, patches: construct the encoders of each kind.
        one_for_vectors: whether one encoder reads all vectors.

    Raises:
        UserError: if there is no observation, or a name is unknown.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        depth: int,
        hidden: int,
        layers: int,
        names: Sequence[str] | None = None,
        image: MakesImageEncoder = ImageEncoder,
        vector: MakesVectorEncoder = VectorEncoder,
        patches: MakesVectorEncoder = PatchesEncoder,
        one_for_vectors: bool = False,
    ) -> None:
        super().__init__()
        spec = _read_only(spec, names)
        self.names = sorted(spec.observations)
        self.together = vector_names(spec) if one_for_vectors else []
        encoders: dict[str, ObservationEncoder] = {}
        for name, array in sorted(spec.observations.items()):
            if array.is_image:
                encoders[name.replace(".", "/")] = image(array, depth=depth)
            elif array.is_patches:
                encoders[name.replace(".", "/")] = patches(array, spec.statistics[name], hidden=hidden, layers=layers)
            elif not one_for_vectors:
                encoders[name.replace(".", "/")] = vector(array, spec.statistics[name], hidden=hidden, layers=layers)
        self.encoders = nn.ModuleDict(encoders)
        self.of_vectors = vector(*joined_vectors(spec), hidden=hidden, layers=layers) if self.together else None
        every = [*encoders.values(), *([self.of_vectors] if self.of_vectors is not None else [])]
        self.embedding_size = sum(encoder.embedding_size for encoder in every)

    def forward(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Observations [B, T, ...] by name to the embedding [B, T, E]."""
        parts = [encode(observations[key.replace("/", ".")]) for key, encode in self.encoders.items()]
        if self.of_vectors is not None:
            parts.append(self.of_vectors(torch.cat([observations[name] for name in self.together], dim=-1)))
        return torch.cat(parts, dim=-1)


def _read_only(spec: DataSpec, names: Sequence[str] | None) -> DataSpec:
    """The specification with only the observations in ``names``; None: all."""
    if not spec.observations:
        raise UserError("the dataset has no observations: name at least one in `dataset.source.observations`")
    if names is None:
        return spec
    unknown = sorted(set(names) - spec.observations.keys())
    if unknown or not names:
        raise UserError(
            f"world_model.encoder.names is {list(names)}; allowed: null, or one or more of the dataset's observations "
            f"{sorted(spec.observations)}"
        )
    return replace(spec, observations={name: array for name, array in spec.observations.items() if name in names})


def vector_names(spec: DataSpec) -> list[str]:
    """The names of the observations that are vectors, in order."""
    return sorted(name for name, array in spec.observations.items() if not (array.is_image or array.is_patches))


def joined_vectors(spec: DataSpec) -> tuple[ArraySpec, VectorStatistics]:
    """The specification and the statistics of all vectors as one, in the order of their names."""
    statistics = [spec.statistics[name] for name in vector_names(spec)]
    mean = tuple(chain.from_iterable(one.mean for one in statistics))
    std = tuple(chain.from_iterable(one.std for one in statistics))
    return ArraySpec((len(mean),), "float32"), VectorStatistics(mean, std)
