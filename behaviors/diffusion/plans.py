"""Sampling plans: future latents from a planner, and the actions between them from an inverse dynamics model."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dreamset.behaviors.diffusion.diffusion import Diffusion, Draw
from dreamset.behaviors.diffusion.ranges import PlanRange
from dreamset.core.spec import ActionSpec


@dataclass(frozen=True, slots=True)
class Actions:
    """Actions as a diffusion model has them: in [-1, 1], and discrete ones as a vector with a 1 and -1 elsewhere."""

    spec: ActionSpec

    def encode(self, action: Tensor) -> Tensor:
        """From actions in [-1, 1] or one-hot, [..., A]."""
        return 2 * action - 1 if self.spec.discrete else action

    def decode(self, sampled: Tensor) -> Tensor:
        """The inverse for samples; a discrete action is the largest element, as one-hot."""
        if not self.spec.discrete:
            return sampled.clamp(-1, 1)
        choice = sampled.argmax(-1)
        return nn.functional.one_hot(choice, self.spec.size).to(sampled.dtype)


class LatentPlanner(nn.Module):
    """Samples plans with trained networks; it learns nothing.

    Args:
        planner: predicts the noise in the next H latents, given the present one.
        inverse_dynamics: predicts the noise in an action, given the latents before and after it.
        diffusion: of both.
        ranges: scales plans and conditions.
        action: the specification of actions.
        execute: E, the number of actions of a plan.
        skip: the number of leading features that the latent leaves out.
    """

    def __init__(
        self,
        planner: nn.Module,
        inverse_dynamics: nn.Module,
        *,
        diffusion: Diffusion,
        ranges: PlanRange,
        action: ActionSpec,
        execute: int,
        skip: int,
    ) -> None:
        super().__init__()
        self.planner, self.inverse_dynamics = planner, inverse_dynamics
        self.diffusion, self.ranges = diffusion, ranges
        self.actions = Actions(action)
        self.execute, self.skip = execute, skip

    def latent(self, features: Tensor) -> Tensor:
        """The latent, [..., Z], of features [..., F]."""
        return features[..., self.skip :]

    def futures(self, latent: Tensor, draw: Draw) -> Tensor:
        """The next H latents, [N, H, Z], after latents [N, Z]."""
        condition = self.ranges.condition(latent)
        plan = self.diffusion.sample(
            lambda noisy, step: self.planner(noisy, condition, step), (self.ranges.horizon, latent.shape[-1]), draw
        )
        return self.ranges.from_plan(latent, plan)

    def between(self, before: Tensor, after: Tensor, draw: Draw) -> Tensor:
        """Actions [N, A] in [-1, 1], or one-hot, that lead from latents [N, Z] to those of the next row."""
        pairs = self.ranges.pair(before, after)
        sampled = self.diffusion.sample(
            lambda noisy, step: self.inverse_dynamics(noisy, pairs, step), (1, self.actions.spec.size), draw
        )
        return self.actions.decode(sampled[:, 0])

    def plan(self, latent: Tensor, draw: Draw) -> Tensor:
        """The next E actions, [N, E, A]: those that lead along the planned latents."""
        planned = self.futures(latent, draw)[:, : self.execute]
        path = torch.cat([latent[:, None], planned], dim=1)
        before, after = path[:, :-1].flatten(0, 1), path[:, 1:].flatten(0, 1)
        action = self.between(before, after, lambda *sizes: draw(self.execute, *sizes).flatten(0, 1))
        by_row: Tensor = action.unflatten(0, (-1, self.execute))
        return by_row
