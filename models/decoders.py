"""Decoders map features to distributions over named observations."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dreamset.core.errors import UserError
from dreamset.core.spec import ArraySpec, DataSpec, VectorStatistics
from dreamset.models.distributions import Distribution, SquaredError, SymlogSquaredError, UnitNormal
from dreamset.models.encoders import SMALLEST, Standardize, pyramid_widths, vector_names
from dreamset.models.layers import ELU, RELU, SILU_RMS_NORM, BlockLinear, Style, images_to_planes, mlp

# Kernels by frame size: the published decoder (64 pixels) and its shorter variants; all strides are 2.
KERNELS = {64: (5, 5, 6, 6), 32: (5, 6, 6), 16: (6, 6)}


class TransposedConvolution(nn.Module):
    """A transposed convolution of stride 2 without padding, computed as a convolution and a pixel shuffle.

    Each of the 2 x 2 output phases of the transposed kernel is an ordinary kernel of half the size. All four are
    channels of one convolution. The result is the same; on a CPU it is 1.1 to 2.3 times as fast, most on small
    frames. A frame of one pixel needs only a matrix product. ``benchmarks/transposed_convolution.py`` measures both.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, style: Style = RELU) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        style.initialize(self.weight)

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


class UpsampledConvolution(nn.Module):
    """Repeats every pixel 2 x 2 times, then convolves with kernel 5 and keeps the size (Dreamer v3's decoder).

    Each of the 2 x 2 output phases reads 3 x 3 different pixels, some of them repeated. The kernel's taps on the same
    pixel add up, which gives four 3 x 3 kernels on the small planes: the channels of one convolution. The result is
    the same with 9 products per output instead of 25.
    """

    taps: Tensor

    def __init__(self, inputs: int, outputs: int, style: Style) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 5, 5))
        self.bias = nn.Parameter(torch.zeros(outputs))
        style.initialize(self.weight)
        taps = torch.tensor(  # [phase, tap of 5, pixel of 3]: tap k at phase p reads pixel floor((p + k - 2) / 2) + 1
            [
                [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1]],
                [[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]],
            ]
        )
        self.register_buffer("taps", taps.to(self.weight.dtype), persistent=False)

    def forward(self, planes: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, 2 H, 2 W]."""
        phases = torch.einsum("oikl,pka,qlb->opqiab", self.weight, self.taps, self.taps).flatten(0, 2)
        return F.pixel_shuffle(F.conv2d(planes, phases, self.bias.repeat_interleave(4), padding=1), 2)


class ObservationDecoder(nn.Module, ABC):
    """A module from features to a distribution over one observation."""

    @abstractmethod
    def forward(self, features: Tensor) -> Distribution:
        """p(o | s) from features [..., F]."""

    @abstractmethod
    def target(self, observation: Tensor) -> Tensor:
        """The recorded observation in the distribution's units and axis order."""


class _PlanesTarget(ObservationDecoder):
    """The target of an image decoder: planes [..., C, H, W] in [-0.5, 0.5]."""

    def target(self, observation: Tensor) -> Tensor:
        """The recorded image [..., H, W, C] as planes."""
        planes = images_to_planes(observation)
        return planes.reshape(*observation.shape[:-3], *planes.shape[1:])


class ImageDecoder(_PlanesTarget):
    """A dense layer, then transposed convolutions of stride 2: ReLU in Dreamer v1 (appendix A), ELU in v2."""

    def __init__(self, features: int, spec: ArraySpec, *, depth: int, style: Style = RELU) -> None:
        super().__init__()
        edge, channels = spec.shape[0], spec.shape[2]
        if spec.shape[0] != spec.shape[1] or edge not in KERNELS:
            raise UserError(
                f"the convolutional decoder supports square frames of {sorted(KERNELS)} pixels, got {spec.shape}"
            )
        *kernels, last = KERNELS[edge]
        widths = [depth * 2**power for power in reversed(range(len(kernels)))]  # published: 128, 64, 32
        self.inputs = 8 * widths[0]
        self.dense = style.linear(features, self.inputs)
        layers: list[nn.Module] = []
        for kernel, before, after in zip(kernels, [self.inputs, *widths[:-1]], widths, strict=True):
            layers += [TransposedConvolution(before, after, kernel, style), *style.after_planes(after)]
        self.layers = nn.Sequential(*layers, TransposedConvolution(widths[-1], channels, last, style))

    def forward(self, features: Tensor) -> UnitNormal:
        """Features [..., F] to N(mean, I) over pixels in [-0.5, 0.5], shaped [..., C, H, W]."""
        planes: Tensor = self.layers(self.dense(features).reshape(-1, self.inputs, 1, 1))
        return UnitNormal(planes.reshape(*features.shape[:-1], *planes.shape[1:]), event_axes=3)


class PyramidImageDecoder(_PlanesTarget):
    """Upsamples 4 x 4 positions with a convolution of kernel 5 at every level: Dreamer v3, the mirrored encoder.

    A block-diagonal layer reads the deterministic state, which keeps this layer small even if the state is large. A
    hidden layer reads the stochastic state.

    Args:
        features: F.
        spec: the image's specification.
        depth: channels are depth * 2, 3, 4, 4 as in the encoder.
        deterministic: D, the number of features that are the deterministic state.
        hidden: half the width of the stochastic state's hidden layer.
        blocks: number of blocks of the deterministic state.
        style: activation, norm and initialisation.
    """

    def __init__(
        self,
        features: int,
        spec: ArraySpec,
        *,
        depth: int,
        deterministic: int,
        hidden: int,
        blocks: int = 8,
        style: Style = SILU_RMS_NORM,
    ) -> None:
        super().__init__()
        widths = pyramid_widths(spec, depth)
        self.shape = (widths[-1], SMALLEST, SMALLEST)
        units = widths[-1] * SMALLEST * SMALLEST
        self.split = (deterministic, features - deterministic)
        self.from_deterministic = BlockLinear(deterministic, units, blocks=blocks)
        self.from_stochastic = mlp(self.split[1], units, hidden=2 * hidden, layers=1, style=style)
        self.after = style.after_planes(widths[-1])
        layers: list[nn.Module] = []
        for before, after in zip(widths[:0:-1], widths[-2::-1], strict=True):
            layers += [UpsampledConvolution(before, after, style), *style.after_planes(after)]
        self.layers = nn.Sequential(*layers, UpsampledConvolution(widths[0], spec.shape[2], style), nn.Sigmoid())

    def forward(self, features: Tensor) -> SquaredError:
        """Features [..., F] to the squared error from pixels in [-0.5, 0.5], shaped [..., C, H, W]."""
        deterministic, stochastic = features.reshape(-1, sum(self.split)).split(self.split, dim=-1)
        units = self.from_deterministic(deterministic).flatten(-2) + self.from_stochastic(stochastic)
        planes = units.unflatten(-1, self.shape).contiguous(memory_format=torch.channels_last)
        pixels: Tensor = self.layers(self.after(planes)) - 0.5
        return SquaredError(pixels.reshape(*features.shape[:-1], *pixels.shape[1:]), event_axes=3)


class VectorDecoder(ObservationDecoder):
    """A dense network that predicts the standardised vector."""

    def __init__(
        self,
        features: int,
        spec: ArraySpec,
        statistics: VectorStatistics,
        *,
        hidden: int,
        layers: int,
        style: Style = ELU,
    ) -> None:
        super().__init__()
        self.standardize = Standardize(statistics)
        self.layers = mlp(features, spec.size, hidden=hidden, layers=layers, style=style)

    def forward(self, features: Tensor) -> UnitNormal:
        """Features [..., F] to N(mean, I) over the standardised vector [..., O]."""
        return UnitNormal(self.layers(features), event_axes=1)

    def target(self, observation: Tensor) -> Tensor:
        """The recorded vector, standardised."""
        standardized: Tensor = self.standardize(observation)
        return standardized


class SymlogVectorDecoder(ObservationDecoder):
    """A dense network that predicts symlog(x) (Dreamer v3)."""

    def __init__(
        self,
        features: int,
        spec: ArraySpec,
        statistics: VectorStatistics,  # noqa: ARG002 - other vector decoders use them
        *,
        hidden: int,
        layers: int,
        style: Style = SILU_RMS_NORM,
    ) -> None:
        super().__init__()
        self.layers = mlp(features, spec.size, hidden=hidden, layers=layers, style=style)

    def forward(self, features: Tensor) -> SymlogSquaredError:
        """Features [..., F] to the squared error from the symlog of the vector [..., O]."""
        return SymlogSquaredError(self.layers(features))

    def target(self, observation: Tensor) -> Tensor:
        """The recorded vector, unchanged."""
        return observation


class PatchesDecoder(ObservationDecoder):
    """Predicts a code of every patch, from which one layer for all patches predicts the standardised features.

    Args:
        features: F.
        spec: of the patch features, [P, C].
        statistics: one mean and one deviation of all of them.
        hidden, layers: of the dense network.
        code: numbers per patch.
        style: activation, norm and initialisation.
    """

    def __init__(
        self,
        features: int,
        spec: ArraySpec,
        statistics: VectorStatistics,
        *,
        hidden: int,
        layers: int,
        code: int = 32,
        style: Style = ELU,
    ) -> None:
        super().__init__()
        patches, channels = spec.shape
        self.shape = (patches, code)
        self.standardize = Standardize(statistics)
        self.codes = mlp(features, patches * code, hidden=hidden, layers=layers, style=style)
        self.expand = style.linear(code, channels)

    def forward(self, features: Tensor) -> UnitNormal:
        """Features [..., F] to N(mean, I) over the standardised patch features [..., P, C]."""
        codes = self.codes(features).unflatten(-1, self.shape)
        return UnitNormal(self.expand(codes), event_axes=2)

    def target(self, observation: Tensor) -> Tensor:
        """The recorded features, standardised."""
        standardized: Tensor = self.standardize(observation)
        return standardized


class MakesImageDecoder(Protocol):
    """Constructs an image decoder: its class, or a partial of it."""

    def __call__(self, features: int, spec: ArraySpec, *, depth: int) -> ObservationDecoder:
        """A decoder from F ``features`` to images of ``spec``."""


class MakesVectorDecoder(Protocol):
    """Constructs a vector decoder: its class, or a partial of it."""

    def __call__(
        self, features: int, spec: ArraySpec, statistics: VectorStatistics, *, hidden: int, layers: int
    ) -> ObservationDecoder:
        """A decoder from F ``features`` to vectors of ``spec``."""


class Decoder(nn.Module):
    """One decoder for each observation, of its kind: image, vector or patch features.

    With a ``vector_trunk``, the style of its layers, all vectors share the hidden layers (Dreamer v2 and v3). Each then
    has only an output layer of its own.
    """

    def __init__(
        self,
        features: int,
        spec: DataSpec,
        *,
        depth: int,
        hidden: int,
        layers: int,
        names: Sequence[str] | None = None,
        image: MakesImageDecoder = ImageDecoder,
        vector: MakesVectorDecoder = VectorDecoder,
        patches: MakesVectorDecoder = PatchesDecoder,
        vector_trunk: Style | None = None,
    ) -> None:
        super().__init__()
        self.decoders = nn.ModuleDict()
        decoded = sorted(spec.observations if names is None else names)
        self.on_trunk = set(vector_names(spec)) & set(decoded) if vector_trunk is not None else set[str]()
        self.trunk = None
        if vector_trunk is not None and self.on_trunk:
            self.trunk = vector_trunk.trunk(features, hidden=hidden, layers=layers)
        for name in decoded:
            array = spec.observations[name]
            if array.is_image:
                decoder = image(features, array, depth=depth)
            elif array.is_patches:
                decoder = patches(features, array, spec.statistics[name], hidden=hidden, layers=layers)
            elif self.trunk is None:
                decoder = vector(features, array, spec.statistics[name], hidden=hidden, layers=layers)
            else:
                inputs = hidden if layers else features
                decoder = vector(inputs, array, spec.statistics[name], hidden=hidden, layers=0)
            self.decoders[name.replace(".", "/")] = decoder

    def forward(self, features: Tensor) -> dict[str, Distribution]:
        """Features [..., F] to one distribution per observation name."""
        shared = features if self.trunk is None else self.trunk(features)
        return {name: decode(shared if name in self.on_trunk else features) for name, decode in self._by_name()}

    def targets(self, observations: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The recorded observations in the distributions' units."""
        return {name: decode.target(observations[name]) for name, decode in self._by_name()}

    def log_prob(self, features: Tensor, observations: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """ln p(o_t | s_t) per observation name, [B, T] each, summed over the observation's elements."""
        targets = self.targets(observations)
        return {name: distribution.log_prob(targets[name]) for name, distribution in self(features).items()}

    def _by_name(self) -> Iterator[tuple[str, ObservationDecoder]]:
        for key, decode in self.decoders.items():
            assert isinstance(decode, ObservationDecoder)
            yield key.replace("/", "."), decode
