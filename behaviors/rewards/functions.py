"""Reward functions of imagined trajectories: the seam where penalties and bonuses enter."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn

from dreamset.behaviors.rewards.penalty_weights import PenaltyWeight
from dreamset.core.errors import UserError
from dreamset.core.records import ImaginedTrajectory
from dreamset.models.recurrent.ensemble import Spread
from dreamset.models.recurrent.world_model import WorldModel


class RewardFunction(nn.Module, ABC):
    """What a learner maximises on an imagined trajectory. What it remembers is in its ``state_dict``."""

    @abstractmethod
    def forward(self, trajectory: ImaginedTrajectory, model: WorldModel) -> Mapping[str, Tensor]:
        """Terms on arrival at every row, [H + 1, N] each, by name; their sum is maximised."""


class PredictedReward(RewardFunction):
    """The world model's own expectation of the task's reward, E[r | s]."""

    def forward(self, trajectory: ImaginedTrajectory, model: WorldModel) -> Mapping[str, Tensor]:
        """``reward`` alone."""
        return {"reward": model.reward(trajectory.features)}


class PenalizedReward(RewardFunction):
    """E[r | s] - lambda u(s): pessimism about states of which the ensemble is uncertain.

    A policy that only looks at predicted rewards goes where the model is wrong in its favour, and nothing recorded
    contradicts it (MOPO, Yu et al. 2020; with latent states LOMPO and Offline DreamerV2).
    """

    def __init__(self, *, spread: Spread, weight: PenaltyWeight) -> None:
        super().__init__()
        self.spread = spread
        self.weight = weight

    def forward(self, trajectory: ImaginedTrajectory, model: WorldModel) -> Mapping[str, Tensor]:
        """``reward`` and ``penalty``, which is at most zero.

        Raises:
            UserError: if the world model has no ensemble.
        """
        if model.ensemble is None:
            raise UserError(
                "the reward is penalised by the disagreement of an ensemble, but the world model was trained without; "
                "add world_model/ensemble=priors and train it again, or take reward=predicted"
            )
        state = model.dynamics.state_of(trajectory.features)
        members = model.ensemble(state.deterministic)  # [K, H + 1, N, P]
        uncertainty = self.spread(model.dynamics.latent, members, state.stochastic)  # [H + 1, N]
        return {"reward": model.reward(trajectory.features), "penalty": -self.weight(uncertainty) * uncertainty}
