"""Held-out figures that exist for every objective: the ground on which objectives are compared."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dreamset.core.errors import UserError
from dreamset.core.records import SequenceBatch
from dreamset.datasets import Store, sequences
from dreamset.models.probes import LinearProbe, open_loop, open_loop_starts, r_squared
from dreamset.models.recurrent.world_model import WorldModel


@dataclass(frozen=True, slots=True)
class Protocol:
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
        self.protocol = Protocol(context, tuple(sorted(horizons)), starts)

    @torch.no_grad()
    def metrics(self, model: WorldModel) -> dict[str, float]:
        """Names are the same for every objective, so that curves lie over each other.

        ``validation/kl``: nats per step. ``validation/reward_error_hK``: squared error of the reward K steps after
        the model stopped looking; h0 is the filtered state's. ``validation/probe_r2``: mean over the true state's
        elements, from filtered features; ``validation/probe_r2_hK`` from open-loop features.
        """
        generator = torch.Generator(self.device).manual_seed(0)  # the same draws at every validation
        rollout = model.observe(self.held_out, generator)
        batch = self.held_out
        kl = model.dynamics.latent.kl(rollout.posterior_parameters, rollout.prior_parameters)
        result = {
            "validation/kl": kl.mean(),
            "validation/reward_error_h0": _error(model, rollout.features, batch.reward),
        }
        probes = self._fit_probes(model, generator)
        for name, probe in probes.items():
            result[f"validation/probe_r2.{name}"] = _r2(probe, rollout.features, batch.privileged[name])
        if probes:
            result["validation/probe_r2"] = torch.stack(
                [result[f"validation/probe_r2.{name}"] for name in probes]
            ).mean()
        result |= self._open_loop(model, batch, generator, probes)
        return {name: float(value) for name, value in result.items()}

    def _fit_probes(self, model: WorldModel, generator: torch.Generator) -> dict[str, LinearProbe]:
        features = model.observe(self.fitting, generator).features.flatten(0, 1)
        return {
            name: LinearProbe.fit(features, value.flatten(0, 1).flatten(1))
            for name, value in self.fitting.privileged.items()
        }

    def _open_loop(
        self, model: WorldModel, batch: SequenceBatch, generator: torch.Generator, probes: dict[str, LinearProbe]
    ) -> dict[str, Tensor]:
        protocol, longest = self.protocol, max(self.protocol.horizons)
        rollout = model.observe(batch, generator)
        rows = open_loop_starts(
            batch.reward.shape[1], context=protocol.context, horizon=longest, starts=protocol.starts
        )
        ahead = [open_loop(model, rollout, batch, start=t, horizon=longest, generator=generator) for t in rows]
        features = torch.stack([states.features for states in ahead])  # [starts, B, longest, F]
        result: dict[str, Tensor] = {}
        for horizon in protocol.horizons:
            targets = [t + horizon for t in rows]
            at = features[:, :, horizon - 1]  # [starts, B, F]
            result[f"validation/reward_error_h{horizon}"] = _error(model, at, batch.reward[:, targets].t())
            if model.continue_head is not None:
                alive = (~batch.is_terminal[:, targets]).t().float()
                result[f"validation/continue_brier_h{horizon}"] = (model.continuation(at) - alive).square().mean()
            scores = {
                name: _r2(probe, at, batch.privileged[name][:, targets].transpose(0, 1))
                for name, probe in probes.items()
            }
            result |= {f"validation/probe_r2_h{horizon}.{name}": score for name, score in scores.items()}
            if scores:
                result[f"validation/probe_r2_h{horizon}"] = torch.stack(list(scores.values())).mean()
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


def _error(model: WorldModel, features: Tensor, reward: Tensor) -> Tensor:
    return (model.reward(features) - reward).square().mean()


def _r2(probe: LinearProbe, features: Tensor, truth: Tensor) -> Tensor:
    return r_squared(probe(features.flatten(0, 1)), truth.flatten(0, 1).flatten(1)).nanmean()
