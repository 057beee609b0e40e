"""What the actor's gradient is measured in: the scale of the returns."""

from typing import Protocol

import torch
from torch import Tensor, nn


class ReturnNormalizer(Protocol):
    """Keeps track of how far returns spread."""

    @property
    def scale(self) -> Tensor:
        """What advantages are divided by, a scalar."""

    def update(self, returns: Tensor) -> None:
        """Takes in the returns of one update."""


class NoNormalizer(nn.Module):
    """Returns count as they are (Dreamer v1 and v2)."""

    @property
    def scale(self) -> Tensor:
        """One."""
        return torch.ones(())

    def update(self, returns: Tensor) -> None:
        """Nothing to learn."""


class PercentileEMA(nn.Module):
    """max(floor, S), S an exponential moving average of Per(R, high) - Per(R, low) (Dreamer v3, "Actor learning").

    Percentiles are not moved by rare, far returns. The floor keeps small returns small: dividing by less than one
    would blow up the noise where rewards are sparse. S starts at zero, as published, so early on the floor rules.
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
