"""Distributions over actions, the output of an actor.

Continuous actions are in [-1, 1]; discrete actions are one-hot. ``TanhNormal`` and ``OneHotCategorical`` of
``models.distributions`` implement the same protocol.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

LOG_SQRT_TAU = 0.5 * math.log(2 * math.pi)


class ActionDistribution(Protocol):
    """The distribution over actions at given states."""

    @property
    def noise_kind(self) -> str:
        """What ``noise`` draws: ``normal``, ``uniform`` or ``gumbel``."""

    @property
    def mode(self) -> Tensor:
        """The action without exploration, [..., A]."""

    def noise(self, generator: torch.Generator) -> Tensor:
        """Random numbers for ``sample``, for one sample at every state."""

    def sample(self, noise: Tensor) -> Tensor:
        """A sample [..., A] with a pathwise or straight-through gradient."""

    def log_prob(self, action: Tensor) -> Tensor:
        """ln p(action), summed over the action's elements: [...]."""

    def entropy(self) -> Tensor:
        """Entropy in nats, summed over the action's elements: [...]."""


Actor = Callable[[Tensor], ActionDistribution]  # features [..., F] -> a distribution over actions [..., A]


@dataclass(frozen=True, slots=True)
class BoundedNormal:
    """N(location, scale) with a location in [-1, 1] but unbounded samples: the policy of Dreamer v3.

    A sample may lie outside [-1, 1]. ``log_prob`` expects the unclipped sample; the caller clips it before acting.
    """

    location: Tensor  # [..., A]
    scale: Tensor  # [..., A]
    noise_kind: ClassVar[str] = "normal"

    @property
    def mode(self) -> Tensor:
        """The location."""
        return self.location

    def noise(self, generator: torch.Generator) -> Tensor:
        """Standard normal noise."""
        return standard_normal(self.location, generator)

    def sample(self, noise: Tensor) -> Tensor:
        """location + scale * noise."""
        return self.location + self.scale * noise

    def log_prob(self, action: Tensor) -> Tensor:
        """ln N(action; location, scale)."""
        return normal_log_density((action - self.location) / self.scale, self.scale).sum(-1)

    def entropy(self) -> Tensor:
        """ln(scale) + (1 + ln 2 pi) / 2."""
        return (self.scale.log() + LOG_SQRT_TAU + 0.5).sum(-1)


@dataclass(frozen=True, slots=True)
class TruncatedNormal:
    """N(location, scale) truncated to [-1, 1]: the policy of Dreamer v2 for continuous actions.

    In the formulas alpha and beta are the standardised bounds, Phi and phi the standard normal distribution and
    density, and Z = Phi(beta) - Phi(alpha). The location must lie in [-1, 1]; Z is then never small.
    """

    location: Tensor  # [..., A]
    scale: Tensor  # [..., A]
    noise_kind: ClassVar[str] = "uniform"

    @property
    def mode(self) -> Tensor:
        """The location."""
        return self.location

    def noise(self, generator: torch.Generator) -> Tensor:
        """Uniform noise between 0 and 1, which selects the quantile."""
        like = self.location
        return torch.rand(like.shape, generator=generator, device=generator.device, dtype=like.dtype)

    def sample(self, noise: Tensor) -> Tensor:
        """The quantile location + scale * Phi^-1(Phi(alpha) + noise * Z), differentiable in both parameters."""
        alpha, beta = self._bounds()
        low, high = torch.special.ndtr(alpha), torch.special.ndtr(beta)
        edge = 8 * torch.finfo(noise.dtype).eps  # Phi^-1 is infinite at 0 and 1, which rounding can reach
        quantile = (low + noise * (high - low)).clamp(edge, 1 - edge)
        standardized: Tensor = torch.special.ndtri(quantile)
        return (self.location + self.scale * standardized).clamp(-1, 1)

    def log_prob(self, action: Tensor) -> Tensor:
        """ln N(action; location, scale) - ln Z, for actions in [-1, 1]."""
        normal = normal_log_density((action - self.location) / self.scale, self.scale)
        return (normal - self._mass().log()).sum(-1)

    def entropy(self) -> Tensor:
        """ln(scale Z) + (1 + ln 2 pi) / 2 + (alpha phi(alpha) - beta phi(beta)) / (2 Z)."""
        alpha, beta = self._bounds()
        mass = self._mass()
        edges = alpha * normal_density(alpha) - beta * normal_density(beta)
        return ((self.scale * mass).log() + LOG_SQRT_TAU + 0.5 + edges / (2 * mass)).sum(-1)

    def _bounds(self) -> tuple[Tensor, Tensor]:
        return (-1 - self.location) / self.scale, (1 - self.location) / self.scale

    def _mass(self) -> Tensor:
        alpha, beta = self._bounds()
        mass: Tensor = torch.special.ndtr(beta) - torch.special.ndtr(alpha)
        return mass


def standard_normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise in the shape and precision of ``like``."""
    return torch.randn(like.shape, generator=generator, device=generator.device, dtype=like.dtype)


def normal_density(standardized: Tensor) -> Tensor:
    """phi, the density of N(0, 1)."""
    return torch.exp(-0.5 * standardized.square() - LOG_SQRT_TAU)


def normal_log_density(standardized: Tensor, scale: Tensor) -> Tensor:
    """ln N(x; location, scale), given (x - location) / scale."""
    return -0.5 * standardized.square() - scale.log() - LOG_SQRT_TAU
