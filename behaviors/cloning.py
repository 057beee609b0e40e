"""Behaviour cloning on the world model's features: do as the data did."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dreamset.behaviors.action_distributions import Actor
from dreamset.behaviors.base import ActorLearner, Demonstrations, Experience, LearnerLosses, RewardFunction
from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec


class BehaviorCloning(ActorLearner):
    """max E[ln pi(a_t | s_t)] over recorded actions: the baseline for everything that imagines.

    It acts by the actor's ``mode``, which is a good summary of what was done where it is the mean of it, as a normal's.
    The state remembers the actions that led to it; where recorded actions often repeat, the policy may repeat, too.
    """

    headline: ClassVar[str] = "cloning/log_prob"

    def __init__(self, features: int, action: ActionSpec, *, actor: Callable[[int, ActionSpec], Actor]) -> None:
        super().__init__()
        require_cloneable(action)
        self.actor = actor(features, action)

    def networks(self) -> Mapping[str, nn.Module]:
        """The actor alone."""
        assert isinstance(self.actor, nn.Module)
        return {"actor": self.actor}

    def losses_on(
        self,
        experience: Experience[Any],
        model: object,  # noqa: ARG002 - nothing is imagined
        reward: RewardFunction,  # noqa: ARG002
        generator: torch.Generator,  # noqa: ARG002
    ) -> LearnerLosses:
        """-ln pi of what was done, averaged."""
        loss = cloning_loss(self.actor, experience.demonstrations)
        return LearnerLosses({"actor": loss}, {self.headline: -loss.detach()})


def cloning_loss(actor: Actor, demonstrations: Demonstrations) -> Tensor:
    """-mean ln pi(a_t | s_t) over the demonstrations that are known."""
    log_prob = actor(demonstrations.features).log_prob(demonstrations.action)  # [B, T - 1]
    known = demonstrations.known.to(log_prob.dtype)
    return -(known * log_prob).sum() / known.sum().clamp_min(1)


def require_cloneable(action: ActionSpec) -> None:
    """Actors act in [-1, 1] or choose.

    Raises:
        UserError: for continuous actions without bounds, which cannot be brought to [-1, 1].
    """
    if not action.discrete and not action.bounded:
        raise UserError(
            f"cloning compares recorded actions with a policy in [-1, 1], but the dataset's have no bounds: "
            f"{action.low} to {action.high}; state them in the dataset or leave cloning out"
        )
