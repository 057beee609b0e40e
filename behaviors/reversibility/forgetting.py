"""Features of recorded rows that do not tell how long an episode has lasted."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dreamset.core.capabilities import Representation
from dreamset.core.records import SequenceBatch


@torch.no_grad()
def forgetful_features(
    model: Representation[Any], batch: SequenceBatch, generator: torch.Generator, *, share: float
) -> Tensor:
    """The features of the rows, [B, T, F], with an empty memory before a random ``share`` of them.

    A recurrent state remembers, so it tells later rows from earlier ones although the world does not. Features of two
    calls have memories of unrelated ages.

    Args:
        model: the world model.
        batch: recorded rows.
        generator: draws the rows, and the states.
        share: 0 to 1.
    """
    forgets = torch.rand(batch.is_first.shape, generator=generator, device=generator.device) < share
    return model.observe(replace(batch, is_first=batch.is_first | forgets), generator).features
