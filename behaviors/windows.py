"""Rows of recorded windows that may cross episodes: how many follow in the same episode, and means over known rows."""

import torch
from torch import Tensor


def rows_left(is_first: Tensor) -> Tensor:
    """The number of rows of the same episode after each row, [B, T] of whole numbers."""
    length = is_first.shape[1]
    row = torch.arange(length, device=is_first.device)
    starts = torch.where(is_first, row, length)
    from_here = starts.flip(1).cummin(1).values.flip(1)  # the first episode that begins in this row or later
    following = torch.cat([from_here[:, 1:], torch.full_like(from_here[:, :1], length)], dim=1)
    return following - 1 - row


def mean_of_known(values: Tensor, known: Tensor) -> Tensor:
    """The mean of the values [...] where ``known`` [...] is true; zero if it is true nowhere."""
    weights = known.to(values.dtype)
    return (weights * values).sum() / weights.sum().clamp_min(1)
