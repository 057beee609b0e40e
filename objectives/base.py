"""The base class of representation objectives."""

from abc import ABC, abstractmethod
from typing import Any

from torch import nn

from dreamset.core.capabilities import Representation
from dreamset.core.errors import UserError
from dreamset.core.records import Loss, Rollout, SequenceBatch


class Objective(nn.Module, ABC):
    """A term that the world model's training adds to the reward, continuation and KL losses.

    Networks that only the objective needs are its sub-modules; they are trained and saved with it. The constructor's
    first argument is the world model. If the objective does not support the dataset of ``model.spec``, the
    constructor raises a ``UserError`` that names the fields.
    """

    uses_unacted: bool = False  # whether it can learn from episodes without actions: it reads observations only

    def view(self, batch: SequenceBatch) -> SequenceBatch:
        """The batch that the world model reads, for objectives that augment or mask; by default unchanged."""
        return batch

    @abstractmethod
    def forward(self, rollout: Rollout[Any], batch: SequenceBatch, model: Representation[Any]) -> dict[str, Loss]:
        """The losses to minimise by name, [B, T] each."""

    def after_update(self, model: Representation[Any]) -> None:
        """Called after every optimiser step, for target networks and schedules."""


def require_embedding(model: Representation[Any], objective: Objective) -> None:
    """Refuses a world model without an embedding of observations, which ``objective`` compares with states.

    Raises:
        UserError: if the embedding's size is 0.
    """
    if model.embedding_size == 0:
        raise UserError(
            f"the objective {type(objective).__name__} compares states with the embeddings of observations, but "
            f"{type(model).__name__} has none; choose another objective"
        )
