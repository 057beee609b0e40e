"""A tiny learner, and recorded points that move by their actions."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from dreamset.behaviors.base import Experience
from dreamset.behaviors.diffusion.denoisers import ResidualDenoiser
from dreamset.behaviors.diffusion.diffusion import Diffusion
from dreamset.behaviors.diffusion.learner import LatentDiffusionPlanning
from dreamset.core.records import SequenceBatch
from dreamset.core.spec import ActionSpec
from tests.builders import seeded

ONE = ActionSpec(1, discrete=False, low=(-2.0,), high=(2.0,))
CHOICE = ActionSpec(3, discrete=True, low=(0.0,) * 3, high=(1.0,) * 3)


@dataclass(frozen=True)
class Position:
    """[..., 1]."""

    x: Tensor


def learner(
    action: ActionSpec = ONE, *, features: int = 1, horizon: int = 4, **others: object
) -> LatentDiffusionPlanning:
    denoiser = partial(ResidualDenoiser, hidden=32, blocks=2, code=16)
    arguments = {"execute": 2, **others}
    torch.manual_seed(0)
    return LatentDiffusionPlanning(
        features,
        action,
        planner=denoiser,
        inverse_dynamics=denoiser,
        diffusion=Diffusion(steps=20, sampling_steps=10, eta=0.0),
        horizon=horizon,
        **arguments,
    )


def walk(*, seed: int = 0, size: int = 8, length: int = 8, action: ActionSpec = ONE, **marks: Tensor) -> Experience:
    """x_t = x_{t-1} + 0.5 a_t, where a_t leads towards zero; a discrete action moves by -0.5, 0 or 0.5."""
    generator = seeded(seed)
    x = torch.rand(size, 1, generator=generator) * 4 - 2
    rows, actions = [x], [torch.zeros(size, action.size)]
    for _ in range(length - 1):
        if action.discrete:
            move = -x.sign() * (x.abs() > 0.25)
            actions.append(torch.nn.functional.one_hot((move[:, 0] + 1).long(), 3).float())
        else:
            move = -x.clamp(-1, 1)
            actions.append(move)
        x = x + 0.5 * move
        rows.append(x)
    features, taken = torch.stack(rows, dim=1), torch.stack(actions, dim=1)
    is_first = (torch.arange(length) == 0).expand(size, -1)
    batch = SequenceBatch(
        observations={"x": features},
        action=action.denormalize(taken),
        reward=torch.zeros(size, length),
        is_first=is_first,
        is_last=torch.zeros_like(is_first),
        is_terminal=torch.zeros_like(is_first),
        privileged={},
        row=torch.zeros(size, length, dtype=torch.long),
        **marks,
    )
    return Experience(Position(features), features, taken, is_first, batch=batch)


def trained(policy: LatentDiffusionPlanning, action: ActionSpec, *, updates: int = 150) -> LatentDiffusionPlanning:
    """After some updates on walks."""
    optimizer = torch.optim.Adam(policy.parameters(), lr=6e-3)
    policy.calibrate((walk(seed=seed, action=action) for seed in range(1000)), None)
    for seed in range(updates):
        losses = policy.losses_on(walk(seed=seed, size=16, action=action), None, None, seeded(seed)).losses
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        policy.after_update()
    return policy
