"""Distributions with one interface: a prediction, a log-probability of a target and the loss that follows from it."""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F


class Distribution(Protocol):
    """What a head returns; event axes are already summed."""

    @property
    def mean(self) -> Tensor:
        """The expected value."""

    def log_prob(self, target: Tensor) -> Tensor:
        """Log-probability of ``target``."""


@dataclass(frozen=True, slots=True)
class UnitNormal:
    """N(mean, I) over the last ``event_axes`` axes: observations and rewards of Dreamer v1."""

    mean: Tensor
    event_axes: int = 0

    def log_prob(self, target: Tensor) -> Tensor:
        """ln N(target; mean, I), summed over the event axes."""
        value = -0.5 * (target - self.mean).square() - 0.5 * math.log(2 * math.pi)
        return value.flatten(value.ndim - self.event_axes).sum(-1) if self.event_axes else value


@dataclass(frozen=True, slots=True)
class Bernoulli:
    """A yes-or-no event given its logit: the continuation of an episode."""

    logit: Tensor

    @property
    def mean(self) -> Tensor:
        """Probability of yes."""
        return torch.sigmoid(self.logit)

    def log_prob(self, target: Tensor) -> Tensor:
        """ln p(target), target in [0, 1]."""
        return -F.binary_cross_entropy_with_logits(self.logit, target.to(self.logit.dtype), reduction="none")


@dataclass(frozen=True, slots=True)
class TanhNormal:
    """a = tanh(u), u ~ N(location, scale): the policy of Dreamer v1 (its section 3 and appendix A)."""

    location: Tensor  # [..., A]
    scale: Tensor  # [..., A]

    @property
    def mode(self) -> Tensor:
        """The action of the most likely u. Not the density's maximum in [-1, 1]: that one sticks to the bounds."""
        return torch.tanh(self.location)

    def sample(self, noise: Tensor) -> Tensor:
        """The reparameterised action tanh(location + scale * noise), noise ~ N(0, I)."""
        return torch.tanh(self.location + self.scale * noise)

    def log_prob(self, action: Tensor) -> Tensor:
        """ln p(action), summed over the action: the normal's density corrected by tanh's slope.

        With u = atanh(a), ln p(a) = ln N(u; location, scale) - ln(1 - a^2), and
        ln(1 - tanh(u)^2) = 2 (ln 2 - u - softplus(-2u)) keeps its precision where a is near 1.
        """
        limit = 1 - torch.finfo(action.dtype).eps
        u = torch.atanh(action.clamp(-limit, limit))
        normal = -0.5 * ((u - self.location) / self.scale).square() - self.scale.log() - 0.5 * math.log(2 * math.pi)
        slope = 2 * (math.log(2) - u - F.softplus(-2 * u))
        return (normal - slope).sum(-1)
