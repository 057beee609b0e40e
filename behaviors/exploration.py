"""Exploration: how a learned policy chooses actions while it collects data."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dreamset.core.errors import UserError


class Explorable(Protocol):
    """What exploration needs of a policy's or a planner's distribution over actions."""

    @property
    def mode(self) -> Tensor:
        """The action without exploration, [N, A]."""

    def noise(self, generator: torch.Generator) -> Tensor:
        """Random numbers for ``sample``."""

    def sample(self, noise: Tensor) -> Tensor:
        """A sample [N, A]."""


class Exploration(Protocol):
    """Chooses actions from a distribution."""

    def __call__(self, distribution: Explorable, generator: torch.Generator) -> Tensor:
        """Actions [N, A] in [-1, 1], or one-hot."""


def mode(distribution: Explorable, generator: torch.Generator) -> Tensor:  # noqa: ARG001
    """No exploration, for evaluation."""
    return distribution.mode


@dataclass(frozen=True)
class Sampled:
    """A sample of the policy, whose entropy determines the amount of exploration (Dreamer v2 and v3)."""

    def __call__(self, distribution: Explorable, generator: torch.Generator) -> Tensor:
        """See ``Exploration``; samples are clipped to the bounds."""
        return distribution.sample(distribution.noise(generator)).clamp(-1, 1)


@dataclass(frozen=True)
class GaussianNoise:
    """The mode plus N(0, std), clipped to the bounds, for continuous actions (Dreamer v1, std 0.3)."""

    std: float

    def __post_init__(self) -> None:
        _require_share("std", self.std, highest=float("inf"))

    def __call__(self, distribution: Explorable, generator: torch.Generator) -> Tensor:
        """See ``Exploration``."""
        best = distribution.mode
        noise = torch.randn(best.shape, generator=generator, device=generator.device, dtype=best.dtype)
        return (best + self.std * noise).clamp(-1, 1)


@dataclass(frozen=True)
class UniformChoice:
    """Epsilon-greedy, for one-hot actions: a uniform action with probability ``epsilon``, otherwise the mode."""

    epsilon: float

    def __post_init__(self) -> None:
        _require_share("epsilon", self.epsilon, highest=1.0)

    def __call__(self, distribution: Explorable, generator: torch.Generator) -> Tensor:
        """See ``Exploration``."""
        best = distribution.mode
        count, choices = best.shape
        explores = torch.rand(count, 1, generator=generator, device=generator.device) < self.epsilon
        index = torch.randint(choices, (count,), generator=generator, device=generator.device)
        return torch.where(explores, torch.nn.functional.one_hot(index, choices).to(best.dtype), best)


def _require_share(name: str, value: float, *, highest: float) -> None:
    if not 0 <= value <= highest:
        raise UserError(f"finetuning.exploration.{name} is {value}; allowed: 0 to {highest:g}; set it in this range")
