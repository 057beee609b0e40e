"""The range of latents, by which they are scaled to [-1, 1]."""

import torch
from torch import Tensor, nn

SMALLEST = 1e-6  # half a range below which an element counts as constant


class Bounds(nn.Module):
    """The smallest and the largest value of each element that it has seen; they are saved with the policy.

    Sampling clips to these bounds, so bounds that are too tight would cut off latents without a word. Every latent
    that a network learns from widens them first. No latent of the training data can therefore lie outside.
    """

    low: Tensor
    high: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("low", torch.full((size,), torch.inf))
        self.register_buffer("high", torch.full((size,), -torch.inf))

    @property
    def known(self) -> bool:
        """Whether any value has been seen."""
        return bool((self.low <= self.high).all())

    @torch.no_grad()
    def widen(self, values: Tensor) -> None:
        """Includes the values [..., Z]."""
        rows = values.reshape(-1, values.shape[-1])
        self.low.copy_(torch.minimum(self.low, rows.amin(0)))
        self.high.copy_(torch.maximum(self.high, rows.amax(0)))

    def scale(self, values: Tensor) -> Tensor:
        """From ``low`` and ``high`` to -1 and 1, [..., Z]; values outside the bounds are not clipped."""
        centre, half = self._centre()
        return (values - centre) / half

    def restore(self, scaled: Tensor) -> Tensor:
        """The inverse of ``scale``."""
        centre, half = self._centre()
        return centre + half * scaled

    def _centre(self) -> tuple[Tensor, Tensor]:
        """The middle and half the range, [Z] each; 0 and 1 before any value has been seen."""
        seen = self.low <= self.high
        low, high = torch.where(seen, self.low, -1.0), torch.where(seen, self.high, 1.0)
        half = (high - low) / 2
        return (low + high) / 2, torch.where(half > SMALLEST, half, 1.0)  # a constant element becomes zero
