"""A dream beside reality, row by row: decoded observations, their error, rewards and the model's uncertainty."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamset.behaviors.rewards.spreads import MeanDisagreement
from dreamset.core.capabilities import Dynamics, RewardModel, Uncertain
from dreamset.core.errors import UserError
from dreamset.core.records import ImaginedTrajectory
from dreamset.core.spec import GOAL_PREFIX, DataSpec
from dreamset.core.states import map_state
from dreamset.pipeline.evaluation.dreaming import Reality, Rows
from dreamset.pipeline.progress import progress

Decode = Callable[[Tensor], Mapping[str, Tensor]]  # features [..., F] -> observations [..., *shape], images in [0, 1]

CHUNK = 32  # rows that are decoded at once, so that memory does not grow with the horizon
SHARE = 0.5  # of the error of a constant: a dream above it has left reality
ENSEMBLE, SPREAD = "disagreement of the ensemble", "spread of the dreams"


@dataclass(frozen=True, slots=True)
class Dream:
    """T rows of a dream beside R rows of reality, R <= T. The model observes the first ``context`` rows of both."""

    context: int
    truth: Mapping[str, Rows]  # name -> [R, ...]; images in [0, 1], vectors in their own units
    prediction: Mapping[str, Rows]  # name -> [T, ...] of the first of several dreams, decoded
    band: Mapping[str, tuple[Rows, Rows]]  # name of a vector -> its least and its largest values in all dreams, [T, O]
    error: Mapping[str, Rows]  # name -> [R] mean square; that of a vector in standard deviations of the dataset
    threshold: float  # SHARE of the error that the mean of the truth makes
    reward: Rows  # [R]; that of row 0 was not received
    predicted_reward: Rows | None  # [T]; None if the model predicts no rewards
    uncertainty: Rows | None  # [T]; None if the model has no ensemble and there is only one dream
    measure: str  # what the uncertainty is
    goal: Mapping[str, Rows] = field(default_factory=dict)  # name -> [...], what would be observed at the goal

    @property
    def rows(self) -> int:
        """T."""
        return len(next(iter(self.prediction.values())))

    @property
    def mean_error(self) -> Rows:
        """[R], the mean over the observations."""
        error: Rows = np.mean(list(self.error.values()), axis=0)
        return error

    @property
    def leaves(self) -> int | None:
        """The first row after the context whose error is above the threshold; None if there is none."""
        above = np.flatnonzero(self.mean_error[self.context :] > self.threshold)
        return self.context + int(above[0]) if len(above) else None

    def phase(self, row: int) -> str:
        """What the model does in a row."""
        return "observing" if row < self.context else f"open loop +{row - self.context + 1}"

    def table(self) -> list[dict[str, Any]]:
        """One entry per row, for a csv; what is not known is NaN."""
        several = {f"error.{name}": values for name, values in self.error.items()} if len(self.error) > 1 else {}
        columns = {
            "error": self.mean_error,
            **several,
            "reward": self.reward,
            "predicted_reward": self.predicted_reward,
            "uncertainty": self.uncertainty,
        }
        return [
            {"step": row, "phase": "observing" if row < self.context else "open_loop"}
            | {
                name: float(values[row]) if row < len(values) else np.nan
                for name, values in columns.items()
                if values is not None
            }
            for row in range(self.rows)
        ]


@torch.no_grad()
def compare(
    model: Dynamics[Any], decode: Decode, trajectory: ImaginedTrajectory[Any], reality: Reality, *, context: int
) -> Dream:
    """The decoded dream beside reality.

    Args:
        model: the world model.
        decode: of its features.
        trajectory: [T, S, ...], from ``dream_on``.
        reality: its first rows are those that the model observed; later rows may be missing.
        context: number of observed rows.

    Raises:
        UserError: if the data have only patch features.
    """
    spec = model.spec
    if all(array.is_patches for array in spec.observations.values()):
        raise UserError(
            f"the world model's data have only the patch features {sorted(spec.observations)}, of which nothing can be "
            "drawn; keep the images beside them in dataset.transforms, and train again"
        )
    decoded = _decoded(decode, trajectory.features, spec)
    truth = {
        name: _presentable(values, image=spec.observations[name].is_image)
        for name, values in reality.observations.items()
        if name in spec.observations
    }
    units = {name: _unit(spec, name) for name in truth}
    count = len(reality.reward)
    errors = {
        name: _mean_square((decoded.first[name][:count] - values) / units[name]) for name, values in truth.items()
    }
    constant = [_mean_square((values - values.mean(0)) / units[name]).mean() for name, values in truth.items()]
    uncertainty, measure = _uncertainty(model, trajectory, decoded.spread)
    reward = model.reward(trajectory)[:, 0].float().cpu().numpy() if isinstance(model, RewardModel) else None
    return Dream(
        context=context,
        truth=_drawable(truth, spec),
        prediction=_drawable(decoded.first, spec),
        band=decoded.band,
        error=errors,
        threshold=SHARE * float(np.mean(constant)),
        reward=reality.reward,
        predicted_reward=reward,
        uncertainty=uncertainty,
        measure=measure,
        goal={
            name: _presentable(reality.observations[GOAL_PREFIX + name][0], image=array.is_image)
            for name, array in spec.observations.items()
            if GOAL_PREFIX + name in reality.observations
        },
    )


def _drawable(columns: Mapping[str, Rows], spec: DataSpec) -> dict[str, Rows]:
    """Images and vectors; patch features have an error, but nothing that could be seen."""
    return {name: rows for name, rows in columns.items() if not spec.observations[name].is_patches}


@dataclass(frozen=True, slots=True)
class _Decoded:
    """The first dream, and what several dreams differ in."""

    first: Mapping[str, Rows]  # name -> [T, ...]
    band: Mapping[str, tuple[Rows, Rows]]  # of vectors
    spread: Rows | None  # [T] standard deviation over the dreams, the mean over elements and names; None for one dream


def _decoded(decode: Decode, features: Tensor, spec: DataSpec) -> _Decoded:
    """Decodes [T, S, F] a few rows at a time."""
    first: dict[str, list[Rows]] = {name: [] for name in spec.observations}
    bounds: dict[str, list[tuple[Rows, Rows]]] = {
        name: [] for name, array in spec.observations.items() if not (array.is_image or array.is_patches)
    }
    spreads: list[Rows] = []
    chunks = features.split(CHUNK)
    for chunk in progress(chunks, description="decode the dream", total=len(chunks), delay=2, unit="part"):
        values = {name: value.float().cpu().numpy() for name, value in decode(chunk).items()}  # [C, S, ...]
        for name in first:
            first[name].append(values[name][:, 0].copy())
        for name, pairs in bounds.items():
            pairs.append((values[name].min(1), values[name].max(1)))
        spreads.append(np.mean([_deviation(values[name] / _unit(spec, name)) for name in first], axis=0))
    return _Decoded(
        {name: np.concatenate(rows) for name, rows in first.items()},
        {
            name: (np.concatenate([low for low, _ in pairs]), np.concatenate([high for _, high in pairs]))
            for name, pairs in bounds.items()
        },
        np.concatenate(spreads) if features.shape[1] > 1 else None,
    )


def _deviation(values: Rows) -> Rows:
    """The standard deviation over the dreams [C, S, ...], the mean over all elements: [C]."""
    deviation: Rows = values.std(1).reshape(len(values), -1).mean(1)
    return deviation


def _mean_square(values: Rows) -> Rows:
    """[R] from [R, ...]."""
    square: Rows = np.square(values).reshape(len(values), -1).mean(1)
    return square


def _presentable(values: NDArray[Any], *, image: bool) -> Rows:
    return values.astype(np.float32) / np.float32(255 if image else 1)


def _unit(spec: DataSpec, name: str) -> Rows:
    """What errors of an observation are divided by: one for images, the standard deviations for vectors."""
    return np.array(1 if spec.observations[name].is_image else spec.statistics[name].std, np.float32)


def _uncertainty(model: object, trajectory: ImaginedTrajectory[Any], spread: Rows | None) -> tuple[Rows | None, str]:
    """The disagreement of the model's ensemble about the first dream, or the spread of all dreams."""
    if isinstance(model, Uncertain):
        first = ImaginedTrajectory(
            [map_state(lambda value: value[:1], row) for row in trajectory.rows],
            trajectory.features[:, :1],
            trajectory.action[:, :1],
        )
        try:
            return MeanDisagreement()(model.members(first))[:, 0].float().cpu().numpy(), ENSEMBLE
        except UserError:  # it was trained without an ensemble
            pass
    return spread, SPREAD
