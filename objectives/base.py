"""What a representation objective is."""

from abc import ABC, abstractmethod
from typing import Any

from torch import nn

from dreamset.core.capabilities import Representation
from dreamset.core.records import Loss, Rollout, SequenceBatch


class Objective(nn.Module, ABC):
    """One term that the world model's training adds to reward, continuation and KL.

    Networks that only the objective needs are its own sub-modules: they are trained and saved with it. A subclass is
    built with the world model as its first argument and must say at once, by a ``UserError`` that names the
    fields, if it cannot serve the dataset described by ``model.spec``.
    """

    def view(self, batch: SequenceBatch) -> SequenceBatch:
        """What the world model sees of the batch, for objectives that augment or mask; the batch itself by default."""
        return batch

    @abstractmethod
    def forward(self, rollout: Rollout[Any], batch: SequenceBatch, model: Representation[Any]) -> dict[str, Loss]:
        """The objective's losses by name, each [B, T] and to be minimised."""

    def after_update(self, model: Representation[Any]) -> None:
        """Called after every optimiser step, for target networks and schedules."""
