"""The actor-critic that learns in imagination (Dreamer v1, section 3; v2, section 2.3; v3, "Actor learning").

Rows of an imagined trajectory; ``V`` and both losses exist for rows 0 to H - 1, row H only gives the bootstrap value::

    row         0        1       ...     H - 1       H
    state      s_0  ->  s_1  ->  ...  -> s_{H-1} -> s_H
    action     a_0      a_1      ...     a_{H-1}
    reward     r_0      r_1      ...     r_{H-1}     on arrival
    value               v_1      ...     v_{H-1}    v_H
    return     V_0      V_1      ...     V_{H-1}
    baseline   v_0      v_1      ...     v_{H-1}     of V_t, including the reward on arrival

The critic can also learn on the recorded rows; each of them is row 0 of an imagined trajectory.
"""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dreamset.behaviors.action_distributions import Actor
from dreamset.behaviors.actor_critic.actor_loss import ActorLoss
from dreamset.behaviors.actor_critic.critics import Critic, NoSlowCritic, SlowCritic
from dreamset.behaviors.actor_critic.gradients import Decisions
from dreamset.behaviors.actor_critic.returns import lambda_return, replayed_return
from dreamset.behaviors.base import ActorLearner, Experience, LearnerLosses, RewardFunction
from dreamset.behaviors.cloning import cloning_loss, require_cloneable
from dreamset.behaviors.windows import mean_of_known
from dreamset.core.capabilities import Dynamics, S
from dreamset.core.parameters import frozen_parameters
from dreamset.core.records import ImaginedTrajectory
from dreamset.core.spec import ActionSpec
from dreamset.models.imagination import imagine


@dataclass(frozen=True, slots=True)
class BehaviorLosses:
    """Scalars to minimise, and figures to report."""

    actor: Tensor
    critic: Tensor
    imagined_return: Tensor  # mean V_0
    imagined_terms: Mapping[str, Tensor]  # mean per step of each term of the reward
    action_entropy: Tensor  # mean -ln pi of the imagined actions, in nats
    return_scale: Tensor  # the normaliser's scale


@dataclass(frozen=True, slots=True)
class Imagined:
    """Imagined trajectories and their returns."""

    features: Tensor  # [H + 1, N, F]
    draws: Tensor  # [H, N, A] the actor's samples before they are clipped to the bounds
    surprise: Tensor  # mean -ln pi of the samples
    terms: Mapping[str, Tensor]  # [H + 1, N] terms of the reward
    discount: Tensor  # [H + 1, N] discount times continuation
    returns: Tensor  # [H, N] V_t


class ImaginationActorCritic(ActorLearner):
    """Maximises lambda-returns of imagined trajectories.

    Actor: see ``ActorLoss``; with a ``cloning_weight`` the cloning loss also keeps it near the recorded actions.
    Critic: max E[sum_t w_t ln p(sg V_t | s_t)], which for a unit normal is the squared error of Dreamer v1's
    equation 8. w_t is the product of the discounts before row t.
    With a ``replay_critic_weight`` the critic also maximises E[ln p(sg R_t | s_t)] times this weight over the recorded
    rows. R_t is the ``replayed_return`` of the reward function's terms in these rows (``RewardFunction.recorded``), in
    which the recorded reward replaces the predicted one.
    The world model is not trained here: its parameters must not require gradients.
    """

    needs: ClassVar[tuple[type, ...]] = (Dynamics,)
    headline: ClassVar[str] = "imagination/reward"

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
        actor_loss: ActorLoss | None = None,
        slow_critic: Callable[[Critic], SlowCritic] = NoSlowCritic,
        cloning_weight: float = 0.0,
        replay_critic_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.actor = actor(features, action)
        self.critic = critic(features)
        self.horizon = horizon
        self.discount = discount
        self.lambda_ = lambda_
        self.actor_loss = ActorLoss() if actor_loss is None else actor_loss
        self.slow_critic = slow_critic(self.critic)
        self.cloning_weight = cloning_weight
        self.replay_critic_weight = replay_critic_weight
        if cloning_weight:
            require_cloneable(action)

    def needed(self, reward: RewardFunction) -> tuple[type, ...]:
        """``Dynamics`` and the capabilities that the reward needs."""
        return (*self.needs, *reward.needs)

    def networks(self) -> Mapping[str, nn.Module]:
        """Actor and critic; no optimiser trains the slow critic."""
        assert isinstance(self.actor, nn.Module)
        assert isinstance(self.critic, nn.Module)
        return {"actor": self.actor, "critic": self.critic}

    def losses_on(
        self, experience: Experience[S], model: Dynamics[S], reward: RewardFunction, generator: torch.Generator
    ) -> LearnerLosses:
        """The losses of trajectories imagined from every state of ``experience``."""
        imagined = self._imagine(model, experience.starts, reward, generator)
        losses = self._losses(imagined)
        actor, critic, figures = losses.actor, losses.critic, {}
        if self.cloning_weight:
            cloning = cloning_loss(self.actor, experience.demonstrations)
            actor = actor + self.cloning_weight * cloning
            figures["cloning/log_prob"] = -cloning.detach()
        if self.replay_critic_weight:
            with torch.no_grad():
                terms = reward.recorded(experience, model)
            replay = self._replay_critic_loss(experience, imagined, terms)
            critic = critic + self.replay_critic_weight * replay
            figures["replay/critic_loss"] = replay.detach()
        figures |= {f"imagination/{name}": mean for name, mean in losses.imagined_terms.items()}
        figures |= {
            "imagination/lambda_return": losses.imagined_return,
            "imagination/action_entropy": losses.action_entropy,
            "imagination/return_scale": losses.return_scale,
        }
        return LearnerLosses({"actor": actor, "critic": critic}, figures)

    def losses(
        self, model: Dynamics[S], start: S, reward: RewardFunction, generator: torch.Generator
    ) -> BehaviorLosses:
        """The actor's and critic's losses of trajectories imagined from every ``start`` state [N, ...], no others."""
        return self._losses(self._imagine(model, start, reward, generator))

    def _losses(self, imagined: Imagined) -> BehaviorLosses:
        weights = trajectory_weights(imagined.discount)
        states = imagined.features[:-1].detach()  # stop: the critic's loss must not change the states
        prediction = self.critic(states)
        log_likelihood = self.slow_critic.log_likelihood(prediction, imagined.returns.detach(), states)
        baseline = self.slow_critic.baseline(prediction, states)
        decisions = Decisions(self.actor, states, imagined.draws)
        return BehaviorLosses(
            actor=self.actor_loss(imagined.returns, baseline, weights, decisions),
            critic=-(weights * log_likelihood).mean(),
            imagined_return=imagined.returns[0].detach().mean(),
            imagined_terms={name: term.detach().mean() for name, term in imagined.terms.items()},
            action_entropy=imagined.surprise,
            return_scale=self.actor_loss.normalizer.scale.detach().clone(),
        )

    def _replay_critic_loss(
        self, experience: Experience[Any], imagined: Imagined, terms: Mapping[str, Tensor]
    ) -> Tensor:
        """The mean of -ln p(sg R_t | s_t) over the recorded rows whose outcome is known.

        Args:
            experience: [B, T] rows.
            imagined: trajectories from each of these rows.
            terms: of the reward in these rows, [B, T] each.
        """
        outcomes = experience.recorded_outcomes
        shape = outcomes.reward.shape  # [B, T]
        rewards = torch.stack(list(terms.values())).sum(0)  # [B, T]
        returns = replayed_return(
            rewards.t(),
            imagined.returns[0].reshape(shape).t(),
            self.discount * outcomes.goes_on.to(rewards.dtype).t(),
            outcomes.known.t(),
            lambda_=self.lambda_,
        ).t()
        states = experience.features.detach()  # stop: as in imagination, the loss must not change the states
        log_likelihood = self.slow_critic.log_likelihood(self.critic(states), returns.detach(), states)  # [B, T]
        return -mean_of_known(log_likelihood, outcomes.known)

    def values(self, trajectory: ImaginedTrajectory[Any], reward: Tensor) -> Tensor:  # noqa: ARG002
        """v(s_H), [1, N], which includes the reward on arrival; see ``core.capabilities.Valued``."""
        return self.critic(trajectory.features[-1]).mean[None]

    def after_update(self) -> None:
        """Updates the slow critic."""
        self.slow_critic.update(self.critic)

    def _imagine(self, model: Dynamics[S], start: S, reward: RewardFunction, generator: torch.Generator) -> Imagined:
        # an estimator without a gradient through the dynamics needs no graph of the imagined trajectory
        with nullcontext() if self.actor_loss.gradient.through_dynamics else torch.no_grad():
            return self._roll_out(model, start, reward, generator)

    def _roll_out(self, model: Dynamics[S], start: S, reward: RewardFunction, generator: torch.Generator) -> Imagined:
        draws: list[Tensor] = []
        surprises: list[Tensor] = []

        def policy(features: Tensor) -> Tensor:
            # stop: the gradient of an action must pass through the dynamics, not through the actor's input
            distribution = self.actor(features.detach())
            draw = distribution.sample(distribution.noise(generator))
            draws.append(draw)
            with torch.no_grad():
                surprises.append(-distribution.log_prob(draw).mean())
            action: Tensor = draw.clamp(-1, 1)
            return action

        trajectory = imagine(model, start, policy, horizon=self.horizon, generator=generator)
        terms = reward(trajectory, model)
        rewards = torch.stack(list(terms.values())).sum(0)  # [H + 1, N]
        discounts = self.discount * model.continuation(trajectory)
        target = self.slow_critic.target(self.critic)
        with frozen_parameters(target):
            values = target(trajectory.features[1:]).mean  # [H, N]
        return Imagined(
            features=trajectory.features,
            draws=torch.stack(draws),
            surprise=torch.stack(surprises).mean(),
            terms=terms,
            discount=discounts,
            returns=lambda_return(rewards[:-1], values, discounts[:-1], lambda_=self.lambda_),
        )


def trajectory_weights(discounts: Tensor) -> Tensor:
    """w_0 = 1, w_t = product of the discounts of all rows before t: [H, N] from [H + 1, N], without gradient."""
    return torch.cat([torch.ones_like(discounts[:1]), discounts[:-2]]).cumprod(dim=0).detach()
