"""What a behaviour learner is, what it learns from, and what rewards it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic

import torch
from torch import Tensor, nn

from dreamset.behaviors.controller import ActorController
from dreamset.behaviors.exploration import Exploration, mode
from dreamset.core.capabilities import Controller, FeaturePolicy, Representation, S
from dreamset.core.records import ImaginedTrajectory, SequenceBatch
from dreamset.core.states import map_state


@dataclass(frozen=True, slots=True)
class Demonstrations:
    """Recorded actions, each beside the state in which it was taken."""

    features: Tensor  # [B, T - 1, F] of rows 0 to T - 2
    action: Tensor  # [B, T - 1, A] in [-1, 1] or one-hot, taken there: the actions of rows 1 to T - 1
    known: Tensor  # [B, T - 1] bool: the next row belongs to the same episode


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What came of the recorded actions."""

    reward: Tensor  # [B, T] on arrival
    goes_on: Tensor  # [B, T] bool: the episode did not truly end here
    known: Tensor  # [B, T] bool: row t + 1 goes on from row t, or the episode truly ended at row t

    @classmethod
    def of(cls, batch: SequenceBatch) -> "Outcomes":
        """Those of the batch. What follows a window's last row is not known, nor what follows a time limit."""
        followed = torch.zeros_like(batch.is_first)
        followed[:, :-1] = ~batch.is_first[:, 1:]
        return cls(batch.reward, ~batch.is_terminal, followed | batch.is_terminal)


@dataclass(frozen=True)
class Experience(Generic[S]):
    """A recorded batch as a frozen world model sees it, aligned by the time rule."""

    states: S  # [B, T, ...] after each row's observation
    features: Tensor  # [B, T, F] of the states
    action: Tensor  # [B, T, A] in [-1, 1] or one-hot; action[:, t] led to row t
    is_first: Tensor  # [B, T] bool
    outcomes: Outcomes | None = None  # None where only actions are of interest

    @classmethod
    def of(cls, model: Representation[S], batch: SequenceBatch, generator: torch.Generator) -> "Experience[S]":
        """What ``model`` makes of the batch."""
        with torch.no_grad():
            rollout = model.observe(batch, generator)
        action = model.spec.action.normalize(batch.action)
        return cls(rollout.states, rollout.features, action, batch.is_first, Outcomes.of(batch))

    @property
    def starts(self) -> S:
        """Every state, as a start of imagination: [B * T, ...]."""
        return map_state(lambda value: value.flatten(0, 1), self.states)

    @property
    def demonstrations(self) -> Demonstrations:
        """action[t] was taken in the state of row t - 1, unless row t begins an episode."""
        return Demonstrations(self.features[:, :-1], self.action[:, 1:], ~self.is_first[:, 1:])


@dataclass(frozen=True, slots=True)
class LearnerLosses:
    """Scalars to minimise, one for each network by name, and what a person wants to see."""

    losses: Mapping[str, Tensor]
    figures: Mapping[str, Tensor]


class RewardFunction(nn.Module, ABC):
    """What a learner maximises on an imagined trajectory. What it remembers is in its ``state_dict``.

    It may have networks of its own, such as a novelty head or a success classifier. They are trained beside the
    learner's, on the same recorded batches, and saved with the policy.
    """

    needs: ClassVar[tuple[type, ...]] = ()  # capabilities of the world model

    @abstractmethod
    def forward(self, trajectory: ImaginedTrajectory[Any], model: Any) -> Mapping[str, Tensor]:
        """Terms on arrival at every row, [H + 1, N] each, by name; their sum is maximised."""

    def networks(self) -> Mapping[str, nn.Module]:
        """What is trained, each by the optimiser of its name; none unless it has networks of its own."""
        return {}

    def losses_on(
        self,
        experience: Experience[Any],  # noqa: ARG002
        model: Any,  # noqa: ARG002
        generator: torch.Generator,  # noqa: ARG002
    ) -> LearnerLosses:
        """The losses of its networks on a recorded batch, one for each."""
        return LearnerLosses({}, {})


class Learner(nn.Module, ABC):
    """Turns a world model and recorded experience into a way of acting.

    A subclass is built with the number of features and the ``ActionSpec`` as its first arguments and must say at once,
    by a ``UserError``, if it cannot serve such actions. Everything that it remembers is in its ``state_dict``.
    """

    needs: ClassVar[tuple[type, ...]] = (Representation,)  # capabilities of the world model, for acting and learning
    headline: ClassVar[str]  # the figure that stands for the others beside a progress bar

    @abstractmethod
    def networks(self) -> Mapping[str, nn.Module]:
        """What is trained, each by the optimiser of its name; empty where nothing needs to be learned."""

    def needed(self, reward: RewardFunction) -> tuple[type, ...]:  # noqa: ARG002 - only some ask it
        """Capabilities that the world model must have for learning with ``reward``."""
        return self.needs

    @abstractmethod
    def losses_on(
        self, experience: Experience[Any], model: Any, reward: RewardFunction, generator: torch.Generator
    ) -> LearnerLosses:
        """The losses of one update.

        Args:
            experience: a recorded batch; starts of imagination, demonstrations, outcomes.
            model: frozen, with the capabilities of ``needs``; its parameters must not require gradients.
            reward: what is maximised in imagination.
            generator: source of every random number.
        """

    @abstractmethod
    def controller(self, model: Any, *, exploration: Exploration = mode) -> Controller[Any]:
        """How to act with what was learned, in the states of ``model``."""

    def imagination_policy(self) -> FeaturePolicy | None:
        """What it would do in an imagined state, without exploration; None if that takes more than features."""
        return None

    def after_update(self) -> None:
        """Called after every update of all networks, for slow copies and schedules."""


class ActorLearner(Learner):
    """A learner whose result is an actor on features."""

    actor: Any  # an ``Actor`` that is a module

    def controller(self, model: Representation[S], *, exploration: Exploration = mode) -> Controller[Any]:
        """Filters the observations with ``model`` and asks the actor."""
        return ActorController(model, self.actor, exploration=exploration)

    def imagination_policy(self) -> FeaturePolicy:
        """The actor's mode."""
        return lambda features: self.actor(features).mode
