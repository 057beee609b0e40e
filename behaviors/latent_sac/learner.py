"""Soft actor-critic on the features of recorded rows: a behaviour without imagination.

By the time rule, the action of row t + 1 was taken in row t, and the reward of row t + 1 follows it::

    row          t            t + 1
    features    f_t           f_{t+1}
    action                    a_t         taken in f_t
    reward                    r_{t+1}     on arrival

Q(f_t, a_t) is the return after the action, so it does not include r_t.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dreamset.behaviors.action_distributions import Actor
from dreamset.behaviors.base import ActorLearner, Experience, LearnerLosses, RewardFunction
from dreamset.behaviors.cloning import cloning_loss
from dreamset.behaviors.latent_sac.choices import Choices, kind_of
from dreamset.behaviors.latent_sac.critics import CriticsFactory
from dreamset.behaviors.latent_sac.targets import retrace, traces
from dreamset.behaviors.latent_sac.temperature import Temperature
from dreamset.behaviors.latent_sac.transitions import Transitions
from dreamset.core.capabilities import Representation
from dreamset.core.errors import UserError
from dreamset.core.parameters import frozen_parameters
from dreamset.core.records import ImaginedTrajectory
from dreamset.core.spec import ActionSpec
from dreamset.models.told.critics import TargetCopy


class LatentSAC(ActorLearner):
    """Soft actor-critic (Haarnoja et al. 2018b) on features of recorded rows, from which no gradient flows back.

    Critics: 1/2 (Q_i(f_t, a_t) - y_t)^2, summed over i, with the soft value of slow copies Q' of the critics in
    y_t = r_{t+1} + gamma c_{t+1} V(f_{t+1}) and V(f) = E_pi[min_i Q'_i(f, a) - alpha ln pi(a | f)]. c is 0 at a true
    end, and 1 at a time limit and at the end of a window. Actor: max E_pi[min_i Q_i(f, a) - alpha ln pi(a | f)].

    With a ``behavior_policy`` mu, a clone of the policy that recorded the data, ``lambda_`` above 0 gives targets over
    several steps, see ``retrace``. ``conservative_weight`` times
    ln sum_a exp Q_i(f_t, a) - Q_i(f_t, a_t) lowers the critics where no action was recorded (CQL(H), Kumar et al.
    2020). ``cloning_weight`` times the cloning loss keeps the actor near the recorded actions.

    Args:
        features: F.
        action: discrete, or continuous with bounds.
        actor: a tanh-normal policy, or a one-hot one.
        critic: the Q networks, see ``critics_for``.
        temperature: of the entropy bonus.
        discount: gamma.
        tau: share by which the slow critics move towards the critics per update.
        lambda_: of Retrace; 0: one-step targets.
        behavior_policy: mu, for Retrace; None: there is none.
        conservative_weight: of the conservative loss.
        conservative_samples: uniform actions for its integral, and as many of the policy; discrete ones are summed.
        cloning_weight: of the cloning loss.
    """

    needs: ClassVar[tuple[type, ...]] = (Representation,)
    headline: ClassVar[str] = "replay/q_policy"

    def __init__(
        self,
        features: int,
        action: ActionSpec,
        *,
        actor: Callable[[int, ActionSpec], Actor],
        critic: CriticsFactory,
        temperature: Callable[[ActionSpec], Temperature],
        discount: float,
        tau: float = 0.005,
        lambda_: float = 0.0,
        behavior_policy: Callable[[int, ActionSpec], Actor] | None = None,
        conservative_weight: float = 0.0,
        conservative_samples: int = 10,
        cloning_weight: float = 0.0,
    ) -> None:
        super().__init__()
        if lambda_ and behavior_policy is None:
            raise UserError(
                f"behavior.lambda_ is {lambda_}, but behavior.behavior_policy is null, and Retrace needs it; take "
                "behavior=latent_sac_retrace, or set behavior.lambda_=0"
            )
        self.kind = kind_of(action)
        self.actor = actor(features, action)
        self.critic = critic(features, action)
        self.slow_critic = TargetCopy(self.critic, rate=tau)
        self.temperature = temperature(action)
        self.behavior_policy = None if behavior_policy is None else behavior_policy(features, action)
        self.discount = discount
        self.lambda_ = lambda_
        self.conservative_weight = conservative_weight
        self.conservative_samples = conservative_samples
        self.cloning_weight = cloning_weight
        for name, policy in (("actor", self.actor), ("behavior_policy", self.behavior_policy)):
            if policy is not None:
                self.kind.require(policy(torch.zeros(1, features)), f"behavior.{name}")

    def networks(self) -> Mapping[str, nn.Module]:
        """Actor, critic, temperature and, with Retrace, the behaviour policy; no optimiser trains the slow critic."""
        assert isinstance(self.actor, nn.Module)
        networks = {"actor": self.actor, "critic": self.critic, "temperature": self.temperature}
        if self.behavior_policy is not None:
            assert isinstance(self.behavior_policy, nn.Module)
            networks["behavior_policy"] = self.behavior_policy
        return networks

    def needed(self, reward: RewardFunction) -> tuple[type, ...]:
        """``Representation`` and the capabilities that the reward needs on recorded rows."""
        return (*self.needs, *reward.recorded_needs)

    def losses_on(
        self, experience: Experience[Any], model: Any, reward: RewardFunction, generator: torch.Generator
    ) -> LearnerLosses:
        """The losses on the recorded rows; see ``Learner``."""
        with torch.no_grad():
            terms = reward.recorded(experience, model)
        moves = Transitions.of(experience, terms)
        choices = self.kind.choices(self.actor(moves.features), generator)  # [B, T, C]
        entropy = choices.entropy().mean()
        losses, figures = self._policy_losses(experience, moves, choices)
        target, of_target = self._target(moves, choices)
        losses["critic"], of_critic = self._critic_loss(moves, target, generator)
        losses["temperature"] = self.temperature.loss(entropy)
        figures |= of_target | of_critic
        figures |= {f"replay/{name}": moves.mean(term[:, 1:]) for name, term in terms.items()}
        figures |= {"replay/entropy": entropy.detach(), "replay/temperature": self.temperature()}
        return LearnerLosses(losses, figures)

    def _policy_losses(
        self, experience: Experience[Any], moves: Transitions, choices: Choices
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """-E_pi[min_i Q_i - alpha ln pi] in all rows, and the cloning losses; gradients reach only the policies."""
        with frozen_parameters(self.critic):
            value = choices.mean(self.critic(moves.features, choices.action).amin(0))  # [B, T]
        losses = {"actor": -(value + self.temperature() * choices.entropy()).mean()}
        figures = {"replay/q_policy": value.detach().mean()}
        demonstrations = replace(
            experience.demonstrations, features=moves.states, action=self.kind.interior(moves.action)
        )
        if self.cloning_weight:
            cloning = cloning_loss(self.actor, demonstrations)
            losses["actor"] = losses["actor"] + self.cloning_weight * cloning
            figures["cloning/log_prob"] = -cloning.detach()
        if self.behavior_policy is not None:
            losses["behavior_policy"] = cloning_loss(self.behavior_policy, demonstrations)
        return losses, figures

    @torch.no_grad()
    def _target(self, moves: Transitions, choices: Choices) -> tuple[Tensor, dict[str, Tensor]]:
        """y_t, [B, T - 1], and figures."""
        lowest = self.slow_critic(moves.features, choices.action).amin(0)  # [B, T, C]
        value = (choices.mean(lowest) + self.temperature() * choices.entropy())[:, 1:]
        discount = self.discount * moves.goes_on.to(value.dtype)
        if self.behavior_policy is None:
            return moves.reward + discount * value, {}
        interior = self.kind.interior(moves.action)
        own, recorded = (policy(moves.states).log_prob(interior) for policy in (self.actor, self.behavior_policy))
        trace = traces(own, recorded, moves.known, lambda_=self.lambda_)
        taken = self.slow_critic(moves.states, moves.action[..., None, :]).amin(0).squeeze(-1)
        return retrace(moves.reward, discount, value, taken, trace), {"replay/trace": moves.mean(trace)}

    def _critic_loss(
        self, moves: Transitions, target: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The critics' loss over the known transitions, and figures; the gradient reaches only the critics."""
        values = self.critic(moves.states, moves.action[..., None, :]).squeeze(-1)  # [K, B, T - 1]
        errors = values - target
        loss = moves.mean(0.5 * errors.square())
        figures = {
            "replay/q_data": moves.mean(values.detach().mean(0)),
            "replay/td_error": moves.mean(errors.detach().abs().mean(0)),
        }
        if self.conservative_weight:
            proposals = self.kind.proposals(self.actor(moves.states), self.conservative_samples, generator)
            everywhere = proposals.log_sum_exp(self.critic(moves.states, proposals.action))  # [K, B, T - 1]
            gap = moves.mean(everywhere - values)
            loss = loss + self.conservative_weight * gap
            figures["replay/conservative_gap"] = gap.detach() / len(values)
        return loss, figures

    def values(self, trajectory: ImaginedTrajectory[Any], reward: Tensor) -> Tensor:
        """r_H + gamma Q_k(f_H, pi(f_H)) of all critics, [K, N]; pi is the policy's mode. See ``Valued``.

        Q does not include the reward on arrival, which is therefore added.
        """
        last = trajectory.features[-1]
        following: Tensor = self.critic(last, self.actor(last).mode[..., None, :]).squeeze(-1)
        return reward + self.discount * following

    def after_update(self) -> None:
        """Moves the slow critics towards the critics."""
        self.slow_critic.update(self.critic)
