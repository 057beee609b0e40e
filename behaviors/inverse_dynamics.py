"""An inverse dynamics model on features: which action led from one recorded row to the next."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NoReturn

import torch
from torch import Tensor, nn

from dreamset.behaviors.action_distributions import ActionDistribution, Actor
from dreamset.behaviors.base import Experience, Learner, LearnerLosses, RewardFunction
from dreamset.behaviors.cloning import require_cloneable
from dreamset.behaviors.exploration import Exploration, mode
from dreamset.behaviors.windows import mean_of_known
from dreamset.core.capabilities import ActionFree, Representation
from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec


class InverseDynamics(Learner):
    """max E[ln p(a_t | s_{t-1}, s_t)] over all recorded actions, also those of suboptimal episodes.

    It labels the actions of episodes that have none, and cannot act. The states must not depend on actions: those of a
    recurrent model hold the action that led to them, which would make the task trivial.
    """

    needs: ClassVar[tuple[type, ...]] = (Representation, ActionFree)
    headline: ClassVar[str] = "inverse_dynamics/log_prob"

    def __init__(self, features: int, action: ActionSpec, *, network: Callable[[int, ActionSpec], Actor]) -> None:
        super().__init__()
        require_cloneable(action)
        self.network = network(2 * features, action)

    def networks(self) -> Mapping[str, nn.Module]:
        """The network from two rows to a distribution over actions."""
        assert isinstance(self.network, nn.Module)
        return {"inverse_dynamics": self.network}

    def losses_on(
        self,
        experience: Experience[Any],
        model: object,  # noqa: ARG002 - nothing is imagined
        reward: RewardFunction,  # noqa: ARG002
        generator: torch.Generator,  # noqa: ARG002
    ) -> LearnerLosses:
        """The mean of -ln p of the recorded actions between two rows of an episode."""
        features = experience.features  # [B, T, F]
        log_prob = self._between(features[:, :-1], features[:, 1:]).log_prob(experience.action[:, 1:])  # [B, T - 1]
        loss = -mean_of_known(log_prob, ~experience.is_first[:, 1:])
        return LearnerLosses({"inverse_dynamics": loss}, {self.headline: -loss.detach()})

    def label(self, before: Tensor, after: Tensor, generator: torch.Generator) -> Tensor:  # noqa: ARG002 - no samples
        """The mode of p(a_t | s_{t-1}, s_t), [N, A]; see ``core.capabilities.LabelsActions``."""
        return self._between(before, after).mode

    def controller(self, model: object, *, exploration: Exploration = mode) -> NoReturn:  # noqa: ARG002
        """Nothing acts with it.

        Raises:
            UserError: always.
        """
        raise UserError(
            "behavior=inverse_dynamics labels recorded rows and cannot act; use it with `dreamset data label-actions`, "
            "and choose another behavior to act"
        )

    def _between(self, before: Tensor, after: Tensor) -> ActionDistribution:
        return self.network(torch.cat([before, after], dim=-1))
