"""Estimators of the policy gradient from imagined returns.

Each returns an objective [H, N] to be maximised; the caller weights the rows and takes the mean.
"""

from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from dreamset.behaviors.action_distributions import ActionDistribution, Actor
from dreamset.core.errors import UserError


class Decisions:
    """The actions at rows 0 to H - 1; the actor evaluates them in one batch, and only on demand."""

    def __init__(self, actor: Actor, features: Tensor, draws: Tensor) -> None:
        self._actor = actor
        self._features = features.detach()  # stop: likelihood and entropy must not change the states
        self._draws = draws.detach()  # stop: REINFORCE changes the likelihood of an action, not the action

    @cached_property
    def distribution(self) -> ActionDistribution:
        """pi(. | s_t), [H, N, A]."""
        return self._actor(self._features)

    def log_prob(self) -> Tensor:
        """ln pi(a_t | s_t), [H, N]; the gradient reaches only the actor."""
        return self.distribution.log_prob(self._draws)

    def entropy(self) -> Tensor:
        """H(pi | s_t) in nats, [H, N]; the gradient reaches only the actor."""
        return self.distribution.entropy()


class ActorGradient(Protocol):
    """An estimator of the policy gradient."""

    @property
    def through_dynamics(self) -> bool:
        """Whether returns need a gradient to the actions; imagination is cheaper without."""

    def __call__(self, returns: Tensor, baseline: Tensor, scale: Tensor, decisions: Decisions) -> Tensor:
        """The objective [H, N].

        Args:
            returns: V_t, [H, N].
            baseline: v(s_t) without gradient, [H, N].
            scale: the normaliser's scale, a scalar.
            decisions: the actions that led to the returns.
        """


class DynamicsBackpropagation:
    """V_t / S, with the pathwise gradient through values, rewards and dynamics (Dreamer v1, equation 7; S is 1)."""

    through_dynamics = True

    def __call__(self, returns: Tensor, baseline: Tensor, scale: Tensor, decisions: Decisions) -> Tensor:  # noqa: ARG002
        """The objective [H, N]."""
        return returns / scale


class Reinforce:
    """sg((V_t - v(s_t)) / S) ln pi(a_t | s_t) (Dreamer v2 on Atari, with S = 1; Dreamer v3).

    V_t and v(s_t) both include the reward on arrival at row t, which cancels. The difference is the discount of row t
    times the advantage of a_t. After the end of an episode this discount is zero, and so is the gradient.
    """

    through_dynamics = False

    def __call__(self, returns: Tensor, baseline: Tensor, scale: Tensor, decisions: Decisions) -> Tensor:
        """The objective [H, N]."""
        return ((returns - baseline) / scale).detach() * decisions.log_prob()


class Mixture:
    """rho REINFORCE + (1 - rho) backpropagation (Dreamer v2, equation 6): 1 for Atari, 0 for continuous control.

    With one-hot actions the backpropagated share uses their straight-through gradient.
    """

    def __init__(self, rho: float) -> None:
        if not 0 <= rho <= 1:
            raise UserError(f"rho is the share of REINFORCE and must lie between 0 and 1, got {rho}")
        parts: list[tuple[float, ActorGradient]] = [(rho, Reinforce()), (1 - rho, DynamicsBackpropagation())]
        self.shares = [(share, part) for share, part in parts if share > 0]

    @property
    def through_dynamics(self) -> bool:
        """Whether the mixture contains backpropagation."""
        return any(part.through_dynamics for _, part in self.shares)

    def __call__(self, returns: Tensor, baseline: Tensor, scale: Tensor, decisions: Decisions) -> Tensor:
        """The objective [H, N]."""
        terms = [share * part(returns, baseline, scale, decisions) for share, part in self.shares]
        return torch.stack(terms).sum(0)
