"""Dreams: what a world model predicts after its last observation, row by row beside what really happened."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamset.behaviors.controller import Agent
from dreamset.behaviors.rewards.spreads import MeanDisagreement
from dreamset.core.capabilities import Controller, Dynamics, FeaturePolicy, RewardModel, Uncertain
from dreamset.core.errors import UserError
from dreamset.core.records import ImaginedTrajectory, SequenceBatch
from dreamset.core.spec import DataSpec
from dreamset.core.states import map_state
from dreamset.environments.wrappers import Environment
from dreamset.models.imagination import imagine
from dreamset.models.probes import recorded_trajectory

Decode = Callable[[Tensor], Mapping[str, Tensor]]  # features [..., F] -> observations [..., *shape], images in [0, 1]
Rows = NDArray[np.float32]

CHUNK = 32  # rows that are decoded at once, so that memory does not grow with the horizon
SHARE = 0.5  # of the error of a constant: a dream above it has left reality
ENSEMBLE, SPREAD = "disagreement of the ensemble", "spread of the dreams"


@dataclass(frozen=True, slots=True)
class Reality:
    """Rows that happened, aligned by the time rule."""

    observations: Mapping[str, NDArray[Any]]  # name -> [R, ...]
    action: Rows  # [R, A] in the environment's units, led to the observation of its row; row 0 is zero
    reward: Rows  # [R] on arrival

    def first(self, rows: int) -> "Reality":
        """The first rows."""
        return Reality(
            {name: values[:rows] for name, values in self.observations.items()}, self.action[:rows], self.reward[:rows]
        )

    def batch(self, spec: DataSpec, device: torch.device) -> SequenceBatch:
        """All rows as one window, [1, R, ...], with the observations that a model reads."""
        first = torch.arange(len(self.reward), device=device)[None] == 0
        never = torch.zeros_like(first)
        return SequenceBatch(
            observations={name: _tensor(self.observations[name], device)[None] for name in spec.observations},
            action=_tensor(self.action, device)[None],
            reward=_tensor(self.reward, device)[None],
            is_first=first,
            is_last=never,
            is_terminal=never,
            privileged={},
            row=torch.arange(len(self.reward), device=device)[None],
        )


def _tensor(values: NDArray[Any], device: torch.device) -> Tensor:
    kept = values if values.dtype == np.uint8 else values.astype(np.float32)
    return torch.as_tensor(np.array(kept), device=device)


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

    @property
    def rows(self) -> int:
        """T."""
        return len(next(iter(self.prediction.values())))

    @property
    def mean_error(self) -> Rows:
        """[R], the mean over the observations."""
        return np.mean(list(self.error.values()), axis=0, dtype=np.float32)

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


def recorded_actions(model: Dynamics[Any], reality: Reality, *, context: int, device: torch.device) -> FeaturePolicy:
    """A policy that takes the actions after the context, whatever the state: the same in every dream."""
    action = model.spec.action.normalize(_tensor(reality.action[context:], device))
    rows = iter(action)
    return lambda features: next(rows).expand(len(features), -1)


def of_first(policy: FeaturePolicy) -> FeaturePolicy:
    """A policy that takes in all dreams the action that ``policy`` chooses in the first one."""
    return lambda features: policy(features[:1]).expand(len(features), -1)


@torch.no_grad()
def dream_on(
    model: Dynamics[Any],
    observed: SequenceBatch,
    policy: FeaturePolicy,
    *,
    horizon: int,
    samples: int,
    generator: torch.Generator,
) -> ImaginedTrajectory[Any]:
    """Observes a window [1, context, ...], then imagines ``horizon`` rows: [context + horizon, samples, ...].

    Every sample draws its own states, those of the observed rows included.
    """
    several = observed.map(lambda value: value.expand(samples, *value.shape[1:]))
    seen = recorded_trajectory(model, model.observe(several, generator), several)
    ahead = imagine(model, seen.rows[-1], policy, horizon=horizon, generator=generator)
    return ImaginedTrajectory(
        [*seen.rows, *ahead.rows[1:]],
        torch.cat([seen.features, ahead.features[1:]]),
        torch.cat([seen.action, ahead.action]),
    )


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
    """
    spec = model.spec
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
        truth=truth,
        prediction=decoded.first,
        band=decoded.band,
        error=errors,
        threshold=SHARE * float(np.mean(constant)),
        reward=reality.reward,
        predicted_reward=reward,
        uncertainty=uncertainty,
        measure=measure,
    )


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
        name: [] for name, array in spec.observations.items() if not array.is_image
    }
    spreads: list[Rows] = []
    for chunk in features.split(CHUNK):
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
    return values.std(1).reshape(len(values), -1).mean(1)


def _mean_square(values: Rows) -> Rows:
    """[R] from [R, ...]."""
    return np.square(values).reshape(len(values), -1).mean(1)


def _presentable(values: NDArray[Any], *, image: bool) -> Rows:
    return values.astype(np.float32) / (255 if image else 1)


def _unit(spec: DataSpec, name: str) -> Rows:
    """What errors of an observation are divided by: one for images, the standard deviations for vectors."""
    return np.ones((), np.float32) if spec.observations[name].is_image else np.float32(spec.statistics[name].std)


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


class _Play:
    """One episode of an environment, row by row."""

    def __init__(self, environment: Environment, seed: int, spec: DataSpec) -> None:
        self.environment, self.spec, self.over = environment, spec, False
        observation, _ = environment.reset(seed=seed)
        self.rows = [observation]
        self.actions = [np.zeros(spec.action.size, np.float32)]
        self.rewards = [0.0]

    def step(self, action: Rows) -> None:
        observation, reward, terminated, truncated, _ = self.environment.step(action)
        self.rows.append(observation)
        self.actions.append(action)
        self.rewards.append(float(reward))
        self.over = terminated or truncated

    def reality(self) -> Reality:
        observations = {name: np.stack([row[name] for row in self.rows]) for name in self.spec.observations}
        return Reality(observations, np.stack(self.actions), np.asarray(self.rewards, np.float32))


def act_and_dream(
    model: Dynamics[Any],
    controller: Controller[Any],
    policy: FeaturePolicy,
    environment: Environment,
    *,
    seed: int,
    context: int,
    horizon: int,
    samples: int,
    generator: torch.Generator,
) -> tuple[Reality, ImaginedTrajectory[Any]]:
    """The controller acts during the context; then the model imagines the policy, and its actions are really taken.

    Reality ends with the episode, the dream does not.

    Raises:
        UserError: if the episode ends within the context.
    """
    device = generator.device
    agent, play = Agent(controller, generator=generator), _Play(environment, seed, model.spec)
    while len(play.rows) < context:
        if play.over:
            raise UserError(
                f"{environment}: the episode with seed {seed} ends after {len(play.rows)} rows; choose --context "
                f"{len(play.rows)} or less"
            )
        seen = {name: _tensor(np.asarray(play.rows[-1][name])[None], device) for name in model.spec.observations}
        first = torch.tensor([len(play.rows) == 1], device=device)
        play.step(agent.act(seen, first)[0].cpu().numpy())
    observed = play.reality().batch(model.spec, device)
    dream = dream_on(model, observed, of_first(policy), horizon=horizon, samples=samples, generator=generator)
    for action in model.spec.action.denormalize(dream.action[context - 1 :, 0]).cpu().numpy():
        if play.over:
            break
        play.step(action)
    return play.reality(), dream
