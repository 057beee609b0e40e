"""Encoders: named observations to one embedding."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dreamset.core.errors import UserError
from dreamset.core.spec import ArraySpec, DataSpec, VectorStatistics
from dreamset.models.layers import images_to_planes, initialize_convolutions, mlp


class ImageEncoder(nn.Module):
    """Strided convolutions with ReLU: four kernels of 4, stride 2, widths depth * 1, 2, 4, 8 for 64 pixels.

    Layers are added until at most 3 x 3 positions are left, so that smaller frames work too
    (Dreamer v1, appendix A; from World Models).
    """

    def __init__(self, spec: ArraySpec, *, depth: int) -> None:
        super().__init__()
        edge = spec.shape[0]
        if spec.shape[0] != spec.shape[1] or edge < 8:
            raise UserError(f"the convolutional encoder takes square frames of at least 8 pixels, got {spec.shape}")
        channels, width = spec.shape[2], depth
        layers: list[nn.Module] = []
        while edge > 3:
            layers += [nn.Conv2d(channels, width, kernel_size=4, stride=2), nn.ReLU()]
            channels, width, edge = width, width * 2, (edge - 4) // 2 + 1
        self.layers = nn.Sequential(*layers)
        initialize_convolutions(self.layers)
        self.embedding_size = channels * edge * edge

    def forward(self, image: Tensor) -> Tensor:
        """``uint8`` images [..., H, W, C] to embeddings [..., E]."""
        planes: Tensor = self.layers(images_to_planes(image))
        return planes.reshape(*image.shape[:-3], self.embedding_size)


class VectorEncoder(nn.Module):
    """A dense network on the standardised vector."""

    def __init__(self, spec: ArraySpec, statistics: VectorStatistics, *, hidden: int, layers: int) -> None:
        super().__init__()
        self.standardize = Standardize(statistics)
        self.layers = mlp(spec.size, hidden, hidden=hidden, layers=layers)
        self.embedding_size = hidden

    def forward(self, vector: Tensor) -> Tensor:
        """Vectors [..., O] to embeddings [..., E]."""
        embedding: Tensor = self.layers(self.standardize(vector))
        return embedding


class Standardize(nn.Module):
    """(x - mean) / std with the training episodes' statistics, kept in the state dict."""

    mean: Tensor
    std: Tensor

    def __init__(self, statistics: VectorStatistics) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(statistics.mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(statistics.std, dtype=torch.float32))

    def forward(self, vector: Tensor) -> Tensor:
        """The standardised vector, flat over its event axes: [..., O]."""
        return (vector - self.mean) / self.std


class Encoder(nn.Module):
    """One encoder per observation, by kind; embeddings are concatenated in the order of the names."""

    def __init__(self, spec: DataSpec, *, depth: int, hidden: int, layers: int) -> None:
        super().__init__()
        if not spec.observations:
            raise UserError("the dataset has no observations: name at least one in `dataset.observations`")
        encoders: dict[str, ImageEncoder | VectorEncoder] = {}
        for name, array in sorted(spec.observations.items()):
            encoders[name.replace(".", "/")] = (
                ImageEncoder(array, depth=depth)
                if array.is_image
                else VectorEncoder(array, spec.statistics[name], hidden=hidden, layers=layers)
            )
        self.encoders = nn.ModuleDict(encoders)
        self.embedding_size = sum(encoder.embedding_size for encoder in encoders.values())

    def forward(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Observations [B, T, ...] by name to the embedding [B, T, E]."""
        return torch.cat([encode(observations[key.replace("/", ".")]) for key, encode in self.encoders.items()], dim=-1)
