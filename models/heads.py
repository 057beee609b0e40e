"""Heads map features to a distribution over a scalar."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from dreamset.models.distributions import (
    Bernoulli,
    Distribution,
    SquaredError,
    SymexpTwoHot,
    SymlogTwoHot,
    UnitNormal,
    symexp_bins,
)
from dreamset.models.layers import ELU, MISH_LAYER_NORM, SILU_RMS_NORM, Style, mlp, zero_last


class NormalHead(nn.Module):
    """N(mean(s), 1): the reward and value models of Dreamer v1 and v2."""

    def __init__(self, features: int, *, hidden: int, layers: int, style: Style = ELU) -> None:
        super().__init__()
        self.layers = mlp(features, 1, hidden=hidden, layers=layers, style=style)

    def forward(self, features: Tensor) -> UnitNormal:
        """Features [..., F] to a distribution over [...]."""
        return UnitNormal(self.layers(features).squeeze(-1))


class BernoulliHead(nn.Module):
    """Whether the episode continues: the optional discount model of Dreamer v1, the continue head of v2 and v3."""

    def __init__(self, features: int, *, hidden: int, layers: int, style: Style = ELU) -> None:
        super().__init__()
        self.layers = mlp(features, 1, hidden=hidden, layers=layers, style=style)

    def forward(self, features: Tensor) -> Bernoulli:
        """Features [..., F] to a distribution over [...]."""
        return Bernoulli(self.layers(features).squeeze(-1))


class SymexpTwoHotHead(nn.Module):
    """A softmax over symexp-spaced bins: the reward and value models of Dreamer v3.

    The last layer starts at zero, so that the first prediction is exactly zero. Random weights would predict large
    numbers, because the outer bins are large, and delay learning.
    """

    bins: Tensor

    def __init__(
        self, features: int, *, hidden: int, layers: int, bins: int = 255, style: Style = SILU_RMS_NORM
    ) -> None:
        super().__init__()
        self.layers = mlp(features, bins, hidden=hidden, layers=layers, style=style)
        self.register_buffer("bins", symexp_bins(bins), persistent=False)  # a function of the number of bins
        zero_last(self.layers)

    def forward(self, features: Tensor) -> SymexpTwoHot:
        """Features [..., F] to a distribution over [...]."""
        return SymexpTwoHot(self.layers(features), self.bins)


class ScalarOutput(Protocol):
    """How the last layer of a network is read as a distribution over a scalar."""

    @property
    def size(self) -> int:
        """The number of outputs of the last layer."""

    def __call__(self, outputs: Tensor) -> Distribution:
        """Outputs [..., size] to a distribution over [...]."""


@dataclass(frozen=True, slots=True)
class SymlogTwoHotOutput:
    """Logits of ``bins`` evenly spaced bins of symlog(x) from -limit to limit (TD-MPC2)."""

    bins: int = 101
    limit: float = 10.0

    def __post_init__(self) -> None:
        if self.bins % 2 == 0 or self.bins < 3:
            raise ValueError(f"the number of bins must be odd and at least 3, so that zero is one, got {self.bins}")

    @property
    def size(self) -> int:
        """One logit for each bin."""
        return self.bins

    def __call__(self, outputs: Tensor) -> SymlogTwoHot:
        """Logits [..., bins] to a distribution over [...]."""
        return SymlogTwoHot(outputs, self.limit)


@dataclass(frozen=True, slots=True)
class SquaredErrorOutput:
    """A number whose loss is the squared error (TD-MPC)."""

    @property
    def size(self) -> int:
        """One."""
        return 1

    def __call__(self, outputs: Tensor) -> SquaredError:
        """[..., 1] to a distribution over [...]."""
        return SquaredError(outputs.squeeze(-1))


class SymlogTwoHotHead(nn.Module):
    """A softmax over evenly spaced bins of symlog(x): the reward model of TD-MPC2. Its first prediction is zero."""

    def __init__(
        self,
        features: int,
        *,
        hidden: int,
        layers: int,
        bins: int = 101,
        limit: float = 10.0,
        style: Style = MISH_LAYER_NORM,
    ) -> None:
        super().__init__()
        self.output = SymlogTwoHotOutput(bins, limit)
        self.layers = mlp(features, self.output.size, hidden=hidden, layers=layers, style=style)
        zero_last(self.layers)

    def forward(self, features: Tensor) -> SymlogTwoHot:
        """Features [..., F] to a distribution over [...]."""
        return self.output(self.layers(features))


class SquaredErrorHead(nn.Module):
    """A number with the squared error as its loss: the reward model of TD-MPC. Its first prediction is zero."""

    def __init__(self, features: int, *, hidden: int, layers: int, style: Style = ELU) -> None:
        super().__init__()
        self.layers = mlp(features, 1, hidden=hidden, layers=layers, style=style)
        zero_last(self.layers)

    def forward(self, features: Tensor) -> SquaredError:
        """Features [..., F] to a distribution over [...]."""
        return SquaredError(self.layers(features).squeeze(-1))
