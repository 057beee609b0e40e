"""What recorded windows teach: the rows that follow a row, and how groups of rows share a loss."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dreamset.behaviors.windows import mean_of_known, rows_left


@dataclass(frozen=True, slots=True)
class Futures:
    """For every row of a window, the next H rows. Those after the end of the episode repeat its last row."""

    rows: Tensor  # [B, T, H, Z]
    known: Tensor  # [B, T, H] bool: the row belongs to the same episode
    complete: Tensor  # [B, T] bool: all H rows are in the window, or the episode ends within them

    @classmethod
    def of(cls, latent: Tensor, is_first: Tensor, is_last: Tensor, horizon: int) -> "Futures":
        """The futures of latents [B, T, Z]; a row at which an episode ends has no future."""
        number = torch.arange(latent.shape[1], device=latent.device)
        stop = number + 1 + rows_left(is_first)  # [B, T] the first row of the next episode, or T
        wanted = number[:, None] + torch.arange(1, horizon + 1, device=latent.device)  # [T, H]
        known = wanted < stop[..., None]  # [B, T, H]
        index = torch.minimum(wanted, stop[..., None] - 1)
        rows = torch.gather(
            latent[:, :, None].expand(-1, -1, horizon, -1), 1, index[..., None].expand(-1, -1, -1, latent.shape[-1])
        )
        ends = is_last.gather(1, stop - 1)  # [B, T] whether the episode ends in the window
        return cls(rows, known, known.any(-1) & (known.all(-1) | ends))


def shared_mean(values: Tensor, chosen: Tensor, others: Tensor, *, share: float) -> Tensor:
    """share * mean over ``chosen`` + (1 - share) * mean over ``others``; the other mean alone if a group is empty.

    Args:
        values: [...].
        chosen: [...] bool.
        others: [...] bool, disjoint from ``chosen``.
        share: of ``chosen``.
    """
    means, weights = [], []
    for group, weight in ((chosen, share), (others, 1 - share)):
        means.append(mean_of_known(values, group))
        weights.append(weight * group.any().to(values.dtype))
    total = torch.stack(weights).sum()
    return (torch.stack(means) * torch.stack(weights)).sum() / total.clamp_min(torch.finfo(values.dtype).tiny)
