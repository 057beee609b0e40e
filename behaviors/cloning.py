"""Behaviour cloning: an actor on the world model's features that imitates the recorded actions."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dreamset.behaviors.action_distributions import Actor
from dreamset.behaviors.base import ActorLearner, Demonstrations, Experience, LearnerLosses, RewardFunction
from dreamset.behaviors.windows import mean_of_known
from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec


class BehaviorCloning(ActorLearner):
    """max E[ln pi(a_t | s_t)] over recorded actions: the baseline for learning in imagination.

    It acts with the actor's ``mode``, which summarises the recorded actions well if it is their mean, as for a normal.
    The state encodes past actions; if recorded actions often repeat, the policy may learn to repeat its last action.
    """

    headline: ClassVar[str] = "cloning/log_prob"

    def __init__(self, features: int, action: ActionSpec, *, actor: Callable[[int, ActionSpec], Actor]) -> None:
        super().__init__()
        require_cloneable(action)
        self.actor = actor(features, action)

    def networks(self) -> Mapping[str, nn.Module]:
        """The actor."""
        assert isinstance(self.actor, nn.Module)
        return {"actor": self.actor}

    def losses_on(
        self,
        experience: Experience[Any],
        model: object,  # noqa: ARG002 - cloning needs no imagination
        reward: RewardFunction,  # noqa: ARG002
        generator: torch.Generator,  # noqa: ARG002
    ) -> LearnerLosses:
        """The mean of -ln pi of the recorded actions."""
        loss = cloning_loss(self.actor, experience.demonstrations)
        return LearnerLosses({"actor": loss}, {self.headline: -loss.detach()})


def cloning_loss(actor: Actor, demonstrations: Demonstrations) -> Tensor:
    """-mean ln pi(a_t | s_t) over the known demonstrations."""
    log_prob = actor(demonstrations.features).log_prob(demonstrations.action)  # [B, T - 1]
    return -mean_of_known(log_prob, demonstrations.known)


def require_cloneable(action: ActionSpec) -> None:
    """Checks that actions can be cloned: discrete actions, or continuous ones with bounds.

    Raises:
        UserError: for continuous actions without bounds, which cannot be rescaled to [-1, 1].
    """
    if not action.discrete and not action.bounded:
        raise UserError(
            f"cloning compares recorded actions with a policy in [-1, 1], but the dataset's actions have no bounds: "
            f"{action.low} to {action.high}; give the dataset's actions finite bounds or use no cloning"
        )
