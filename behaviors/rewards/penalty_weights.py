"""Penalty weights: the cost of one unit of uncertainty in units of reward."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from dreamset.core.errors import UserError


class PenaltyWeight(nn.Module, ABC):
    """lambda, the weight of the penalty. All of its memory is in its ``state_dict``."""

    @abstractmethod
    def forward(self, uncertainty: Tensor) -> Tensor:
        """The weight, a scalar without gradient, given the uncertainty of an update's trajectories."""


class FixedWeight(PenaltyWeight):
    """A constant weight."""

    def __init__(self, value: float) -> None:
        super().__init__()
        if value < 0:
            raise UserError(f"the weight of the penalty is {value}; allowed: 0 or more; set reward.weight.value")
        self.value = value

    def forward(self, uncertainty: Tensor) -> Tensor:
        """The constant."""
        return uncertainty.new_tensor(self.value)


class TunedWeight(PenaltyWeight):
    """A weight that makes the mean penalty ``target`` units of reward per step for any scale of the uncertainty.

    lambda = target / u, where u is a moving average of the mean uncertainty. Offline DreamerV2's code instead
    minimises ln lambda (lambda u - target) by gradient descent, which has the same fixed point.
    """

    average: Tensor
    updates: Tensor

    def __init__(self, target: float, *, decay: float = 0.99) -> None:
        super().__init__()
        if target < 0 or not 0 <= decay < 1:
            raise UserError(
                f"a tuned penalty has target {target} and decay {decay}; allowed: a target of 0 or more and a decay "
                f"from 0 to below 1; set reward.weight.target and reward.weight.decay"
            )
        self.target = target
        self.decay = decay
        self.register_buffer("average", torch.zeros(()))
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    def forward(self, uncertainty: Tensor) -> Tensor:
        """target / u; in training mode, u first includes this update."""
        if self.training:
            self.updates += 1
            self.average.lerp_(uncertainty.detach().mean(), 1 - self.decay)
        mean = self.average / (1 - self.decay ** self.updates.clamp_min(1))  # corrects the start at zero
        return self.target / mean.clamp_min(torch.finfo(mean.dtype).tiny)
