"""Probes: what a trained state knows, measured the same way for every objective. They never train the model."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dreamset.core.records import LatentState, Rollout, SequenceBatch
from dreamset.models.recurrent.world_model import WorldModel


@dataclass(frozen=True, slots=True)
class LinearProbe:
    """A ridge regression from features to a known vector."""

    mean: Tensor  # [F]
    std: Tensor  # [F]
    weight: Tensor  # [F, O]
    bias: Tensor  # [O]

    @classmethod
    def fit(cls, features: Tensor, target: Tensor, *, ridge: float = 1.0) -> "LinearProbe":
        """Minimises |y - (x W + b)|^2 + ridge |W|^2 in float64, x standardised, from [M, F] to [M, O]."""
        x, y = features.double(), target.double()
        mean, std = x.mean(0), x.std(0).clamp_min(1e-6)
        x = (x - mean) / std
        bias = y.mean(0)
        gram = x.t() @ x + ridge * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        return cls(mean, std, torch.linalg.solve(gram, x.t() @ (y - bias)), bias)

    def __call__(self, features: Tensor) -> Tensor:
        """Predictions [M, O] in float64."""
        return ((features.double() - self.mean) / self.std) @ self.weight + self.bias


def r_squared(prediction: Tensor, target: Tensor) -> Tensor:
    """1 - residual / variance per element, [O] from [M, O]; elements that never vary count as nan."""
    target = target.double()
    variance = (target - target.mean(0)).square().sum(0)
    return 1 - (prediction - target).square().sum(0) / variance.where(variance > 0, torch.nan)


def open_loop_starts(length: int, *, context: int, horizon: int, starts: int) -> list[int]:
    """Rows, evenly spread, at which the model stops looking: ``context`` rows before, ``horizon`` rows after.

    Raises:
        ValueError: if the sequences are too short.
    """
    last = length - 1 - horizon
    first = context - 1
    if last < first:
        raise ValueError(f"open-loop prediction needs {context + horizon} rows, the sequences have {length}")
    return sorted({int(row) for row in torch.linspace(first, last, starts).round()})


def open_loop(
    model: WorldModel, rollout: Rollout, batch: SequenceBatch, *, start: int, horizon: int, generator: torch.Generator
) -> LatentState:
    """States of rows ``start + 1`` to ``start + horizon`` [B, horizon, ...] under the recorded actions, unseen."""
    begin = rollout.posterior.map(lambda value: value[:, start])
    return model.predict(begin, batch.action[:, start + 1 : start + 1 + horizon], generator)
