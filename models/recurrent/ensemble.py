"""An ensemble of priors: where its members disagree, the data do not say what happens next."""

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
    """K further priors p_k(z_t | h_t), built as the dynamics' own and each trained on data of its own.

    Every member minimises KL(sg q(z_t) || p_k(z_t | sg h_t)) on its bootstrap sample of the rows; nothing else of the
    world model feels it, so a model starts and learns the same with an ensemble as without.

    Offline DreamerV2 (Lu et al. 2023, section 4) lets the members be the only prior and trains a random one per update.
    Here imagination follows the prior that saw all data, and the members only judge where it led.

    Args:
        dynamics: whose prior the members resemble.
        members: K.
        share: of the blocks of rows that each member sees; 1 - 1/e, as many different ones as in a bootstrap sample.
        block: neighbouring rows that a member sees all or none of; about as many as look alike.
    """

    def __init__(self, dynamics: RSSM, *, members: int = 7, share: float = 0.632, block: int = 50) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):  # what is built afterwards starts as it would without an ensemble
            self.members = nn.ModuleList(dynamics.new_prior() for _ in range(members))
        self.share = share
        self.block = block

    def forward(self, deterministic: Tensor) -> Tensor:
        """Parameters of every member's prediction: [K, ..., P] from [..., D]."""
        members = cast("Iterable[nn.Sequential]", self.members)  # a ModuleList only knows that they are modules
        return side_by_side(members, deterministic)

    def loss(self, latent: Latent, state: RecurrentState, posterior: Tensor, row: Tensor) -> Loss:
        """Mean over members of KL(sg q || p_k) on the rows that each sees, relative to their share: [B, T].

        Args:
            latent: the family of z.
            state: [B, T, ...] of the batch's rows.
            posterior: [B, T, P] parameters of q.
            row: [B, T] numbers of the batch's rows in the dataset.
        """
        members = self(state.deterministic.detach())  # stop: the ensemble watches the state, as it is
        kl = latent.kl(posterior.detach(), members)  # [K, B, T]; stop: the same
        seen = bootstrap_mask(row // self.block, members=len(self.members), share=self.share)
        return Loss((kl * seen).mean(0) / self.share)


def bootstrap_mask(block: Tensor, *, members: int, share: float) -> Tensor:
    """Which members see which blocks: [K, ...] bool from the blocks' numbers [...].

    A fixed function of block and member, so that no list of the dataset's length is needed: a hash of both, evenly
    spread over 32 bits, lies below ``share`` of its range.
    """
    member = torch.arange(members, device=block.device).view(-1, *(1 for _ in block.shape))
    mixed = _mixed(_mixed(block ^ (block >> 32)) + member)  # [K, ...]
    return mixed < share * (_BITS_32 + 1)


def _mixed(number: Tensor) -> Tensor:
    """A one-to-one map of 32-bit numbers in which every bit of the input moves every bit of the output."""
    number = number & _BITS_32
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        number = ((number ^ (number >> shift)) * factor) & _BITS_32  # products wrap at 64 bits, the lowest 32 are right
    return number ^ (number >> 16)


@dataclass(frozen=True, slots=True)
class PriorPredictions:
    """What the members predict of z, and the z that was drawn."""

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
