"""Actors: features to a distribution over actions."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec
from dreamset.models.distributions import TanhNormal
from dreamset.models.layers import mlp


class TanhNormalActor(nn.Module):
    """a = tanh(u), u ~ N(5 tanh(m / 5), softplus(s + c) + min_std) (Dreamer v1, appendix A).

    The inner tanh keeps the mean where tanh still has a slope; c makes the std ``initial_std`` at the start.
    """

    def __init__(
        self,
        features: int,
        action: ActionSpec,
        *,
        hidden: int,
        layers: int,
        initial_std: float = 5.0,
        min_std: float = 1e-4,
        mean_scale: float = 5.0,
    ) -> None:
        super().__init__()
        if action.discrete:
            raise UserError(
                f"behavior.actor is a tanh-normal policy and needs continuous actions, but the dataset has a choice "
                f"among {action.size}; choose a dataset with continuous actions"
            )
        self.layers = mlp(features, 2 * action.size, hidden=hidden, layers=layers)
        self.raw_initial_std = math.log(math.expm1(initial_std))
        self.min_std = min_std
        self.mean_scale = mean_scale

    def forward(self, features: Tensor) -> TanhNormal:
        """Features [..., F] to a distribution over actions [..., A] in [-1, 1]."""
        mean, raw = self.layers(features).chunk(2, dim=-1)
        location = self.mean_scale * torch.tanh(mean / self.mean_scale)
        return TanhNormal(location, F.softplus(raw + self.raw_initial_std) + self.min_std)
