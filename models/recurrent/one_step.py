"""The one-step ensemble of Plan2Explore: predictors of the next row from a row and the action that follows it."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from dreamset.core.errors import UserError
from dreamset.core.records import Loss, Rollout, SequenceBatch
from dreamset.models.layers import RELU, Style, mlp
from dreamset.models.recurrent.ensemble import Ensemble
from dreamset.models.recurrent.rssm import RSSM, RecurrentState


class RowVector(ABC):
    """A vector that every row has: what the members read, or what they predict."""

    @abstractmethod
    def size(self, dynamics: RSSM) -> int:
        """Its length."""

    @abstractmethod
    def of(self, state: RecurrentState) -> Tensor:
        """The vectors of states, [..., size]."""

    def recorded(self, rollout: Rollout[RecurrentState]) -> Tensor:
        """The vectors of recorded rows, [B, T, size]."""
        return self.of(rollout.states)


class Features(RowVector):
    """The deterministic and the stochastic state."""

    def size(self, dynamics: RSSM) -> int:
        """F."""
        return dynamics.feature_size

    def of(self, state: RecurrentState) -> Tensor:
        """[..., F]."""
        return state.features


class Deterministic(RowVector):
    """The deterministic state h_t."""

    def size(self, dynamics: RSSM) -> int:
        """D."""
        return dynamics.cell.size

    def of(self, state: RecurrentState) -> Tensor:
        """[..., D]."""
        return state.deterministic


class Stochastic(RowVector):
    """The sample of the stochastic state z_t."""

    def size(self, dynamics: RSSM) -> int:
        """Z."""
        return dynamics.latent.size

    def of(self, state: RecurrentState) -> Tensor:
        """[..., Z]."""
        return state.stochastic


class Embedding(RowVector):
    """The encoder's output, which only recorded rows have."""

    def size(self, dynamics: RSSM) -> int:
        """E."""
        return dynamics.embedding_size

    def of(self, state: RecurrentState) -> Tensor:  # noqa: ARG002 - no state tells it
        """No imagined row has an embedding.

        Raises:
            UserError: always.
        """
        raise UserError(
            "the ensemble predicts embeddings, which imagined rows do not have, so no log-probability is known; select "
            "another reward, such as mean_disagreement, or world_model/ensemble/target=stochastic"
        )

    def recorded(self, rollout: Rollout[RecurrentState]) -> Tensor:
        """[B, T, E]."""
        return rollout.embedding


class OneStepEnsemble(Ensemble):
    """K predictors f_k(s_t, a) of the next row, as in Plan2Explore (Sekar et al. 2020, section 3).

    Member k minimises || f_k(sg x_t, a) - sg y_{t+1} ||^2 / 2 on its sample of the rows, where a is ``action[t + 1]``,
    which leads from row t to row t + 1. This is the log-likelihood of a Gaussian of unit variance, up to a constant.

    Targets are not normalised: their scale is a factor of every bonus, which ``reward/weight=tuned`` divides out. The
    published network reads the action once more after every hidden layer. Here it reads it once, as all other networks
    do, so that the members are plain networks in one batched product.

    Args:
        dynamics: the RSSM of the model.
        input: x, the vector of row t that the members read beside the action.
        target: y, the vector of row t + 1 that they predict.
        hidden: units of a hidden layer.
        layers: hidden layers.
        style: of the layers.
        members: K.
        share: see ``Ensemble``.
        block: see ``Ensemble``.

    Raises:
        UserError: if there are fewer than two members.
    """

    def __init__(
        self,
        dynamics: RSSM,
        *,
        input: RowVector,  # noqa: A002 - the members' input
        target: RowVector,
        hidden: int,
        layers: int = 2,
        style: Style = RELU,
        members: Annotated[int, Ge(2)] = 5,
        share: float = 0.632,
        block: int = 50,
    ) -> None:
        if members < 2:
            raise UserError(f"the ensemble has {members} members; a disagreement needs two members or more")
        inputs = input.size(dynamics) + dynamics.action_size
        new_member = partial(mlp, inputs, target.size(dynamics), hidden=hidden, layers=layers, style=style)
        super().__init__(new_member, members=members, share=share, block=block)
        self.input = input
        self.target = target

    def loss(self, rollout: Rollout[RecurrentState], action: Tensor, batch: SequenceBatch) -> Loss:
        """The squared errors of each member's own rows, [B, T]; zero in rows that follow no row of the same episode."""
        inputs, target = self.input.recorded(rollout).detach(), self.target.recorded(rollout).detach()
        predicted = self(torch.cat([inputs[:, :-1], action[:, 1:]], dim=-1))  # [K, B, T - 1, O]
        error = 0.5 * (predicted - target[:, 1:]).square().sum(-1) * ~batch.is_first[:, 1:]
        none = error.new_zeros(len(error), len(batch.row), 1)
        return Loss(self.on_own_rows(torch.cat([none, error], dim=2), batch.row))

    def predictions(self, state: RecurrentState, action: Tensor) -> "OneStepPredictions":
        """Every member's prediction of each row from the row before it; in row 0, where none is, all predict zero."""
        following = self(torch.cat([self.input.of(state)[:-1], action], dim=-1))  # [K, H, ..., O]
        first = torch.zeros_like(following[:, :1])
        return OneStepPredictions(torch.cat([first, following], dim=1), self.target, state)


@dataclass(frozen=True, slots=True)
class OneStepPredictions:
    """The members' predictions, as means of Gaussians with unit variance."""

    means: Tensor  # [K, H + 1, ..., O]
    target: RowVector
    state: RecurrentState  # [H + 1, ...], what the predictions are about

    def mean(self) -> Tensor:
        """[K, H + 1, ..., O]."""
        return self.means

    def variance(self) -> Tensor:
        """One everywhere, [K, H + 1, ..., O]."""
        return torch.ones_like(self.means)

    def log_prob(self) -> Tensor:
        """-|| y - m_k ||^2 / 2 - O ln(2 pi) / 2, [K, H + 1, ...].

        Raises:
            UserError: if the members predict embeddings.
        """
        error = self.target.of(self.state) - self.means
        return -0.5 * (error.square() + math.log(2 * math.pi)).sum(-1)
