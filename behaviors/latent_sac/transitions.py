"""Recorded transitions: what a Q-learner needs of a batch of rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dreamset.behaviors.base import Experience
from dreamset.core.errors import UserError


@dataclass(frozen=True, slots=True)
class Transitions:
    """The transitions from rows 0 to T - 2 of a batch, each to the next row."""

    features: Tensor  # [B, T, F] of all rows, without gradient
    action: Tensor  # [B, T - 1, A] in [-1, 1] or one-hot, taken in rows 0 to T - 2
    reward: Tensor  # [B, T - 1] on arrival in rows 1 to T - 1: the sum of all terms
    goes_on: Tensor  # [B, T - 1] bool: the row of arrival is no true end
    known: Tensor  # [B, T - 1] bool: the row of arrival belongs to the same episode

    @classmethod
    def of(cls, experience: Experience[Any], terms: Mapping[str, Tensor]) -> "Transitions":
        """The transitions of a batch.

        Args:
            experience: with outcomes.
            terms: of the reward on arrival in every row, [B, T] each; see ``RewardFunction.recorded``.

        Raises:
            UserError: if the windows have one row, and therefore no transition.
        """
        if experience.features.shape[1] < 2:
            raise UserError(
                "behavior_training.batch.length is 1, and Q-learning learns from transitions between rows; set 2 or "
                "more"
            )
        return cls(
            features=experience.features.detach(),  # stop: Q-learning must not change the features
            action=experience.action[:, 1:],
            reward=torch.stack(list(terms.values())).sum(0)[:, 1:],
            goes_on=experience.recorded_outcomes.goes_on[:, 1:],
            known=~experience.is_first[:, 1:],
        )

    @property
    def states(self) -> Tensor:
        """The features of the rows in which the actions were taken, [B, T - 1, F]."""
        return self.features[:, :-1]

    def mean(self, values: Tensor) -> Tensor:
        """The mean of [..., B, T - 1] over the known transitions, a scalar; zero if there are none.

        Leading axes, such as the members of an ensemble, are summed.
        """
        known = self.known.to(values.dtype)
        return (known * values).sum() / known.sum().clamp_min(1)
