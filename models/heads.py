"""Heads: features to a distribution over a scalar."""

from torch import Tensor, nn

from dreamset.models.distributions import Bernoulli, UnitNormal
from dreamset.models.layers import mlp


class NormalHead(nn.Module):
    """N(mean(s), 1): the reward and value models of Dreamer v1."""

    def __init__(self, features: int, *, hidden: int, layers: int) -> None:
        super().__init__()
        self.layers = mlp(features, 1, hidden=hidden, layers=layers)

    def forward(self, features: Tensor) -> UnitNormal:
        """Features [..., F] to a distribution over [...]."""
        return UnitNormal(self.layers(features).squeeze(-1))


class BernoulliHead(nn.Module):
    """Whether the episode goes on: the optional discount model of Dreamer v1 and the continue predictor of v2, v3."""

    def __init__(self, features: int, *, hidden: int, layers: int) -> None:
        super().__init__()
        self.layers = mlp(features, 1, hidden=hidden, layers=layers)

    def forward(self, features: Tensor) -> Bernoulli:
        """Features [..., F] to a distribution over [...]."""
        return Bernoulli(self.layers(features).squeeze(-1))
