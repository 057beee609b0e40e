"""Actions in recorded states, over which a policy's expectations and the conservative loss are computed.

An expectation over a policy is a weighted sum over C actions in every state: all actions if they are discrete, a sample
if they are continuous. Everything else of the learner is the same for both.
"""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec
from dreamset.models.distributions import OneHotCategorical, TanhNormal

INTERIOR = 1 - 1e-3  # largest absolute action whose density is computed; see ``SampledActions.interior``


@dataclass(frozen=True, slots=True)
class Choices:
    """Actions of a policy in every state."""

    action: Tensor  # [..., C, A]
    weight: Tensor  # [..., C], sums to one
    log_prob: Tensor  # [..., C] ln pi of the actions

    def mean(self, values: Tensor) -> Tensor:
        """E_pi of the values [..., C]: [...]."""
        return (self.weight * values).sum(-1)

    def entropy(self) -> Tensor:
        """E_pi[-ln pi] in nats, [...]."""
        return -self.mean(self.log_prob)


@dataclass(frozen=True, slots=True)
class Proposals:
    """Actions that represent all actions: sum_c exp(log_weight_c) f(a_c) estimates the sum or integral of f."""

    action: Tensor  # [..., C, A]
    log_weight: Tensor  # [..., C]

    def log_sum_exp(self, values: Tensor) -> Tensor:
        """ln of the integral of exp(values) over all actions (the sum over discrete ones): [...] from [..., C]."""
        return torch.logsumexp(values + self.log_weight, dim=-1)


class ActionKind(Protocol):
    """How actions of one kind are enumerated or sampled."""

    def require(self, policy: object, key: str) -> None:
        """Raises a ``UserError`` that names ``key`` if this is not the distribution of such actions."""

    def choices(self, policy: Any, generator: torch.Generator) -> Choices:
        """The policy's actions; their gradient reaches its parameters."""

    def proposals(self, policy: Any, count: int, generator: torch.Generator) -> Proposals:
        """Actions for an integral over all of them, without gradient; ``count`` from each of two sources."""

    def interior(self, action: Tensor) -> Tensor:
        """The recorded action, moved to where a policy's log-density is finite and of moderate size."""


@dataclass(frozen=True, slots=True)
class SampledActions:
    """Continuous actions in [-1, 1] of a tanh-normal policy: one sample in every state."""

    def require(self, policy: object, key: str) -> None:
        """See ``ActionKind``."""
        if not isinstance(policy, TanhNormal):
            raise UserError(
                f"{key} has the distribution {type(policy).__name__}; allowed for continuous actions: TanhNormal; "
                "take SquashedGaussianPolicy or TanhNormalActor"
            )

    def choices(self, policy: TanhNormal, generator: torch.Generator) -> Choices:
        """See ``ActionKind``."""
        action, log_prob = policy.sample_with_log_prob(policy.noise(generator))
        return Choices(action[..., None, :], torch.ones_like(log_prob)[..., None], log_prob[..., None])

    @torch.no_grad()
    def proposals(self, policy: TanhNormal, count: int, generator: torch.Generator) -> Proposals:
        """``count`` uniform actions and ``count`` of the policy, each weighted by 1 / (2 count density) (CQL, F)."""
        many = TanhNormal(*(_repeated(value, count) for value in (policy.location, policy.scale)))
        noise = torch.rand(many.location.shape, generator=generator, device=generator.device, dtype=many.location.dtype)
        own, log_prob = many.sample_with_log_prob(many.noise(generator))
        log_density = torch.cat([torch.full_like(log_prob, -own.shape[-1] * math.log(2)), log_prob], dim=-1)
        return Proposals(torch.cat([2 * noise - 1, own], dim=-2), -log_density - math.log(2 * count))

    def interior(self, action: Tensor) -> Tensor:
        """Clamped to ``INTERIOR``: a recorded policy that was clipped has much of its mass exactly at the bounds.

        The density of a squashed action needs atanh(a), which is infinite at a bound. What is left after rounding, 8.3,
        would pull a clone's location and scale far out.
        """
        return action.clamp(-INTERIOR, INTERIOR)


@dataclass(frozen=True, slots=True)
class AllActions:
    """Discrete actions: all of them, with the policy's probabilities as weights (SAC-Discrete)."""

    def require(self, policy: object, key: str) -> None:
        """See ``ActionKind``."""
        if not isinstance(policy, OneHotCategorical):
            raise UserError(
                f"{key} has the distribution {type(policy).__name__}; allowed for discrete actions: OneHotCategorical; "
                "take OneHotActor"
            )

    def choices(self, policy: OneHotCategorical, generator: torch.Generator) -> Choices:  # noqa: ARG002
        """See ``ActionKind``."""
        return Choices(_every_action(policy), policy.probs, policy.log_probs)

    def proposals(self, policy: OneHotCategorical, count: int, generator: torch.Generator) -> Proposals:  # noqa: ARG002
        """Every action once, so that the sum is exact."""
        return Proposals(_every_action(policy), torch.zeros_like(policy.logits))

    def interior(self, action: Tensor) -> Tensor:
        """The action itself."""
        return action


def kind_of(action: ActionSpec) -> ActionKind:
    """The kind of the dataset's actions.

    Raises:
        UserError: for continuous actions without bounds, which cannot be rescaled to [-1, 1].
    """
    if action.discrete:
        return AllActions()
    if not action.bounded:
        raise UserError(
            f"behavior=latent_sac has a policy in [-1, 1], but the dataset's actions have no bounds: {action.low} to "
            f"{action.high}; give the dataset's actions finite bounds"
        )
    return SampledActions()


def _repeated(value: Tensor, count: int) -> Tensor:
    """[..., A] to [..., count, A]."""
    return value[..., None, :].expand(*value.shape[:-1], count, value.shape[-1])


def _every_action(policy: OneHotCategorical) -> Tensor:
    """[..., A, A]: the one-hot actions in every state."""
    like = policy.logits
    return torch.eye(like.shape[-1], dtype=like.dtype, device=like.device).expand(*like.shape, like.shape[-1])
