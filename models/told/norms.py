"""Norms of the latent state: what the encoder and the dynamics apply to their last layer."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dreamset.core.errors import UserError

LatentNorm = Callable[[int], nn.Module]  # the size of the latent -> a module [..., Z] to [..., Z]


class SimNorm(nn.Module):
    """A softmax within each group of ``group`` neighbouring elements (TD-MPC2, section 3.1).

    Every group is a point of a simplex: its elements are positive and sum up to one. The latent is thereby bounded and
    tends to be sparse, and the dynamics cannot let it grow over a long rollout.
    """

    def __init__(self, size: int, *, group: int = 8) -> None:
        super().__init__()
        if group < 1 or size % group:
            raise UserError(
                f"SimNorm: the latent has {size} elements and 'group' is {group}; allowed: a divisor of the size; "
                "change one of them"
            )
        self.group = group

    def forward(self, latent: Tensor) -> Tensor:
        """[..., Z] to the same shape."""
        return torch.softmax(latent.unflatten(-1, (-1, self.group)), dim=-1).flatten(-2)


def simplicial(size: int, *, group: int = 8) -> nn.Module:
    """Layer norm, then ``SimNorm``: the end of TD-MPC2's encoder and dynamics."""
    return nn.Sequential(nn.LayerNorm(size), SimNorm(size, group=group))


def unnormalized(size: int) -> nn.Module:  # noqa: ARG001 - the other norms need it
    """No norm: the latent of TD-MPC."""
    return nn.Identity()
