"""An ensemble of priors, whose members disagree where the data do not determine the next state."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from dreamset.core.records import Loss
from dreamset.models.layers import side_by_side
from dreamset.models.recurrent.latents import Latent
from dreamset.models.recurrent.rssm import RSSM, RecurrentState

_BITS_32 = 0xFFFFFFFF


class PriorEnsemble(nn.Module):
    """K further priors p_k(z_t | h_t) with the main prior's architecture, each trained on its own bootstrap sample.

    Every member minimises KL(sg q(z_t) || p_k(z_t | sg h_t)) on its sample of the rows. The rest of the world model
    receives no gradient from it, so a model starts and learns the same with an ensemble as without.

    In Offline DreamerV2 (Lu et al. 2023, section 4) the members are the only prior, and each update trains a random
    one. Here imagination uses the main prior, trained on all data, and the members only measure its uncertainty.

    Args:
        dynamics: the RSSM whose prior gives the members' architecture.
        members: K.
        share: fraction of the blocks that each member trains on; 1 - 1/e, the distinct share of a bootstrap sample.
        block: number of neighbouring rows that a member trains on together or not at all; such rows look alike.
    """

    def __init__(self, dynamics: RSSM, *, members: int = 7, share: float = 0.632, block: int = 50) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):  # the ensemble must not change the initialisation of later networks
            self.members = nn.ModuleList(dynamics.new_prior() for _ in range(members))
        self.share = share
        self.block = block

    def forward(self, deterministic: Tensor) -> Tensor:
        """The parameters of each member's prior: [K, ..., P] from [..., D]."""
        members = cast("Iterable[nn.Sequential]", self.members)  # the type of a ModuleList's items is only nn.Module
        return side_by_side(members, deterministic)

    def loss(self, latent: Latent, state: RecurrentState, posterior: Tensor, row: Tensor) -> Loss:
        """Mean over members of KL(sg q || p_k) on each member's rows, divided by ``share``: [B, T].

        Args:
            latent: the family of z.
            state: the states of the batch's rows, [B, T, ...].
            posterior: [B, T, P] parameters of q.
            row: [B, T] numbers of the batch's rows in the dataset.
        """
        members = self(state.deterministic.detach())  # stop: the ensemble must not change the state
        kl = latent.kl(posterior.detach(), members)  # [K, B, T]; stop: the same
        mask = bootstrap_mask(row // self.block, members=len(self.members), share=self.share)
        return Loss((kl * mask).mean(0) / self.share)


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
