"""KL losses between the posterior and the prior."""

from typing import Protocol

import torch
from torch import Tensor

from dreamset.core.records import Loss
from dreamset.models.recurrent.latents import Latent


class Divergence(Protocol):
    """Computes losses from the posterior q and the prior p."""

    def __call__(self, latent: Latent, posterior: Tensor, prior: Tensor) -> dict[str, Loss]:
        """The losses by name, [B, T] each; the parameters are [B, T, P] each."""


class FreeNatsKL:
    """beta * max(mean KL(posterior || prior), free nats): Dreamer v1, appendix A.

    The threshold applies to the batch mean: below it the loss is a constant without gradient.
    """

    def __init__(self, *, weight: float = 1.0, free_nats: float = 3.0) -> None:
        self.weight = weight
        self.free_nats = free_nats

    def __call__(self, latent: Latent, posterior: Tensor, prior: Tensor) -> dict[str, Loss]:
        """The loss ``kl``; the parameters are [B, T, P] each."""
        return {"kl": Loss(_free_on_average(latent.kl(posterior, prior), self.free_nats), self.weight)}


class BalancedKL:
    """beta * (alpha KL(sg q || p) + (1 - alpha) KL(q || sg p)): Dreamer v2, section 2.2, "KL balancing".

    The value is KL(q || p). The prior receives alpha of the gradient and the posterior 1 - alpha, so that the prior is
    pulled towards the posterior faster than the reverse. ``free_nats`` apply to the batch mean as in Dreamer v1.
    """

    def __init__(self, *, alpha: float = 0.8, weight: float = 1.0, free_nats: float = 0.0) -> None:
        self.alpha = alpha
        self.weight = weight
        self.free_nats = free_nats

    def __call__(self, latent: Latent, posterior: Tensor, prior: Tensor) -> dict[str, Loss]:
        """The loss ``kl``; the parameters are [B, T, P] each."""
        towards_posterior = latent.kl(posterior.detach(), prior)  # stop: only the prior moves
        towards_prior = latent.kl(posterior, prior.detach())  # stop: only the posterior moves
        kl = self.alpha * towards_posterior + (1 - self.alpha) * towards_prior
        return {"kl": Loss(_free_on_average(kl, self.free_nats), self.weight)}


class DynRepKL:
    """beta_dyn max(free, KL(sg q || p)) + beta_rep max(free, KL(q || sg p)): Dreamer v3, "World model learning".

    The free bits apply to each step: a step below them has no gradient. (The paper's 1 free bit is 1 nat, as it
    says.)
    """

    def __init__(self, *, dyn: float = 1.0, rep: float = 0.1, free_bits: float = 1.0) -> None:
        self.dyn = dyn
        self.rep = rep
        self.free_bits = free_bits

    def __call__(self, latent: Latent, posterior: Tensor, prior: Tensor) -> dict[str, Loss]:
        """The dynamics loss trains the prior, the representation loss the posterior; parameters are [B, T, P] each."""
        dynamics = latent.kl(posterior.detach(), prior)  # stop: only the prior moves
        representation = latent.kl(posterior, prior.detach())  # stop: only the posterior moves
        return {
            "dynamics": Loss(dynamics.clamp_min(self.free_bits), self.dyn),
            "representation": Loss(representation.clamp_min(self.free_bits), self.rep),
        }


def _free_on_average(kl: Tensor, free_nats: float) -> Tensor:
    """``kl`` unchanged if its mean exceeds ``free_nats``; otherwise that constant, without gradient."""
    return torch.where(kl.mean() > free_nats, kl, torch.full_like(kl, free_nats))
