"""Heads map features to a distribution over a scalar."""

import torch
from torch import Tensor, nn

from dreamset.models.distributions import Bernoulli, SymexpTwoHot, UnitNormal, symexp_bins
from dreamset.models.layers import ELU, SILU_RMS_NORM, Style, mlp


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
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        torch.nn.init.zeros_(last.weight)

    def forward(self, features: Tensor) -> SymexpTwoHot:
        """Features [..., F] to a distribution over [...]."""
        return SymexpTwoHot(self.layers(features), self.bins)
