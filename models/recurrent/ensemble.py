"""Ensembles of predictors, whose members disagree where the data do not determine the next state."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, cast

import torch
from annotated_types import Ge
from torch import Tensor, nn

from dreamset.core.capabilities import MemberPredictions
from dreamset.core.records import Loss, Rollout, SequenceBatch
from dreamset.models.layers import side_by_side
from dreamset.models.recurrent.latents import Latent
from dreamset.models.recurrent.rssm import RSSM, RecurrentState, distributions

_BITS_32 = 0xFFFFFFFF


class Ensemble(nn.Module, ABC):
    """K networks of the same architecture, each trained on its own bootstrap sample of the rows.

    The rest of the world model receives no gradient from an ensemble, so a model starts and learns the same with an
    ensemble as without. A subclass is constructed from the RSSM, and says what its members predict.

    Args:
        new_member: constructs a member with new weights.
        members: K.
        share: fraction of the blocks that each member trains on; 1 - 1/e is the distinct share of a bootstrap sample.
        block: number of neighbouring rows that a member trains on together or not at all; such rows look alike.
    """

    def __init__(self, new_member: Callable[[], nn.Sequential], *, members: int, share: float, block: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):  # the ensemble must not change the initialisation of later networks
            self.members = nn.ModuleList(new_member() for _ in range(members))
        self.share = share
        self.block = block

    def forward(self, inputs: Tensor) -> Tensor:
        """The outputs of all members for the same inputs: [K, ..., O] from [..., I]."""
        members = cast("Iterable[nn.Sequential]", self.members)  # the type of a ModuleList's items is only nn.Module
        return side_by_side(members, inputs)

    @abstractmethod
    def loss(self, rollout: Rollout[RecurrentState], action: Tensor, batch: SequenceBatch) -> Loss:
        """The loss that trains the members, [B, T].

        Args:
            rollout: of the batch.
            action: [B, T, A] in [-1, 1] or one-hot; ``action[:, t]`` led to row t.
            batch: the recorded rows.
        """

    @abstractmethod
    def predictions(self, state: RecurrentState, action: Tensor) -> MemberPredictions:
        """The members' predictions of every row of a trajectory, [K, H + 1, ...].

        Args:
            state: of all rows, [H + 1, ...].
            action: [H, ..., A] in [-1, 1] or one-hot; ``action[h]`` leads to row h + 1.
        """

    def on_own_rows(self, loss: Tensor, row: Tensor) -> Tensor:
        """The mean over members of each member's loss on its own rows, divided by ``share``: [B, T].

        Args:
            loss: [K, B, T] of every member on every row.
            row: [B, T] numbers of the batch's rows in the dataset.
        """
        mask = bootstrap_mask(row // self.block, members=len(self.members), share=self.share)
        return (loss * mask).mean(0) / self.share


class PriorEnsemble(Ensemble):
    """K further priors p_k(z_t | h_t) with the main prior's architecture.

    Every member minimises KL(sg q(z_t) || p_k(z_t | sg h_t)) on its sample of the rows.

    In Offline DreamerV2 (Lu et al. 2023, section 4) the members are the only prior, and each update trains a random
    one. Here imagination uses the main prior, trained on all data, and the members only measure its uncertainty.

    Args:
        dynamics: the RSSM whose prior gives the members' architecture.
        members: see ``Ensemble``.
        share: see ``Ensemble``.
        block: see ``Ensemble``.
    """

    def __init__(
        self, dynamics: RSSM, *, members: Annotated[int, Ge(2)] = 7, share: float = 0.632, block: int = 50
    ) -> None:
        super().__init__(dynamics.new_prior, members=members, share=share, block=block)
        self.latent = dynamics.latent

    def loss(
        self,
        rollout: Rollout[RecurrentState],
        action: Tensor,  # noqa: ARG002 - h_t already contains the action
        batch: SequenceBatch,
    ) -> Loss:
        """Mean over members of KL(sg q || p_k) on each member's rows, divided by ``share``: [B, T]."""
        members = self(rollout.states.deterministic.detach())  # stop: the ensemble must not change the state
        posterior = distributions(rollout).posterior.detach()  # stop: the same
        return Loss(self.on_own_rows(self.latent.kl(posterior, members), batch.row))

    def predictions(
        self,
        state: RecurrentState,
        action: Tensor,  # noqa: ARG002 - h_t already contains the action
    ) -> "PriorPredictions":
        """Every member's prior of z in each row."""
        return PriorPredictions(self.latent, self(state.deterministic), state.stochastic)


def bootstrap_mask(block: Tensor, *, members: int, share: float) -> Tensor:
    """Whether each member trains on each block: [K, ...] bool from the blocks' numbers [...].

    The mask is a fixed function of block and member, so that it needs no list of the dataset's length. A member
    trains on a block if a 32-bit hash of both lies below ``share`` of its range.
    """
    member = torch.arange(members, device=block.device).view(-1, *(1 for _ in block.shape))
    mixed = _mixed(_mixed(block ^ (block >> 32)) + member)  # [K, ...]
    return mixed < share * (_BITS_32 + 1)


def _mixed(number: Tensor) -> Tensor:
    """A one-to-one map of 32-bit numbers in which every input bit affects every output bit."""
    number = number & _BITS_32
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        number = (
            (number ^ (number >> shift)) * factor
        ) & _BITS_32  # products wrap at 64 bits; the lowest 32 stay exact
    return number ^ (number >> 16)


@dataclass(frozen=True, slots=True)
class PriorPredictions:
    """The members' predictions of z, and the sampled z."""

    latent: Latent
    parameters: Tensor  # [K, ..., P]
    stochastic: Tensor  # [..., Z]

    def mean(self) -> Tensor:
        """E_k[z], [K, ..., Z]."""
        return self.latent.mean(self.parameters)

    def variance(self) -> Tensor:
        """Var_k[z] of every element, [K, ..., Z]."""
        return self.latent.variance(self.parameters)

    def log_prob(self) -> Tensor:
        """ln p_k(z), [K, ...]."""
        return self.latent.log_prob(self.parameters, self.stochastic)
