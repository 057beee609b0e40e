"""Actors map features to a distribution over actions."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dreamset.behaviors.action_distributions import Actor, BoundedNormal, TruncatedNormal
from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec
from dreamset.models.distributions import OneHotCategorical, TanhNormal
from dreamset.models.layers import ELU, Style, mlp

ActorFactory = Callable[[int, ActionSpec], Actor]


def actor_for(features: int, action: ActionSpec, *, continuous: ActorFactory, discrete: ActorFactory) -> Actor:
    """The discrete or continuous actor, as the dataset's actions need, so that one configuration covers both."""
    return discrete(features, action) if action.discrete else continuous(features, action)


class TanhNormalActor(nn.Module):
    """a = tanh(u), u ~ N(5 tanh(m / 5), softplus(s + c) + min_std) (Dreamer v1, appendix A).

    The inner tanh keeps the mean where the outer tanh still has a gradient; c makes the initial std ``initial_std``.
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
        _require_continuous(action, "tanh-normal")
        self.layers = mlp(features, 2 * action.size, hidden=hidden, layers=layers)
        self.raw_initial_std = math.log(math.expm1(initial_std))
        self.min_std = min_std
        self.mean_scale = mean_scale

    def forward(self, features: Tensor) -> TanhNormal:
        """Features [..., F] to a distribution over actions [..., A] in [-1, 1]."""
        mean, raw = self.layers(features).chunk(2, dim=-1)
        location = self.mean_scale * torch.tanh(mean / self.mean_scale)
        return TanhNormal(location, F.softplus(raw + self.raw_initial_std) + self.min_std)


class TruncatedNormalActor(nn.Module):
    """N(tanh(m), (max_std - min_std) sigmoid(s / 2) + min_std) truncated to [-1, 1]: Dreamer v2, continuous control.

    This follows the published code; the paper does not specify the distribution.
    """

    def __init__(
        self,
        features: int,
        action: ActionSpec,
        *,
        hidden: int,
        layers: int,
        min_std: float = 0.1,
        max_std: float = 2.1,
        style: Style = ELU,
    ) -> None:
        super().__init__()
        _require_continuous(action, "truncated normal")
        self.layers = mlp(features, 2 * action.size, hidden=hidden, layers=layers, style=style)
        self.min_std = min_std
        self.max_std = max_std

    def forward(self, features: Tensor) -> TruncatedNormal:
        """Features [..., F] to a distribution over actions [..., A] in [-1, 1]."""
        mean, raw = self.layers(features).chunk(2, dim=-1)
        scale = (self.max_std - self.min_std) * torch.sigmoid(raw / 2) + self.min_std
        return TruncatedNormal(torch.tanh(mean), scale)


class BoundedNormalActor(nn.Module):
    """N(tanh(m), (max_std - min_std) sigmoid(s + 2) + min_std), not squashed: Dreamer v3, continuous control.

    This follows the published code. ``output_scale`` scales the initial kernel of the last layer down, so that the
    initial policy is centred and wide in every state.
    """

    def __init__(
        self,
        features: int,
        action: ActionSpec,
        *,
        hidden: int,
        layers: int,
        min_std: float = 0.1,
        max_std: float = 1.0,
        output_scale: float = 1.0,
        style: Style = ELU,
    ) -> None:
        super().__init__()
        _require_continuous(action, "bounded normal")
        self.layers = mlp(features, 2 * action.size, hidden=hidden, layers=layers, style=style)
        _scale_last(self.layers, output_scale)
        self.min_std = min_std
        self.max_std = max_std

    def forward(self, features: Tensor) -> BoundedNormal:
        """Features [..., F] to a distribution over actions [..., A]."""
        mean, raw = self.layers(features).chunk(2, dim=-1)
        scale = (self.max_std - self.min_std) * torch.sigmoid(raw + 2) + self.min_std
        return BoundedNormal(torch.tanh(mean), scale)


class OneHotActor(nn.Module):
    """A categorical policy over A discrete actions: the softmax mixed with ``unimix`` of a uniform (all generations).

    v1 and v2 use no mix; v3 uses 1 %, which keeps the log-likelihood of every action finite.
    """

    def __init__(
        self,
        features: int,
        action: ActionSpec,
        *,
        hidden: int,
        layers: int,
        unimix: float = 0.0,
        output_scale: float = 1.0,
        style: Style = ELU,
    ) -> None:
        super().__init__()
        if not action.discrete:
            raise UserError(
                f"behavior.actor is a one-hot policy and needs discrete actions, but the dataset has {action.size} "
                "continuous actions; choose a dataset with discrete actions or another actor"
            )
        self.layers = mlp(features, action.size, hidden=hidden, layers=layers, style=style)
        _scale_last(self.layers, output_scale)
        self.unimix = unimix

    def forward(self, features: Tensor) -> OneHotCategorical:
        """Features [..., F] to a distribution over one-hot actions [..., A]."""
        return OneHotCategorical(self.layers(features), self.unimix)


def _require_continuous(action: ActionSpec, name: str) -> None:
    if action.discrete:
        raise UserError(
            f"behavior.actor is a {name} policy and needs continuous actions, but the dataset has {action.size} "
            "discrete actions; choose a behavior with an actor for discrete actions or a dataset with continuous ones"
        )


@torch.no_grad()
def _scale_last(layers: nn.Sequential, factor: float) -> None:
    last = layers[-1]
    assert isinstance(last, nn.Linear)
    last.weight.mul_(factor)
