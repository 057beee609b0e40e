"""How the posterior and the prior are pulled together."""

import torch
from torch import Tensor

from dreamset.core.records import Loss
from dreamset.models.latents import Latent


class FreeNatsKL:
    """beta * max(mean KL(posterior || prior), free nats): Dreamer v1, appendix A.

    The threshold acts on the mean over the batch: below it the term is a constant without gradient.
    """

    def __init__(self, *, weight: float = 1.0, free_nats: float = 3.0) -> None:
        self.weight = weight
        self.free_nats = free_nats

    def __call__(self, latent: Latent, posterior: Tensor, prior: Tensor) -> dict[str, Loss]:
        """The loss from parameters [B, T, P] each."""
        kl = latent.kl(posterior, prior)  # [B, T]
        free = torch.full_like(kl, self.free_nats)
        return {"kl": Loss(torch.where(kl.mean() > self.free_nats, kl, free), self.weight)}
