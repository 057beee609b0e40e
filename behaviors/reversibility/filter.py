"""Acting with a filter that rejects actions which could not be undone (Grinsztajn et al. 2021, their RAC)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dreamset.behaviors.action_distributions import ActionDistribution
from dreamset.behaviors.base import ActorLearner, Learner, RewardFunction, imagined
from dreamset.behaviors.controller import ActorController
from dreamset.behaviors.exploration import Explorable, Exploration, mode
from dreamset.behaviors.reversibility.precedence import ActionIrreversibility
from dreamset.core.errors import UserError
from dreamset.core.records import ImaginedTrajectory
from dreamset.models.distributions import OneHotCategorical, noise_of_kind

NETWORK = "action_irreversibility"  # of the reward function with which the behaviour was learned


@dataclass(frozen=True, slots=True)
class Reversible:
    """The actor proposes, and actions with phi(s, a) above the threshold are rejected; a ``WayOfActing``.

    Discrete actions: the actor's probabilities among the allowed actions. Continuous actions: the first allowed one of
    the actor's action and samples of the actor. If none is allowed, the least irreversible one is taken, as in the
    published code; the paper does not say.

    Args:
        threshold: the largest allowed phi, from 0 to below 1.
        candidates: the number of continuous actions that are tried, the actor's mode included.
        reward: has the network ``action_irreversibility``; None: the reward with which the behaviour was learned.
    """

    threshold: float = 0.7
    candidates: int = 16
    reward: RewardFunction | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 1:
            raise UserError(f"acting.threshold is {self.threshold}; allowed: 0 to below 1; change it")
        if self.candidates < 1:
            raise UserError(f"acting.candidates is {self.candidates}; allowed: 1 or more; change it")

    def with_reward(self, reward: RewardFunction) -> "Reversible":
        """The same filter with the networks of another reward function."""
        return replace(self, reward=reward)

    def of(self, behavior: Learner) -> "ActsReversibly":
        """How ``behavior`` acts with the filter.

        Raises:
            UserError: if the behaviour has no actor, or the reward function no such network.
        """
        network = None if self.reward is None else self.reward.networks().get(NETWORK)
        if not isinstance(network, ActionIrreversibility):
            raise UserError(
                f"acting=reversible needs the network {NETWORK} of the reward with which the behaviour was learned, "
                f"but {type(self.reward).__name__} has none; learn the behaviour with reward=careful"
            )
        if not isinstance(behavior, ActorLearner):
            raise UserError(
                f"acting=reversible filters the actions of an actor, but {type(behavior).__name__} has none; choose a "
                "behaviour with an actor, such as behavior=dreamer_v3"
            )
        return ActsReversibly(self, behavior, network)


class ActsReversibly:
    """Acts with a learned actor and the filter; see ``behaviors.base.Acting``."""

    def __init__(self, way: Reversible, behavior: ActorLearner, network: ActionIrreversibility) -> None:
        self.way, self.behavior, self.network = way, behavior, network

    @property
    def acting_needs(self) -> tuple[type, ...]:
        """Those of the behaviour."""
        return self.behavior.acting_needs

    def controller(self, model: Any, *, exploration: Exploration = mode) -> ActorController[Any]:
        """The actor's controller; what exploration chooses passes the filter, too."""
        return ActorController(model, self._actor(model), exploration=Filtered(exploration))

    def imagine(
        self,
        model: Any,
        start: Any,
        *,
        horizon: int,
        generator: torch.Generator,
        on_step: Callable[[], None] = lambda: None,  # noqa: ARG002 - a policy takes no time
    ) -> ImaginedTrajectory[Any] | None:
        """Imagines the filtered policy without exploration; None if the model has no dynamics."""
        actor = self._actor(model)
        return imagined(lambda features: actor(features).mode, model, start, horizon=horizon, generator=generator)

    def _actor(self, model: Any) -> Callable[[Tensor], "Filterable"]:
        action, actor, way = model.spec.action, self.behavior.actor, self.way
        if action.discrete:
            return FilteredChoices(actor, self.network, threshold=way.threshold)
        return FilteredSamples(actor, self.network, action.size, threshold=way.threshold, candidates=way.candidates)


class Filterable(Explorable, Protocol):
    """A distribution over actions that a filter allows."""

    def kept(self, action: Tensor) -> Tensor:
        """The actions [N, A] that are allowed; others replaced by allowed ones."""


@dataclass(frozen=True)
class Filtered:
    """Another exploration, whose choices pass the filter."""

    exploration: Exploration

    def __call__(self, distribution: Any, generator: torch.Generator) -> Tensor:
        """See ``Exploration``; ``distribution`` is a ``Filterable``."""
        kept: Tensor = distribution.kept(self.exploration(distribution, generator))
        return kept


class FilteredChoices(nn.Module):
    """An actor for discrete actions that rejects those with phi(s, a) above the threshold.

    Args:
        actor: proposes.
        network: judges, phi.
        threshold: the largest allowed phi.
    """

    def __init__(
        self, actor: Callable[[Tensor], OneHotCategorical], network: ActionIrreversibility, *, threshold: float
    ) -> None:
        super().__init__()
        self.actor, self.network, self.threshold = actor, network, threshold

    def forward(self, features: Tensor) -> "AllowedChoices":
        """Features [N, F] to a distribution over allowed actions, one-hot [N, A]."""
        log_probs = self.actor(features).log_probs
        choices = torch.diag_embed(torch.ones_like(log_probs))  # [N, A, A]: every action in every state
        phi = self.network.irreversibility(features[:, None].expand(-1, choices.shape[1], -1), choices)  # [N, A]
        within, least = phi <= self.threshold, phi <= phi.amin(-1, keepdim=True)
        allowed = torch.where(within.any(-1, keepdim=True), within, least)
        return AllowedChoices(OneHotCategorical(log_probs.masked_fill(~allowed, -torch.inf)), allowed)


class FilteredSamples(nn.Module):
    """An actor for continuous actions that rejects those with phi(s, a) above the threshold.

    Args:
        actor: proposes.
        network: judges, phi.
        size: A, of an action.
        threshold: the largest allowed phi.
        candidates: see ``Reversible``. Their random numbers are drawn once, so that acting repeats exactly and can be
            exported.
    """

    draws: Tensor

    def __init__(
        self,
        actor: Callable[[Tensor], ActionDistribution],
        network: ActionIrreversibility,
        size: int,
        *,
        threshold: float,
        candidates: int,
    ) -> None:
        super().__init__()
        self.actor, self.network, self.threshold = actor, network, threshold
        draws = torch.randn(candidates - 1, size, generator=torch.Generator().manual_seed(0))
        self.register_buffer("draws", draws.to(next(network.parameters())), persistent=False)

    def forward(self, features: Tensor) -> "AllowedSamples":
        """Features [N, F] to a distribution over allowed actions [N, A]."""
        return AllowedSamples(self.actor(features), features, self)


@dataclass(frozen=True, slots=True)
class AllowedChoices:
    """The probabilities of discrete actions among those that are allowed."""

    distribution: OneHotCategorical  # probability zero of the others
    allowed: Tensor  # [N, A] bool

    @property
    def mode(self) -> Tensor:
        """The most likely allowed action, one-hot [N, A]."""
        return self.distribution.mode

    def noise(self, generator: torch.Generator) -> Tensor:
        """Gumbel noise, [N, A]."""
        return self.distribution.noise(generator)

    def sample(self, noise: Tensor) -> Tensor:
        """An allowed action, one-hot [N, A]."""
        return self.distribution.sample(noise)

    def kept(self, action: Tensor) -> Tensor:
        """Allowed actions as they are, others replaced by the most likely allowed one."""
        return torch.where((action * self.allowed).sum(-1, keepdim=True) > 0, action, self.mode)


@dataclass(frozen=True, slots=True)
class AllowedSamples:
    """Continuous actions: each one that is not allowed is replaced by the first allowed one of the actor's samples."""

    distribution: ActionDistribution  # the actor's
    features: Tensor  # [N, F]
    judge: FilteredSamples

    @property
    def mode(self) -> Tensor:
        """The actor's mode, or the first allowed sample, [N, A]."""
        return self.kept(self.distribution.mode)

    def noise(self, generator: torch.Generator) -> Tensor:
        """The actor's."""
        return self.distribution.noise(generator)

    def sample(self, noise: Tensor) -> Tensor:
        """The actor's sample, or another allowed action."""
        return self.kept(self.distribution.sample(noise))

    def kept(self, action: Tensor) -> Tensor:
        """The first allowed one of ``action``, the actor's mode and its samples; else the least irreversible one."""
        normal = self.judge.draws[:, None].expand(-1, *action.shape)  # [J - 1, N, A]
        samples = self.distribution.sample(noise_of_kind(self.distribution.noise_kind, normal))
        tried = torch.cat([action[None], self.distribution.mode[None], samples]).clamp(-1, 1)  # [J + 1, N, A]
        phi = self.judge.network.irreversibility(self.features.expand(len(tried), *self.features.shape), tried)
        allowed = phi <= self.judge.threshold  # [J + 1, N]
        first = torch.where(allowed.any(0), allowed.int().argmax(0), phi.argmin(0))  # [N]
        return tried.gather(0, first[None, :, None].expand(1, *action.shape))[0]
