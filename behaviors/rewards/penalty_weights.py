"""Weights of penalties and bonuses: one unit of uncertainty in units of reward."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from dreamset.core.errors import UserError


class SpreadWeight(nn.Module, ABC):
    """lambda, the weight of a penalty, or of a bonus. All of its memory is in its ``state_dict``."""

    def calibrate(self, uncertainties: Iterable[Tensor]) -> None:
        """Computes constants from the uncertainties [M] of recorded transitions; see ``RewardFunction.calibrate``."""

    @abstractmethod
    def forward(self, uncertainty: Tensor) -> Tensor:
        """The weight, a scalar without gradient, given the uncertainty of an update's trajectories."""


class FixedWeight(SpreadWeight):
    """A constant weight."""

    def __init__(self, value: float) -> None:
        super().__init__()
        if value < 0:
            raise UserError(f"the weight of penalty or bonus is {value}; allowed: 0 or more; set reward.weight.value")
        self.value = value

    def forward(self, uncertainty: Tensor) -> Tensor:
        """The constant."""
        return uncertainty.new_tensor(self.value)


class CalibratedWeight(SpreadWeight):
    """A constant weight that makes the mean penalty of *recorded* transitions ``target`` units of reward.

    lambda = target / (mean u over at least ``transitions`` recorded transitions), computed once before the first update
    and kept. Where the policy stays near the data a step costs about the target, whatever the scale of u, and less
    where the model is certain.
    """

    value: Tensor

    def __init__(self, target: float, *, transitions: int = 10_000) -> None:
        super().__init__()
        if target < 0 or transitions < 1:
            raise UserError(
                f"a calibrated penalty or bonus has target {target} and {transitions} transitions; allowed: a target "
                "of 0 or more and 1 transition or more; set reward.weight.target and reward.weight.transitions"
            )
        self.target = target
        self.transitions = transitions
        self.register_buffer("value", torch.tensor(torch.nan))

    def calibrate(self, uncertainties: Iterable[Tensor]) -> None:
        """Computes the weight, unless it is known.

        Raises:
            UserError: if recorded windows have no transitions, or the ensemble's members agree on all of them.
        """
        if not self.value.isnan():
            return
        total, count = 0.0, 0
        for uncertainty in uncertainties:
            if not uncertainty.numel():
                raise UserError(
                    "the weight of penalty or bonus is calibrated on recorded transitions, but a window of "
                    "behavior_training.batch.length has one row and therefore none; set 2 or more"
                )
            total, count = total + float(uncertainty.double().sum()), count + uncertainty.numel()
            if count >= self.transitions:
                break
        if not total > 0:
            raise UserError(
                "the members of the ensemble agree on all recorded transitions, so penalty or bonus has no scale; "
                "train the world model with more world_model.ensemble.members or updates, or use reward/weight=fixed"
            )
        self.value.fill_(self.target * count / total)

    def forward(self, uncertainty: Tensor) -> Tensor:
        """The constant."""
        if not torch.compiler.is_compiling() and self.value.isnan():  # a traced program has no branch on a value
            raise ValueError("the weight of the penalty is unknown before RewardFunction.calibrate")
        return self.value.to(uncertainty.dtype)


class TunedWeight(SpreadWeight):
    """A weight that makes the mean penalty ``target`` units of reward per step for any scale of the uncertainty.

    lambda = target / u, where u is a moving average of the mean uncertainty. Offline DreamerV2's code instead
    minimises ln lambda (lambda u - target) by gradient descent, which has the same fixed point.

    The weight follows the policy. With u its mean uncertainty, the gradient of the penalty is target * grad ln u: it
    does not vanish where the policy becomes safe, but grows as u falls, and a policy without any doubt still pays the
    target at every step. ``CalibratedWeight`` has neither problem.
    """

    average: Tensor
    updates: Tensor

    def __init__(self, target: float, *, decay: float = 0.99) -> None:
        super().__init__()
        if target < 0 or not 0 <= decay < 1:
            raise UserError(
                f"a tuned penalty or bonus has target {target} and decay {decay}; allowed: a target of 0 or more and a "
                f"decay from 0 to below 1; set reward.weight.target and reward.weight.decay"
            )
        self.target = target
        self.decay = decay
        self.register_buffer("average", torch.zeros(()))
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    def forward(self, uncertainty: Tensor) -> Tensor:
        """target / u; in training mode, u first includes this update.

        Raises:
            UserError: if the weight acts, as in planning, before any update has tuned it.
        """
        if not self.training and not torch.compiler.is_compiling() and not self.updates:
            raise UserError(
                "reward/weight=tuned has no value before a policy has learned with it; choose reward/weight=fixed or "
                "reward/weight=calibrated for planning"
            )
        if self.training:
            self.updates += 1
            self.average.lerp_(uncertainty.detach().mean(), 1 - self.decay)
        mean = self.average / (1 - self.decay ** self.updates.clamp_min(1))  # corrects the start at zero
        return self.target / mean.clamp_min(torch.finfo(mean.dtype).tiny)
