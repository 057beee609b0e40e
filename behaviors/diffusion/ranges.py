"""The ranges of latents and of their changes, by which a plan is scaled to [-1, 1].

Sampling clips to these ranges, so ranges that are too tight would cut off plans without a word. Every row that a
network learns from widens them first: they are the least and the greatest value of each element, and no recorded plan
can lie outside. They are saved with the policy.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

SMALLEST = 1e-6  # half a range below which an element counts as constant


class Bounds(nn.Module):
    """The least and the greatest value of each element that it has seen."""

    low: Tensor
    high: Tensor

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.register_buffer("low", torch.full(sizes, torch.inf))
        self.register_buffer("high", torch.full(sizes, -torch.inf))

    @property
    def known(self) -> bool:
        """Whether any value has been seen."""
        return bool((self.low <= self.high).all())

    @torch.no_grad()
    def widen(self, values: Tensor) -> None:
        """Includes the values [..., *sizes]."""
        rows = values.reshape(-1, *self.low.shape)
        self.low.copy_(torch.minimum(self.low, rows.amin(0)))
        self.high.copy_(torch.maximum(self.high, rows.amax(0)))

    def scale(self, values: Tensor) -> Tensor:
        """From ``low`` and ``high`` to -1 and 1, [..., *sizes]; values outside the bounds are not clipped."""
        centre, half = self._centre()
        return (values - centre) / half

    def restore(self, scaled: Tensor) -> Tensor:
        """The inverse of ``scale``."""
        centre, half = self._centre()
        return centre + half * scaled

    def _centre(self) -> tuple[Tensor, Tensor]:
        """The middle and half the range, shaped as the bounds; 0 and 1 before any value has been seen."""
        seen = self.low <= self.high
        low, high = torch.where(seen, self.low, -1.0), torch.where(seen, self.high, 1.0)
        half = (high - low) / 2
        return (low + high) / 2, torch.where(half > SMALLEST, half, 1.0)  # a constant element becomes zero


class PlanRange(nn.Module, ABC):
    """How plans and conditions are scaled.

    Args:
        horizon: H, the rows of a plan.
        size: Z.
    """

    def __init__(self, horizon: int, size: int) -> None:
        super().__init__()
        self.horizon = horizon
        self.latents = Bounds(size)

    @property
    def known(self) -> bool:
        """Whether any value has been seen."""
        return self.latents.known

    def widen(self, latent: Tensor, futures: Tensor) -> None:  # noqa: ARG002 - only some ranges need the futures
        """Includes latents [..., Z] and the H latents after each of them, [..., H, Z]."""
        self.latents.widen(latent)

    def condition(self, latent: Tensor) -> Tensor:
        """The present latent as the planner's condition, [..., Z]."""
        return self.latents.scale(latent)

    @abstractmethod
    def to_plan(self, latent: Tensor, futures: Tensor) -> Tensor:
        """A plan in [-1, 1], [..., H, Z], of the latents after ``latent`` [..., Z]."""

    @abstractmethod
    def from_plan(self, latent: Tensor, plan: Tensor) -> Tensor:
        """The inverse of ``to_plan``."""

    @abstractmethod
    def pair(self, before: Tensor, after: Tensor) -> Tensor:
        """Two latents in a row as the inverse dynamics model's condition, [..., 2 Z]."""


class LatentRange(PlanRange):
    """A plan has the latents themselves, as published (Xie et al. 2025)."""

    def to_plan(self, latent: Tensor, futures: Tensor) -> Tensor:  # noqa: ARG002
        """See ``PlanRange``."""
        return self.latents.scale(futures)

    def from_plan(self, latent: Tensor, plan: Tensor) -> Tensor:  # noqa: ARG002
        """See ``PlanRange``."""
        return self.latents.restore(plan)

    def pair(self, before: Tensor, after: Tensor) -> Tensor:
        """See ``PlanRange``."""
        return torch.cat([self.latents.scale(before), self.latents.scale(after)], dim=-1)


class ChangeRange(PlanRange):
    """A plan has the changes from the present latent, each row of the plan with a range of its own.

    A step moves a latent by a small part of its range, and the action changes only a part of this. Changes in units of
    their own range need fewer updates for the same precision.
    """

    def __init__(self, horizon: int, size: int) -> None:
        super().__init__(horizon, size)
        self.changes = Bounds(horizon, size)

    def widen(self, latent: Tensor, futures: Tensor) -> None:
        """See ``PlanRange``."""
        super().widen(latent, futures)
        self.changes.widen(futures - latent[..., None, :])

    def to_plan(self, latent: Tensor, futures: Tensor) -> Tensor:
        """See ``PlanRange``."""
        return self.changes.scale(futures - latent[..., None, :])

    def from_plan(self, latent: Tensor, plan: Tensor) -> Tensor:
        """See ``PlanRange``."""
        return latent[..., None, :] + self.changes.restore(plan)

    def pair(self, before: Tensor, after: Tensor) -> Tensor:
        """See ``PlanRange``; the change is in units of the first row of a plan."""
        change = (after - before)[..., None, :].expand(*before.shape[:-1], self.horizon, -1)
        return torch.cat([self.latents.scale(before), self.changes.scale(change)[..., 0, :]], dim=-1)
