"""What a behaviour learner is, and what it learns from."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from dreamset.behaviors.action_distributions import Actor
from dreamset.behaviors.rewards.functions import RewardFunction
from dreamset.core.records import LatentState, SequenceBatch
from dreamset.models.recurrent.world_model import WorldModel


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


@dataclass(frozen=True, slots=True)
class Experience:
    """A recorded batch as a frozen world model sees it, aligned by the time rule."""

    states: LatentState  # [B, T, ...] posterior
    action: Tensor  # [B, T, A] in [-1, 1] or one-hot; action[:, t] led to row t
    is_first: Tensor  # [B, T] bool
    outcomes: Outcomes | None = None  # None where only actions are of interest

    @classmethod
    def of(cls, model: WorldModel, batch: SequenceBatch, generator: torch.Generator) -> "Experience":
        """What ``model`` makes of the batch."""
        with torch.no_grad():
            states = model.observe(batch, generator).posterior
        return cls(states, model.spec.action.normalize(batch.action), batch.is_first, Outcomes.of(batch))

    @property
    def starts(self) -> LatentState:
        """Every state, as a start of imagination: [B * T, ...]."""
        return self.states.map(lambda value: value.flatten(0, 1))

    @property
    def demonstrations(self) -> Demonstrations:
        """action[t] was taken in the state of row t - 1, unless row t begins an episode."""
        return Demonstrations(self.states.features[:, :-1], self.action[:, 1:], ~self.is_first[:, 1:])


@dataclass(frozen=True, slots=True)
class LearnerLosses:
    """Scalars to minimise, one for each network of ``Learner.networks``, and what a person wants to see."""

    losses: Mapping[str, Tensor]
    figures: Mapping[str, Tensor]


class Learner(nn.Module, ABC):
    """Turns a world model and recorded experience into an actor.

    A subclass is built with the number of features and the ``ActionSpec`` as its first arguments and must say at once,
    by a ``UserError``, if it cannot serve such actions. Everything that it remembers is in its ``state_dict``.
    """

    actor: Actor
    headline: ClassVar[str]  # the figure that stands for the others beside a progress bar

    @abstractmethod
    def networks(self) -> Mapping[str, nn.Module]:
        """What is trained, each by an optimiser of its own: ``actor`` and perhaps ``critic``."""

    @abstractmethod
    def losses_on(
        self, experience: Experience, model: WorldModel, reward: RewardFunction, generator: torch.Generator
    ) -> LearnerLosses:
        """The losses of one update.

        Args:
            experience: a recorded batch; starts of imagination, demonstrations, outcomes.
            model: frozen; its parameters must not require gradients.
            reward: what is maximised in imagination.
            generator: source of every random number.
        """

    def after_update(self) -> None:
        """Called after every update of all networks, for slow copies and schedules."""
