"""Policies of TD-MPC on a latent state, and the scale of values in TD-MPC2's loss of the policy."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec
from dreamset.models.distributions import TanhNormal
from dreamset.models.layers import MISH_LAYER_NORM, Style, elu_orthogonal, mlp


class SquashedGaussianPolicy(nn.Module):
    """a = tanh(u), u ~ N(m, exp(s)) with ln std = low + (high - low) (tanh(s) + 1) / 2 (TD-MPC2, section 3.1).

    The published code scales its entropy bonus by a quotient of log-probabilities in which the correction for tanh
    cancels: its bonus is A times the entropy of u, which grows with the std without limit. Here the bonus is the
    entropy of the action, ``TanhNormal.entropy``. At the published weight, 1e-4, both are small.

    Args:
        features: size of the latent state.
        action: the dataset's actions; only continuous ones are supported.
        hidden, layers, style: of the network.
        low, high: bounds of ln std.
    """

    def __init__(
        self,
        features: int,
        action: ActionSpec,
        *,
        hidden: int,
        layers: int,
        low: float = -10.0,
        high: float = 2.0,
        style: Style = MISH_LAYER_NORM,
    ) -> None:
        super().__init__()
        _require_continuous(action)
        if not low < high:
            raise UserError(f"the policy's 'low' is {low} and 'high' is {high}; allowed: a low below the high")
        self.layers = mlp(features, 2 * action.size, hidden=hidden, layers=layers, style=style)
        self.low = low
        self.high = high

    def forward(self, features: Tensor) -> TanhNormal:
        """Latent states [..., Z] to a distribution over actions [..., A] in [-1, 1]."""
        mean, raw = self.layers(features).chunk(2, dim=-1)
        log_std = self.low + 0.5 * (self.high - self.low) * (torch.tanh(raw) + 1)
        return TanhNormal(mean, log_std.exp())

    def after_update(self) -> None:
        """Does nothing: this policy has no schedule."""


@dataclass(frozen=True, slots=True)
class ClippedNormal:
    """N(location, scale) with noise of at most ``limit``, clipped to [-1, 1]: exploration of a deterministic policy.

    Log-probability and entropy are those of the normal distribution without limit and clipping.
    """

    location: Tensor  # [..., A] in [-1, 1]
    scale: Tensor  # broadcasts to [..., A]
    limit: float = math.inf
    noise_kind: ClassVar[str] = "normal"

    @property
    def mode(self) -> Tensor:
        """The location."""
        return self.location

    def noise(self, generator: torch.Generator) -> Tensor:
        """Standard normal noise, [..., A]."""
        like = self.location
        return torch.randn(like.shape, generator=generator, device=generator.device, dtype=like.dtype)

    def sample(self, noise: Tensor) -> Tensor:
        """location + scale * noise, both limited; the gradient ignores the clipping to [-1, 1]."""
        action = self.location + (self.scale * noise).clamp(-self.limit, self.limit)
        return action + (action.clamp(-1, 1) - action).detach()  # stop: straight through the clipping

    def log_prob(self, action: Tensor) -> Tensor:
        """ln N(action; location, scale), summed over the action's elements."""
        standardized = (action - self.location) / self.scale
        return (-0.5 * standardized.square() - self.scale.log() - 0.5 * math.log(2 * math.pi)).sum(-1)

    def entropy(self) -> Tensor:
        """ln(scale) + (1 + ln 2 pi) / 2, summed over the action's elements."""
        each = self.scale.log() + 0.5 * (1 + math.log(2 * math.pi))
        return each.expand(self.location.shape).sum(-1)


class DeterministicPolicy(nn.Module):
    """a = tanh(m) with noise whose std falls linearly from ``start`` to ``end`` over ``over`` updates (TD-MPC).

    Args:
        features: size of the latent state.
        action: the dataset's actions; only continuous ones are supported.
        hidden, layers, style: of the network.
        start, end: std before the first update and from update ``over`` on.
        over: number of updates until ``end``.
        limit: largest noise of an action.
    """

    updates: Tensor

    def __init__(
        self,
        features: int,
        action: ActionSpec,
        *,
        hidden: int,
        layers: int,
        start: float = 0.5,
        end: float = 0.05,
        over: int = 25_000,
        limit: float = 0.3,
        style: Style | None = None,
    ) -> None:
        super().__init__()
        _require_continuous(action)
        if start <= 0 or end <= 0 or over < 1:
            raise UserError(
                f"the policy's 'start', 'end' and 'over' are {start}, {end} and {over}; allowed: positive numbers"
            )
        self.layers = mlp(features, action.size, hidden=hidden, layers=layers, style=style or elu_orthogonal())
        self.start = start
        self.end = end
        self.over = over
        self.limit = limit
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    @property
    def std(self) -> Tensor:
        """The std after the updates so far, a scalar."""
        share = (self.updates / self.over).clamp_max(1)
        return self.start + (self.end - self.start) * share

    def forward(self, features: Tensor) -> ClippedNormal:
        """Latent states [..., Z] to a distribution over actions [..., A] in [-1, 1]."""
        location = torch.tanh(self.layers(features))
        return ClippedNormal(location, self.std.to(location.dtype), self.limit)

    def after_update(self) -> None:
        """Counts one update of the schedule."""
        self.updates += 1


class RunningScale(nn.Module):
    """S, an average of max(floor, Per(Q, high) - Per(Q, low)) that moves by ``rate`` per update (TD-MPC2).

    Dreamer v3's ``PercentileEMA`` starts at zero and applies its floor to the average; S starts at one, and the floor
    applies to every range before averaging.
    """

    levels: Tensor
    scale: Tensor

    def __init__(self, *, rate: float = 0.01, low: float = 5.0, high: float = 95.0, floor: float = 1.0) -> None:
        super().__init__()
        self.rate = rate
        self.floor = floor
        self.register_buffer("levels", torch.tensor([low, high]) / 100, persistent=False)
        self.register_buffer("scale", torch.ones(()))  # S

    @torch.no_grad()
    def update(self, values: Tensor) -> None:
        """Moves S towards the range of ``values`` of any shape."""
        low, high = torch.quantile(values.flatten(), self.levels.to(values.dtype))
        self.scale.lerp_((high - low).clamp_min(self.floor).to(self.scale.dtype), self.rate)


def _require_continuous(action: ActionSpec) -> None:
    if action.discrete:
        raise UserError(
            f"the policy of this world model needs continuous actions, but the dataset has {action.size} discrete "
            "actions; choose a dataset with continuous actions or another world_model"
        )
