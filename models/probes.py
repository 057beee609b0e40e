"""Probes measure what a trained state encodes, in the same way for every objective. They never train the model."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dreamset.core.capabilities import Dynamics, Representation, S
from dreamset.core.records import ImaginedTrajectory, Rollout, SequenceBatch
from dreamset.core.states import map_state
from dreamset.models.imagination import predict


@dataclass(frozen=True, slots=True)
class LinearProbe:
    """A ridge regression from features to a ground-truth vector."""

    mean: Tensor  # [F]
    std: Tensor  # [F]
    weight: Tensor  # [F, O]
    bias: Tensor  # [O]

    @classmethod
    def fit(cls, features: Tensor, target: Tensor, *, ridge: float = 1.0) -> "LinearProbe":
        """Minimises |y - (x W + b)|^2 + ridge |W|^2 in float64, x standardised, from [M, F] to [M, O].

        The smaller of two systems is solved: (X'X + ridge) W = X'y, or with more features than rows the equal
        W = X' (XX' + ridge)^-1 y.
        """
        x, y = features.double(), target.double()
        mean, std = x.mean(0), x.std(0).clamp_min(1e-6)
        x = (x - mean) / std
        bias = y.mean(0)
        few_rows = x.shape[0] < x.shape[1]
        gram = x @ x.t() if few_rows else x.t() @ x
        gram = gram + ridge * torch.eye(len(gram), dtype=x.dtype, device=x.device)
        if few_rows:
            return cls(mean, std, x.t() @ torch.linalg.solve(gram, y - bias), bias)
        return cls(mean, std, torch.linalg.solve(gram, x.t() @ (y - bias)), bias)

    def __call__(self, features: Tensor) -> Tensor:
        """Predictions [M, O] in float64."""
        return ((features.double() - self.mean) / self.std) @ self.weight + self.bias


def r_squared(prediction: Tensor, target: Tensor) -> Tensor:
    """1 - residual / variance per element, [O] from [M, O]; constant elements give nan."""
    target = target.double()
    variance = (target - target.mean(0)).square().sum(0)
    return 1 - (prediction - target).square().sum(0) / variance.where(variance > 0, torch.nan)


def correlation(prediction: Tensor, target: Tensor) -> Tensor:
    """Pearson's correlation per element, [O] from [M, O]; constant elements give nan."""
    x, y = (values.double() - values.double().mean(0) for values in (prediction, target))
    scale = (x.square().sum(0) * y.square().sum(0)).sqrt()
    return (x * y).sum(0) / scale.where(scale > 0, torch.nan)


def open_loop_starts(length: int, *, context: int, horizon: int, starts: int) -> list[int]:
    """Evenly spaced rows at which open-loop prediction starts, after ``context`` rows and with ``horizon`` rows left.

    Raises:
        ValueError: if the sequences are too short.
    """
    last = length - 1 - horizon
    first = context - 1
    if last < first:
        raise ValueError(f"open-loop prediction needs {context + horizon} rows, the sequences have {length}")
    return sorted({int(row) for row in torch.linspace(first, last, starts).round()})


def open_loop(
    model: Dynamics[S],
    rollout: Rollout[S],
    batch: SequenceBatch,
    *,
    start: int,
    horizon: int,
    generator: torch.Generator,
) -> ImaginedTrajectory[S]:
    """Open-loop prediction under the recorded actions: rows ``start`` to ``start + horizon``."""
    state = map_state(lambda value: value[:, start], rollout.states)
    action = model.spec.action.normalize(batch.action[:, start + 1 : start + 1 + horizon])
    return predict(model, state, action, generator)


def recorded_trajectory(model: Representation[S], rollout: Rollout[S], batch: SequenceBatch) -> ImaginedTrajectory[S]:
    """The states of recorded rows and the actions between them, in the form that a ``RewardModel`` reads."""
    return ImaginedTrajectory.recorded(rollout.states, rollout.features, model.spec.action.normalize(batch.action))
