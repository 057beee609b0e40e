"""How a learned policy acts while it collects data: deterministic policies see nothing new."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dreamset.behaviors.action_distributions import ActionDistribution
from dreamset.core.errors import UserError


class Exploration(Protocol):
    """Chooses actions from a policy's distribution."""

    def __call__(self, distribution: ActionDistribution, generator: torch.Generator) -> Tensor:
        """Actions [N, A] in [-1, 1], or one-hot rows."""


def mode(distribution: ActionDistribution, generator: torch.Generator) -> Tensor:  # noqa: ARG001
    """No exploration: what is evaluated."""
    return distribution.mode


@dataclass(frozen=True)
class Sampled:
    """A draw of the policy, whose entropy decides how much is explored (Dreamer v2 and v3)."""

    def __call__(self, distribution: ActionDistribution, generator: torch.Generator) -> Tensor:
        """See ``Exploration``; draws outside the bounds are clipped to them."""
        return distribution.sample(distribution.noise(generator)).clamp(-1, 1)


@dataclass(frozen=True)
class GaussianNoise:
    """The mode plus N(0, std), clipped to the bounds, for continuous actions (Dreamer v1, std 0.3)."""

    std: float

    def __post_init__(self) -> None:
        _require_share("std", self.std, highest=float("inf"))

    def __call__(self, distribution: ActionDistribution, generator: torch.Generator) -> Tensor:
        """See ``Exploration``."""
        best = distribution.mode
        noise = torch.randn(best.shape, generator=generator, device=generator.device, dtype=best.dtype)
        return (best + self.std * noise).clamp(-1, 1)


@dataclass(frozen=True)
class UniformChoice:
    """With probability ``epsilon`` any choice, otherwise the mode (epsilon-greedy), for one-hot actions."""

    epsilon: float

    def __post_init__(self) -> None:
        _require_share("epsilon", self.epsilon, highest=1.0)

    def __call__(self, distribution: ActionDistribution, generator: torch.Generator) -> Tensor:
        """See ``Exploration``."""
        best = distribution.mode
        count, choices = best.shape
        explored = torch.rand(count, 1, generator=generator, device=generator.device) < self.epsilon
        drawn = torch.randint(choices, (count,), generator=generator, device=generator.device)
        return torch.where(explored, torch.nn.functional.one_hot(drawn, choices).to(best.dtype), best)


def _require_share(name: str, value: float, *, highest: float) -> None:
    if not 0 <= value <= highest:
        raise UserError(f"finetuning.exploration.{name} is {value}, allowed is 0 to {highest:g}; mend it")
