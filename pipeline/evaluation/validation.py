"""Held-out figures that exist for every objective: the ground on which objectives are compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dreamset.core.capabilities import Dynamics, Representation, RewardModel, Trainable
from dreamset.core.errors import UserError
from dreamset.core.records import ImaginedTrajectory, SequenceBatch
from dreamset.datasets import Store, sequences
from dreamset.models.probes import LinearProbe, open_loop, open_loop_starts, r_squared, recorded_trajectory


@dataclass(frozen=True, slots=True)
class OpenLoopSettings:
    """How the held-out figures are taken; see ``validation`` in the configuration."""

    context: int
    horizons: tuple[int, ...]
    starts: int


class Validator:
    """Whole held-out episodes, and some training episodes for the linear probe to be fitted on."""

    def __init__(
        self,
        store: Store,
        *,
        episodes: int,
        probe_episodes: int,
        context: int,
        horizons: Sequence[int],
        starts: int,
        device: torch.device,
    ) -> None:
        self.device = device
        longest = context + max(horizons)
        self.held_out = _whole_episodes(store, "validation", limit=episodes, least=longest).to(device)
        self.fitting = _whole_episodes(store, "train", limit=probe_episodes, least=longest).to(device)
        self.settings = OpenLoopSettings(context, tuple(sorted(horizons)), starts)

    @torch.no_grad()
    def metrics(self, model: Trainable[Any]) -> dict[str, float]:
        """Names are the same for every objective, so that curves lie over each other.

        ``validation/FIGURE``: the model's own, such as ``kl``. ``validation/reward_error_hK``: squared error of the
        reward K steps after the model stopped looking; h0 is the filtered state's. ``validation/probe_r2``: mean over
        the true state's elements, from filtered features; ``validation/probe_r2_hK`` from open-loop features. What a
        model cannot do, such as predict rewards or move without observations, has no figure.
        """
        generator = torch.Generator(self.device).manual_seed(0)  # the same draws at every validation
        rollout = model.observe(self.held_out, generator)
        batch = self.held_out
        result = {f"validation/{name}": value for name, value in model.figures(rollout, batch).items()}
        if isinstance(model, RewardModel):
            filtered = model.reward(recorded_trajectory(model, rollout, batch)).t()  # [B, T]
            result["validation/reward_error_h0"] = (filtered - batch.reward).square().mean()
        probes = self._fit_probes(model, generator)
        for name, probe in probes.items():
            result[f"validation/probe_r2.{name}"] = _r2(probe, rollout.features, batch.privileged[name])
        if probes:
            result["validation/probe_r2"] = torch.stack(
                [result[f"validation/probe_r2.{name}"] for name in probes]
            ).mean()
        if isinstance(model, Dynamics):
            result |= self._open_loop(model, batch, generator, probes)
        return {name: float(value) for name, value in result.items()}

    def _fit_probes(self, model: Representation[Any], generator: torch.Generator) -> dict[str, LinearProbe]:
        features = model.observe(self.fitting, generator).features.flatten(0, 1)
        return {
            name: LinearProbe.fit(features, value.flatten(0, 1).flatten(1))
            for name, value in self.fitting.privileged.items()
        }

    def _open_loop(
        self, model: Dynamics[Any], batch: SequenceBatch, generator: torch.Generator, probes: dict[str, LinearProbe]
    ) -> dict[str, Tensor]:
        settings, longest = self.settings, max(self.settings.horizons)
        rollout = model.observe(batch, generator)
        rows = open_loop_starts(
            batch.reward.shape[1], context=settings.context, horizon=longest, starts=settings.starts
        )
        ahead = [open_loop(model, rollout, batch, start=t, horizon=longest, generator=generator) for t in rows]
        features = torch.stack([trajectory.features for trajectory in ahead])  # [starts, longest + 1, B, F]
        result: dict[str, Tensor] = {}
        for horizon in settings.horizons:
            targets = [t + horizon for t in rows]
            scores = {
                name: _r2(probe, features[:, horizon], batch.privileged[name][:, targets].transpose(0, 1))
                for name, probe in probes.items()
            }
            result |= {f"validation/probe_r2_h{horizon}.{name}": score for name, score in scores.items()}
            if scores:
                result[f"validation/probe_r2_h{horizon}"] = torch.stack(list(scores.values())).mean()
        if isinstance(model, RewardModel):
            result |= _reward_errors(model, ahead, rows, batch, settings.horizons)
        if model.predicts_ends:
            result |= _continuation_errors(model, ahead, rows, batch, settings.horizons)
        return result


def _reward_errors(
    model: RewardModel[Any],
    ahead: Sequence[ImaginedTrajectory[Any]],
    rows: Sequence[int],
    batch: SequenceBatch,
    horizons: Sequence[int],
) -> dict[str, Tensor]:
    """Squared error of the reward after each number of steps without looking."""
    reward = torch.stack([model.reward(trajectory) for trajectory in ahead])  # [starts, longest + 1, B]
    result: dict[str, Tensor] = {}
    for horizon in horizons:
        error = reward[:, horizon] - batch.reward[:, [t + horizon for t in rows]].t()
        result[f"validation/reward_error_h{horizon}"] = error.square().mean()
    return result


def _continuation_errors(
    model: Dynamics[Any],
    ahead: Sequence[ImaginedTrajectory[Any]],
    rows: Sequence[int],
    batch: SequenceBatch,
    horizons: Sequence[int],
) -> dict[str, Tensor]:
    """Brier score of the continuation after each number of steps without looking."""
    goes_on = torch.stack([model.continuation(trajectory) for trajectory in ahead])  # [starts, longest + 1, B]
    result: dict[str, Tensor] = {}
    for horizon in horizons:
        alive = (~batch.is_terminal[:, [t + horizon for t in rows]]).t().float()
        result[f"validation/continue_brier_h{horizon}"] = (goes_on[:, horizon] - alive).square().mean()
    return result


def _whole_episodes(store: Store, split: str, *, limit: int, least: int) -> SequenceBatch:
    """The first rows of up to ``limit`` episodes, as many as all of them have."""
    lengths = store.lengths[store.split(split)]
    long_enough = lengths[lengths >= least]
    if not len(long_enough):
        raise UserError(
            f"validation needs {least} rows (validation.context + the longest of validation.horizons), but the longest "
            f"{split} episode has {int(np.max(lengths))}; lower validation.horizons or ingest longer episodes"
        )
    length = int(long_enough.min())
    return next(sequences(store, split=split, length=length, batch_size=limit, limit=limit))


def _r2(probe: LinearProbe, features: Tensor, truth: Tensor) -> Tensor:
    return r_squared(probe(features.flatten(0, 1)), truth.flatten(0, 1).flatten(1)).nanmean()
