"""Actor and critic learned in imagination (Dreamer v1, section 3).

Rows of an imagined trajectory; ``V`` and both losses exist for rows 0 to H - 1, row H only bootstraps::

    row         0        1       ...     H - 1       H
    state      s_0  ->  s_1  ->  ...  -> s_{H-1} -> s_H
    action     a_0      a_1      ...     a_{H-1}
    reward     r_0      r_1      ...     r_{H-1}     on arrival
    value               v_1      ...     v_{H-1}    v_H
    return     V_0      V_1      ...     V_{H-1}
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dreamset.behaviors.returns import lambda_return
from dreamset.behaviors.rewards import RewardFunction
from dreamset.core.records import LatentState
from dreamset.core.spec import ActionSpec
from dreamset.models.distributions import Distribution, TanhNormal
from dreamset.models.world_model import WorldModel

Actor = Callable[[Tensor], TanhNormal]
Critic = Callable[[Tensor], Distribution]


@dataclass(frozen=True, slots=True)
class BehaviorLosses:
    """Scalars to minimise, and what a person wants to see beside them."""

    actor: Tensor
    critic: Tensor
    imagined_return: Tensor  # mean V_0
    imagined_reward: Tensor  # mean predicted reward per step
    action_std: Tensor  # mean std before the tanh


class ImaginationActorCritic(nn.Module):
    """Maximises lambda-returns of imagined trajectories by backpropagation through the dynamics.

    Actor: max E[sum_t w_t V_t], gradients through values, rewards and dynamics over all H steps (equation 7).
    Critic: min E[1/2 sum_t w_t (v(s_t) - sg V_t)^2] (equation 8). w_t is the product of the discounts before row t.
    The world model is never trained here: its parameters must not require gradients.
    """

    def __init__(
        self,
        features: int,
        action: ActionSpec,
        *,
        actor: Callable[[int, ActionSpec], Actor],
        critic: Callable[[int], Critic],
        horizon: int,
        discount: float,
        lambda_: float,
    ) -> None:
        super().__init__()
        self.actor = actor(features, action)
        self.critic = critic(features)
        self.action_size = action.size
        self.horizon = horizon
        self.discount = discount
        self.lambda_ = lambda_

    def losses(
        self, model: WorldModel, start: LatentState, reward: RewardFunction, generator: torch.Generator
    ) -> BehaviorLosses:
        """Imagines from every ``start`` state [N, ...] and returns both losses."""
        stds: list[Tensor] = []

        def policy(features: Tensor) -> Tensor:
            # stop: actions change the future through the dynamics, not by moving the state that the actor looks at
            distribution = self.actor(features.detach())
            noise = torch.randn(len(features), self.action_size, generator=generator, device=generator.device)
            stds.append(distribution.scale.detach().mean())
            return distribution.sample(noise)

        trajectory = model.imagine(start, policy, horizon=self.horizon, generator=generator)
        rewards = reward(trajectory)  # [H + 1, N]
        discounts = self.discount * model.continuation(trajectory.features)  # [H + 1, N]
        with frozen(self.critic):
            values = self.critic(trajectory.features[1:]).mean  # [H, N]
        returns = lambda_return(rewards[:-1], values, discounts[:-1], lambda_=self.lambda_)  # [H, N]
        weights = trajectory_weights(discounts)
        # stop: the critic regresses on fixed targets at fixed states
        prediction = self.critic(trajectory.features[:-1].detach())
        return BehaviorLosses(
            actor=-(weights * returns).mean(),
            critic=-(weights * prediction.log_prob(returns.detach())).mean(),
            imagined_return=returns[0].detach().mean(),
            imagined_reward=rewards.detach().mean(),
            action_std=torch.stack(stds).mean(),
        )


def trajectory_weights(discounts: Tensor) -> Tensor:
    """w_0 = 1, w_t = product of the discounts of the rows before t: [H, N] from [H + 1, N], without gradient."""
    return torch.cat([torch.ones_like(discounts[:1]), discounts[:-2]]).cumprod(dim=0).detach()


class frozen:  # noqa: N801 - reads as a statement: with frozen(network)
    """Within this block no gradient reaches the parameters of ``module``, though it still flows through it."""

    def __init__(self, module: object) -> None:
        assert isinstance(module, nn.Module)
        self.parameters = [p for p in module.parameters() if p.requires_grad]

    def __enter__(self) -> None:
        for parameter in self.parameters:
            parameter.requires_grad_(False)

    def __exit__(self, *_: object) -> None:
        for parameter in self.parameters:
            parameter.requires_grad_(True)
