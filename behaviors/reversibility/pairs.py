"""Pairs of rows of one episode, from which the precedence estimator learns."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dreamset.behaviors.windows import rows_left


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of rows of the same episode: for every row t of a recorded batch, a later one."""

    earlier: Tensor  # [B, T, F] features of row t
    later: Tensor  # [B, T, F] of a row after it; arbitrary where ``known`` is false
    known: Tensor  # [B, T] bool: the episode has a row after row t


def draw_pairs(
    earlier: Tensor, later: Tensor, is_first: Tensor, generator: torch.Generator, *, window: int | None = None
) -> Pairs:
    """A later row for every row: 1 to ``window`` rows ahead with equal probability, never beyond the episode.

    Args:
        earlier: [B, T, F] features of all rows, for the earlier one of a pair.
        later: [B, T, F] features of the same rows, for the later one.
        is_first: [B, T] bool.
        generator: draws the distances.
        window: the largest distance; None: as far as the recorded rows go.
    """
    length = later.shape[1]
    row = torch.arange(length, device=later.device)
    reach = rows_left(is_first)
    if window is not None:
        reach = reach.clamp_max(window)
    uniform = torch.rand(reach.shape, generator=generator, device=generator.device)
    other = (row + 1 + (uniform * reach).long()).clamp_max(length - 1)  # [B, T]
    return Pairs(earlier, later.gather(1, other[..., None].expand_as(later)), reach > 0)
