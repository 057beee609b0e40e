"""Return normalisers, which scale the actor's objective."""

from typing import Protocol

import torch
from torch import Tensor, nn


class ReturnNormalizer(Protocol):
    """Tracks the scale of the returns."""

    @property
    def scale(self) -> Tensor:
        """The divisor of returns and advantages, a scalar."""

    def update(self, returns: Tensor) -> None:
        """Updates the scale with the returns of one update."""


class NoNormalizer(nn.Module):
    """Leaves returns unscaled (Dreamer v1 and v2)."""

    @property
    def scale(self) -> Tensor:
        """One."""
        return torch.ones(())

    def update(self, returns: Tensor) -> None:
        """Does nothing."""


class PercentileEMA(nn.Module):
    """max(floor, S), S an exponential moving average of Per(R, high) - Per(R, low) (Dreamer v3, "Actor learning").

    Percentiles are robust to outliers. The floor keeps small returns small: a divisor below one would amplify noise
    where rewards are sparse. S starts at zero, as published, so the floor applies early in training.
    """

    levels: Tensor
    spread: Tensor

    def __init__(self, *, decay: float = 0.99, low: float = 5.0, high: float = 95.0, floor: float = 1.0) -> None:
        super().__init__()
        self.decay = decay
        self.floor = floor
        self.register_buffer("levels", torch.tensor([low, high]) / 100, persistent=False)
        self.register_buffer("spread", torch.zeros(()))  # S

    @property
    def scale(self) -> Tensor:
        """max(floor, S)."""
        return self.spread.clamp_min(self.floor)

    @torch.no_grad()
    def update(self, returns: Tensor) -> None:
        """Moves S towards the range of ``returns`` [H, N]."""
        low, high = torch.quantile(returns.flatten(), self.levels.to(returns.dtype))
        self.spread.lerp_((high - low).to(self.spread.dtype), 1 - self.decay)
