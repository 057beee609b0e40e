"""KL losses between the posterior and the prior."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dreamset.core.records import Loss
from dreamset.models.recurrent.latents import Latent


def no_further_priors() -> Iterable[tuple[Tensor, Tensor]]:
    """For divergences that compare only one step of the prior."""
    return ()


@dataclass(frozen=True, slots=True)
class Compared:
    """What a divergence compares in every row: the posterior q and the prior p after one or more steps."""

    latent: Latent
    posterior: Tensor  # [B, T, P]
    prior: Tensor  # [B, T, P] after one step
    further: Callable[[], Iterable[tuple[Tensor, Tensor]]] = no_further_priors  # see ``RSSM.further_priors``


class Divergence(Protocol):
    """Computes losses from the posterior q and the prior p."""

    distance: int  # D, the most steps of the prior that it compares

    def __call__(self, compared: Compared) -> dict[str, Loss]:
        """The losses by name, [B, T] each."""


class FreeNatsKL:
    """beta * max(mean KL(posterior || prior), free nats): Dreamer v1, appendix A.

    The threshold applies to the batch mean: below it the loss is a constant without gradient. With ``per_row`` it
    applies to each row instead, as in PlaNet's published code.
    """

    distance = 1

    def __init__(self, *, weight: float = 1.0, free_nats: float = 3.0, per_row: bool = False) -> None:
        self.weight = weight
        self.free_nats = free_nats
        self.limited = _free_per_row if per_row else _free_on_average

    def __call__(self, compared: Compared) -> dict[str, Loss]:
        """The loss ``kl``."""
        kl = compared.latent.kl(compared.posterior, compared.prior)
        return {"kl": Loss(self.limited(kl, self.free_nats), self.weight)}


class OvershootingKL:
    """Latent overshooting: the KL to the prior after d = 1 ... D steps (PlaNet, Hafner et al. 2019, equation 7).

    beta / D * sum_d beta_d mean KL(sg_{d>1} q_t || p^d_t) with beta_1 = 1 and ``further_weight`` for every d > 1. The
    prior p^d_t starts at the posterior's sample of row t - d and takes d steps under the recorded actions. The mean is
    over the rows whose start is in the window and in the same episode; free nats apply to each distance as to the
    first. Distance 1 is exactly ``FreeNatsKL``.

    The loss is in two parts: ``kl`` for d = 1 and ``overshooting`` for the sum over d > 1. Only the target q_t is
    stopped. The sample at the start is not, as in the published code, which averages over all pairs of row and distance
    instead.

    Args:
        weight: beta.
        free_nats: see ``FreeNatsKL``.
        per_row: see ``FreeNatsKL``.
        distance: D; distances that exceed the window have no rows.
        further_weight: beta_d for d > 1.
    """

    def __init__(
        self,
        *,
        weight: float = 1.0,
        free_nats: float = 3.0,
        per_row: bool = False,
        distance: int,
        further_weight: float = 1.0,
    ) -> None:
        self.first = FreeNatsKL(weight=weight / distance, free_nats=free_nats, per_row=per_row)
        self.distance = distance
        self.further_weight = further_weight

    def __call__(self, compared: Compared) -> dict[str, Loss]:
        """The losses ``kl`` and ``overshooting``."""
        total = torch.zeros_like(compared.posterior[..., 0])
        for prior, valid in compared.further():
            kl = compared.latent.kl(compared.posterior.detach(), prior)  # stop: only the prior moves
            share = valid * (valid.numel() / valid.sum().clamp_min(1))  # makes a mean over all rows one over valid rows
            total = total + self.first.limited(kl, self.first.free_nats, share)
        overshooting = Loss(total, self.first.weight * self.further_weight)
        return self.first(compared) | {"overshooting": overshooting}


class BalancedKL:
    """beta * (alpha KL(sg q || p) + (1 - alpha) KL(q || sg p)): Dreamer v2, section 2.2, "KL balancing".

    The value is KL(q || p). The prior receives alpha of the gradient and the posterior 1 - alpha, so that the prior is
    pulled towards the posterior faster than the reverse. ``free_nats`` apply to the batch mean as in Dreamer v1.
    """

    distance = 1

    def __init__(self, *, alpha: float = 0.8, weight: float = 1.0, free_nats: float = 0.0) -> None:
        self.alpha = alpha
        self.weight = weight
        self.free_nats = free_nats

    def __call__(self, compared: Compared) -> dict[str, Loss]:
        """The loss ``kl``."""
        latent, posterior, prior = compared.latent, compared.posterior, compared.prior
        towards_posterior = latent.kl(posterior.detach(), prior)  # stop: only the prior moves
        towards_prior = latent.kl(posterior, prior.detach())  # stop: only the posterior moves
        kl = self.alpha * towards_posterior + (1 - self.alpha) * towards_prior
        return {"kl": Loss(_free_on_average(kl, self.free_nats), self.weight)}


class DynRepKL:
    """beta_dyn max(free, KL(sg q || p)) + beta_rep max(free, KL(q || sg p)): Dreamer v3, "World model learning".

    The free bits apply to each step: a step below them has no gradient. (The paper's 1 free bit is 1 nat, as it
    says.)
    """

    distance = 1

    def __init__(self, *, dyn: float = 1.0, rep: float = 0.1, free_bits: float = 1.0) -> None:
        self.dyn = dyn
        self.rep = rep
        self.free_bits = free_bits

    def __call__(self, compared: Compared) -> dict[str, Loss]:
        """The dynamics loss trains the prior, the representation loss the posterior."""
        latent, posterior, prior = compared.latent, compared.posterior, compared.prior
        dynamics = latent.kl(posterior.detach(), prior)  # stop: only the prior moves
        representation = latent.kl(posterior, prior.detach())  # stop: only the posterior moves
        return {
            "dynamics": Loss(dynamics.clamp_min(self.free_bits), self.dyn),
            "representation": Loss(representation.clamp_min(self.free_bits), self.rep),
        }


def _free_on_average(kl: Tensor, free_nats: float, share: Tensor | float = 1.0) -> Tensor:
    """``kl`` * ``share`` if its mean exceeds ``free_nats``; otherwise that constant, without gradient."""
    kl = kl * share
    return torch.where(kl.mean() > free_nats, kl, torch.full_like(kl, free_nats))


def _free_per_row(kl: Tensor, free_nats: float, share: Tensor | float = 1.0) -> Tensor:
    """Each row's ``kl``, at least ``free_nats``, times its ``share``: below the threshold a row has no gradient."""
    return kl.clamp_min(free_nats) * share
