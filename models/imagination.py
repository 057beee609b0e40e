"""Rollouts without observations, written once for every world model."""

from collections.abc import Callable

import torch
from torch import Tensor

from dreamset.core.capabilities import Dynamics, FeaturePolicy, S
from dreamset.core.errors import UserError
from dreamset.core.records import ImaginedTrajectory
from dreamset.core.states import state_count


def imagine(
    model: Dynamics[S],
    start: S,
    policy: FeaturePolicy,
    *,
    horizon: int,
    generator: torch.Generator | None = None,
) -> ImaginedTrajectory[S]:
    """Imagines ``horizon`` steps under ``policy`` from ``start`` [N, ...]; gradients flow through every step.

    Without ``generator``, the random numbers are those of a new one with seed 0: equal calls give equal results.
    """
    if generator is None:
        generator = torch.Generator(model.features(start).device).manual_seed(0)
    noise = model.noise((horizon, state_count(start)), generator)  # [H, N, ...]
    return unroll(model, start, lambda _, features: policy(features), noise)


def unroll(
    model: Dynamics[S], start: S, policy: Callable[[int, Tensor], Tensor], noise: Tensor
) -> ImaginedTrajectory[S]:
    """``imagine`` with given random numbers [H, N, ...]; ``policy`` also gets the number of the step, from 0."""
    rows, features, actions = [start], [model.features(start)], []
    for h in range(len(noise)):
        actions.append(policy(h, features[-1]))
        rows.append(model.step(rows[-1], actions[-1], noise[h]))
        features.append(model.features(rows[-1]))
    return ImaginedTrajectory(rows, torch.stack(features), torch.stack(actions))


def predict(
    model: Dynamics[S], start: S, action: Tensor, generator: torch.Generator | None = None
) -> ImaginedTrajectory[S]:
    """Imagines K steps from ``start`` [N, ...] under given actions [N, K, A]; ``action[:, k]`` leads to row k + 1.

    Actions are in a policy's units: from -1 to 1 if they are bounded. ``ActionSpec.normalize`` converts recorded ones.
    Without ``generator``, see ``imagine``.

    Raises:
        UserError: if ``action`` has another rank, or not one sequence for each state.
    """
    count = state_count(start)
    if action.dim() != 3 or action.shape[0] != count:
        raise UserError(
            f"the shape of action is {list(action.shape)}; allowed: [N, K, A], here {count} starting states, K steps "
            "and A numbers per action; add the missing axis, or choose as many sequences of actions as states"
        )
    actions = iter(action.unbind(dim=1))
    return imagine(model, start, lambda _: next(actions), horizon=action.shape[1], generator=generator)
