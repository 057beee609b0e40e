"""The score of a plan: its predicted return."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dreamset.behaviors.base import RewardFunction
from dreamset.core.capabilities import Dynamics, S, Valued
from dreamset.core.errors import UserError
from dreamset.core.records import ImaginedTrajectory


@dataclass(frozen=True, slots=True)
class TerminalValue:
    """How a critic values the last state of a plan: mean - pessimism * std over the critic's members.

    The standard deviation has divisor K. With two members and a pessimism of 1 this is their minimum (TD-MPC). TD-MPC2
    takes a mean; its paper (table 10) subtracts the spread for offline data, which its code lacks.
    """

    pessimism: float = 0.0

    def __call__(self, values: Tensor) -> Tensor:
        """[N] from the members' values [K, N].

        Raises:
            UserError: if there is pessimism but only one member, whose spread would always be zero.
        """
        if not self.pessimism:
            return values.mean(0)
        if len(values) == 1:
            raise UserError(
                f"acting.terminal_value.pessimism is {self.pessimism}, but this critic has no ensemble; allowed: 0; "
                "for pessimism take a reward such as reward=mean_disagreement"
            )
        return values.mean(0) - self.pessimism * values.std(0, unbiased=False)


class ReturnScore(nn.Module):
    """The discounted return of a plan, weighted with the probability that the episode reaches each row.

    G = sum_{h=1..H-1} w_h r_h + w_H V_H, where w_1 = 1 and w_{h+1} = w_h discount c_h. r_h is the sum of the reward
    function's terms on arrival at row h, so an ensemble's penalty makes planning pessimistic. c_h is the predicted
    continuation. V_H includes the reward on arrival: without a critic it is r_H alone. PlaNet has no discount and no
    critic (algorithm 2), TD-MPC both (section 3). With ``last_only`` the score is w_H V_H, as in DINO-WM: the way to a
    goal may lead through states that are farther from it.

    Args:
        reward: terms of the reward.
        discount: per step, 0 to 1.
        critic: values the last row; None: none does.
        terminal_value: of the critic's members.
        last_only: whether the rewards before the last row are left out.
    """

    def __init__(
        self,
        reward: RewardFunction,
        *,
        discount: float = 1.0,
        critic: Valued[Any] | None = None,
        terminal_value: TerminalValue | None = None,
        last_only: bool = False,
    ) -> None:
        super().__init__()
        self.last_only = last_only
        self.reward = reward
        self.discount = discount
        self.critic = critic
        self.terminal_value = TerminalValue() if terminal_value is None else terminal_value

    def forward(self, trajectory: ImaginedTrajectory[S], model: Dynamics[S]) -> Tensor:
        """[N]; row 0 of ``trajectory`` is the start, whose reward was received before."""
        rewards = torch.stack(list(self.reward(trajectory, model).values())).sum(0)[1:]  # [H, N]
        discounts = self.discount * model.continuation(trajectory)[1:-1]  # [H - 1, N]
        weights = torch.cat([torch.ones_like(rewards[:1]), discounts.cumprod(0)])  # [H, N]
        last = rewards[-1]
        if self.critic is not None:
            last = self.terminal_value(self.critic.values(trajectory, last))
        earlier = torch.zeros_like(last) if self.last_only else (weights[:-1] * rewards[:-1]).sum(0)
        return earlier + weights[-1] * last
