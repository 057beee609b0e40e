"""Held-out figures that exist for every objective, so that objectives can be compared."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dreamset.core.capabilities import Dynamics, Representation, RewardModel, Trainable
from dreamset.core.errors import UserError
from dreamset.core.records import SequenceBatch
from dreamset.datasets import Store, sequences
from dreamset.models.probes import LinearProbe, correlation, open_loop, open_loop_starts, r_squared, recorded_trajectory
from dreamset.pipeline.config.settings import Validation

Figures = dict[str, Tensor]


class Validator:
    """Complete held-out episodes, and training episodes on which the linear probes are fitted."""

    def __init__(self, store: Store, settings: Validation, *, device: torch.device) -> None:
        self.store, self.episodes, self.device = store, settings.episodes, device
        self.context, self.starts, self.horizons = settings.context, settings.starts, sorted(settings.horizons)
        shortest = self.context + self.horizons[-1]
        self.held_out = _whole_episodes(store, "validation", limit=settings.episodes, shortest=shortest).to(device)
        self.episode_names = _names(store, "validation", rows=self.held_out.reward.shape[1])[: settings.episodes]
        self.fitting = _whole_episodes(store, "train", limit=settings.probe_episodes, shortest=shortest).to(device)

    @torch.no_grad()
    def metrics(self, model: Trainable[Any]) -> dict[str, float]:
        """The figures of a model. All objectives share the names, so that their curves can be compared.

        ``validation/NAME``: the model's own figures, such as ``kl``. ``validation/reward_error_hK``: squared error of
        the reward K steps after the last observation; h0 is that of the posterior states after the first ``context``
        rows, because a sequence begins without a past and the first states are much less accurate.
        ``validation/probe_r2``: mean over the elements of the true state, from posterior features;
        ``validation/probe_r2_hK`` from open-loop features; ``validation/probe_correlation_reward_qK``: their
        correlation with the truth in the Kth quarter of the rows by reward (see ``reward_quarters``). A figure is left
        out if the model lacks the capability, such as predicting rewards.
        """
        generator = torch.Generator(self.device).manual_seed(0)  # the same draws in every validation
        batch = self.held_out
        rollout = model.observe(batch, generator)
        figures = dict(model.figures(rollout, batch))
        if isinstance(model, RewardModel):
            rewards = model.reward(recorded_trajectory(model, rollout, batch)).t()  # [B, T]
            figures["reward_error_h0"] = (rewards - batch.reward)[:, self.context :].square().mean()
        probes = self._fit_probes(model, generator)
        figures |= _probe_scores("probe_r2", probes, rollout.features, batch.privileged)
        figures |= self._by_region(probes, rollout.features)
        if isinstance(model, Dynamics):
            figures |= self._open_loop(model, generator, probes)
        return {f"validation/{name}": float(value) for name, value in figures.items()}

    def _fit_probes(self, model: Representation[Any], generator: torch.Generator) -> dict[str, LinearProbe]:
        features = model.observe(self.fitting, generator).features.flatten(0, 1)
        return {
            name: LinearProbe.fit(features, value.flatten(0, 1).flatten(1))
            for name, value in self.fitting.privileged.items()
        }

    def _by_region(self, probes: Mapping[str, LinearProbe], features: Tensor) -> Figures:
        """The probes' scores in each quarter of the rows by reward, after the context.

        Within a quarter the truth may hardly vary, which makes R² very negative; a correlation is bounded.
        """
        batch = self.held_out
        scores: Figures = {}
        for name, rows in reward_quarters(batch.reward[:, self.context :]).items():
            truth = {column: value[:, self.context :][rows][None] for column, value in batch.privileged.items()}
            rows_of = features[:, self.context :][rows][None]
            scores |= _probe_scores(f"probe_correlation_reward_{name}", probes, rows_of, truth, score=correlation)
        return scores

    def _open_loop(
        self, model: Dynamics[Any], generator: torch.Generator, probes: Mapping[str, LinearProbe]
    ) -> Figures:
        """The figures at each horizon, from evenly spaced starts of open-loop prediction."""
        batch, longest = self.held_out, self.horizons[-1]
        rollout = model.observe(batch, generator)
        rows = open_loop_starts(batch.reward.shape[1], context=self.context, horizon=longest, starts=self.starts)
        predicted = [open_loop(model, rollout, batch, start=t, horizon=longest, generator=generator) for t in rows]
        features = torch.stack([trajectory.features for trajectory in predicted])  # [starts, longest + 1, B, F]
        figures: Figures = {}
        for horizon in self.horizons:
            truth = {name: _rows(value, rows, horizon) for name, value in batch.privileged.items()}
            figures |= _probe_scores(f"probe_r2_h{horizon}", probes, features[:, horizon], truth)
        if isinstance(model, RewardModel):
            reward = torch.stack([model.reward(trajectory) for trajectory in predicted])
            figures |= self._squared_errors("reward_error", reward, batch.reward, rows)
        if model.predicts_ends:
            continuation = torch.stack([model.continuation(trajectory) for trajectory in predicted])
            figures |= self._squared_errors("continue_brier", continuation, (~batch.is_terminal).float(), rows)
        return figures

    def _squared_errors(self, name: str, predicted: Tensor, recorded: Tensor, rows: Sequence[int]) -> Figures:
        """The mean squared error at each horizon; of a probability, this is the Brier score.

        Args:
            name: the figure's name without its horizon.
            predicted: [starts, longest horizon + 1, B].
            recorded: [B, T].
            rows: of the starts.
        """
        return {
            f"{name}_h{horizon}": (predicted[:, horizon] - _rows(recorded, rows, horizon)).square().mean()
            for horizon in self.horizons
        }


def reward_quarters(reward: Tensor) -> dict[str, Tensor]:
    """Masks of the rows in each quarter by reward, ``q1`` the lowest: bool, shaped like ``reward``.

    A mean over all rows hides how well a state is resolved where it matters, for example near the goal. Equal rewards
    are in one quarter: if few rows have a reward, these are ``q4`` and all others ``q1``. An empty quarter is left out,
    and all are if there is only one.
    """
    levels = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64, device=reward.device)
    bounds = torch.quantile(reward.double().flatten(), levels)
    quarter = torch.bucketize(reward.double(), bounds)  # the number of levels below
    masks = {f"q{number + 1}": quarter == number for number in range(4)}
    masks = {name: rows for name, rows in masks.items() if rows.any()}
    return masks if len(masks) > 1 else {}


def _rows(values: Tensor, starts: Sequence[int], horizon: int) -> Tensor:
    """The rows ``horizon`` steps after each start: [starts, B, ...] from [B, T, ...]."""
    return values[:, [start + horizon for start in starts]].transpose(0, 1)


def _probe_scores(
    name: str,
    probes: Mapping[str, LinearProbe],
    features: Tensor,
    truth: Mapping[str, Tensor],
    *,
    score: Callable[[Tensor, Tensor], Tensor] = r_squared,
) -> Figures:
    """A score of each probe under ``NAME.COLUMN``, the mean over its elements, and the mean of all under ``NAME``.

    Nothing for a truth that never varies.
    """
    scores: Figures = {}
    for column, probe in probes.items():
        value = score(probe(features.flatten(0, 1)), truth[column].flatten(0, 1).flatten(1)).nanmean()
        if not value.isnan():
            scores[f"{name}.{column}"] = value
    return scores | {name: torch.stack(list(scores.values())).mean()} if scores else {}


def _names(store: Store, split: str, *, rows: int) -> list[str]:
    """The number and the return of each episode of at least so many rows, in the order of ``sequences``."""
    episodes = (number for number in store.split(split, acted=_acted(store)) if store.lengths[number] >= rows)
    return [f"episode {episode}, return {store.returns[episode]:.1f}" for episode in episodes]


def _whole_episodes(store: Store, split: str, *, limit: int, shortest: int) -> SequenceBatch:
    """Up to ``limit`` episodes of at least ``shortest`` rows, cut to the length of the shortest of them."""
    lengths = store.lengths[store.split(split, acted=_acted(store))]
    long_enough = lengths[lengths >= shortest]
    if not len(long_enough):
        raise UserError(
            f"validation needs {shortest} rows (validation.context + the longest of validation.horizons), but the "
            f"longest {split} episode has {int(np.max(lengths))}; lower validation.horizons or ingest longer episodes"
        )
    length = int(long_enough.min())
    return next(sequences(store, split=split, length=length, batch_size=limit, limit=limit, acted=_acted(store)))


def _acted(store: Store) -> bool | None:
    """Episodes with actions, or all if there are none: a model that needs no actions can be trained without any."""
    return True if store.acted.any() else None
