"""Decoders: features to distributions over named observations."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dreamset.core.errors import UserError
from dreamset.core.spec import ArraySpec, DataSpec
from dreamset.models.distributions import UnitNormal
from dreamset.models.encoders import Standardize
from dreamset.models.layers import images_to_planes, linear, mlp

# Kernels of the published decoder (64 pixels) and of its shorter relatives; stride 2 throughout.
KERNELS = {64: (5, 5, 6, 6), 32: (5, 6, 6), 16: (6, 6)}


class TransposedConvolution(nn.Module):
    """A transposed convolution of stride 2 without padding, computed as a convolution and a pixel shuffle.

    Each of the 2 x 2 output phases of the transposed kernel is an ordinary kernel of half the size, so all four are
    channels of one convolution. The result is the same; a CPU is 1.1 to 2.3 times as fast, most on small frames. A
    frame of one pixel needs a matrix product only. ``benchmarks/transposed_convolution.py`` measures both.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, planes: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, 2 (H - 1) + kernel, 2 (W - 1) + kernel]."""
        inputs, outputs, kernel, _ = self.weight.shape
        if planes.shape[-2:] == (1, 1):
            pixels = planes.flatten(1) @ self.weight.flatten(1)
            return pixels.reshape(-1, outputs, kernel, kernel) + self.bias[:, None, None]
        odd = kernel % 2
        half = (kernel + odd) // 2
        weight = F.pad(self.weight, (0, odd, 0, odd)).reshape(inputs, outputs, half, 2, half, 2).flip(2, 4)
        phases = weight.permute(1, 3, 5, 0, 2, 4).reshape(outputs * 4, inputs, half, half)
        shuffled = F.pixel_shuffle(F.conv2d(planes, phases, self.bias.repeat_interleave(4), padding=half - 1), 2)
        return shuffled[:, :, :-1, :-1] if odd else shuffled


class ImageDecoder(nn.Module):
    """A dense layer, then transposed convolutions of stride 2 with ReLU (Dreamer v1, appendix A)."""

    def __init__(self, features: int, spec: ArraySpec, *, depth: int) -> None:
        super().__init__()
        edge, channels = spec.shape[0], spec.shape[2]
        if spec.shape[0] != spec.shape[1] or edge not in KERNELS:
            raise UserError(f"the convolutional decoder makes frames of {sorted(KERNELS)} pixels, got {spec.shape}")
        kernels = KERNELS[edge]
        widths = [depth * 2**power for power in reversed(range(len(kernels) - 1))]  # published: 128, 64, 32
        self.inputs = 8 * widths[0]
        self.dense = linear(features, self.inputs)
        layers: list[nn.Module] = []
        for kernel, before, after in zip(kernels, [self.inputs, *widths], [*widths, channels], strict=True):
            layers += [TransposedConvolution(before, after, kernel), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, features: Tensor) -> UnitNormal:
        """Features [..., F] to N(mean, I) over pixels in [-0.5, 0.5], shaped [..., C, H, W]."""
        planes: Tensor = self.layers(self.dense(features).reshape(-1, self.inputs, 1, 1))
        return UnitNormal(planes.reshape(*features.shape[:-1], *planes.shape[1:]), event_axes=3)

    def target(self, image: Tensor) -> Tensor:
        """The recorded image [..., H, W, C] in the distribution's own units and order."""
        planes = images_to_planes(image)
        return planes.reshape(*image.shape[:-3], *planes.shape[1:])


class VectorDecoder(nn.Module):
    """A dense network that predicts the standardised vector."""

    def __init__(self, features: int, standardize: Standardize, *, size: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.standardize = standardize
        self.layers = mlp(features, size, hidden=hidden, layers=layers)

    def forward(self, features: Tensor) -> UnitNormal:
        """Features [..., F] to N(mean, I) over the standardised vector [..., O]."""
        return UnitNormal(self.layers(features), event_axes=1)

    def target(self, vector: Tensor) -> Tensor:
        """The recorded vector in the distribution's own units."""
        standardized: Tensor = self.standardize(vector)
        return standardized


class Decoder(nn.Module):
    """One decoder per observation, by kind."""

    def __init__(
        self, features: int, spec: DataSpec, *, depth: int, hidden: int, layers: int, names: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        self.decoders = nn.ModuleDict()
        for name in sorted(spec.observations if names is None else names):
            array = spec.observations[name]
            self.decoders[name.replace(".", "/")] = (
                ImageDecoder(features, array, depth=depth)
                if array.is_image
                else VectorDecoder(
                    features, Standardize(spec.statistics[name]), size=array.size, hidden=hidden, layers=layers
                )
            )

    def forward(self, features: Tensor) -> dict[str, UnitNormal]:
        """Features [..., F] to a distribution per observation name."""
        return {key.replace("/", "."): decode(features) for key, decode in self.decoders.items()}

    def targets(self, observations: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The recorded observations in the distributions' own units."""
        result = {}
        for key, decode in self.decoders.items():
            name = key.replace("/", ".")
            target: Callable[[Tensor], Tensor] = decode.target  # type: ignore[assignment]
            result[name] = target(observations[name])
        return result

    def log_prob(self, features: Tensor, observations: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """ln p(o_t | s_t) per observation name, [B, T] each, summed over the observation's elements."""
        targets = self.targets(observations)
        return {name: distribution.log_prob(targets[name]) for name, distribution in self(features).items()}
