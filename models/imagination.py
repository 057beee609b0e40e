"""Rollouts without observations, written once for every world model."""

import torch
from torch import Tensor

from dreamset.core.capabilities import Dynamics, FeaturePolicy, S
from dreamset.core.records import ImaginedTrajectory
from dreamset.core.states import state_count


def imagine(
    model: Dynamics[S], start: S, policy: FeaturePolicy, *, horizon: int, generator: torch.Generator
) -> ImaginedTrajectory[S]:
    """Imagines ``horizon`` steps under ``policy`` from ``start`` [N, ...]; gradients flow through every step."""
    noise = model.noise((horizon, state_count(start)), generator)  # [H, N, ...]
    rows, features, actions = [start], [model.features(start)], []
    for h in range(horizon):
        actions.append(policy(features[-1]))
        rows.append(model.step(rows[-1], actions[-1], noise[h]))
        features.append(model.features(rows[-1]))
    return ImaginedTrajectory(rows, torch.stack(features), torch.stack(actions))


def predict(model: Dynamics[S], start: S, action: Tensor, generator: torch.Generator) -> ImaginedTrajectory[S]:
    """Imagines K steps from ``start`` [N, ...] under given actions [N, K, A]; ``action[:, k]`` leads to row k + 1."""
    actions = iter(action.unbind(dim=1))
    return imagine(model, start, lambda _: next(actions), horizon=action.shape[1], generator=generator)
