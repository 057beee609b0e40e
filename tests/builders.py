"""Tiny data, specifications and models for the tests of several folders."""

from dataclasses import replace
from functools import cache
from typing import Any

import torch

from dreamset.core.records import SequenceBatch
from dreamset.core.spec import ActionSpec, ArraySpec, DataSpec, VectorStatistics
from dreamset.models.recurrent.world_model import WorldModel
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.config.instantiate import build_part

LOW, HIGH = (-2.0, 1.0), (2.0, 5.0)


def tiny_spec() -> DataSpec:
    """A vector of three numbers, a 16 x 16 image and two actions whose bounds are not -1 and 1."""
    return DataSpec(
        observations={"state": ArraySpec((3,), "float32"), "image": ArraySpec((16, 16, 3), "uint8")},
        action=ActionSpec(2, discrete=False, low=LOW, high=HIGH),
        privileged={"truth": ArraySpec((2,), "float32")},
        statistics={
            "state": VectorStatistics((1.0, -2.0, 0.5), (2.0, 0.5, 4.0)),
            "truth": VectorStatistics((0.0, 0.0), (1.0, 1.0)),
        },
    )


def tiny_batch(size: int = 3, length: int = 6, *, seed: int = 0) -> SequenceBatch:
    """Smooth sequences that a model can learn: image, reward and ground truth are functions of the state."""
    generator = torch.Generator().manual_seed(seed)
    spec = tiny_spec()
    walk = torch.randn(size, length, 3, generator=generator).cumsum(dim=1) * 0.5  # [B, T, 3]
    mean, std = (torch.tensor(values) for values in (spec.statistics["state"].mean, spec.statistics["state"].std))
    tint = torch.sigmoid(walk)[:, :, None, None, :]
    ramp = torch.linspace(0.2, 1, 16)[:, None, None]
    rows = torch.arange(length).expand(size, length)
    return SequenceBatch(
        observations={
            "state": walk * std + mean,
            "image": (255 * tint * ramp).expand(size, length, 16, 16, 3).to(torch.uint8),
        },
        action=torch.tensor(LOW)
        + torch.rand(size, length, 2, generator=generator) * (torch.tensor(HIGH) - torch.tensor(LOW)),
        reward=walk[..., 0],
        is_first=rows == 0,
        is_last=rows == length - 1,
        is_terminal=(rows == length - 1) & (torch.arange(size)[:, None] % 2 == 0),
        privileged={"truth": walk[..., :2]},
        row=1000 * torch.arange(size)[:, None] + rows,
    )


PATCHES = ArraySpec((4, 6), "float16", "toy:0123456789abcdef")


def patched_spec() -> DataSpec:
    """``tiny_spec`` with the features of four patches."""
    spec = tiny_spec()
    statistics = {**spec.statistics, "patches": VectorStatistics((0.5,), (2.0,))}
    return replace(spec, observations={**spec.observations, "patches": PATCHES}, statistics=statistics)


def patched_batch(size: int = 3, length: int = 6, *, seed: int = 0) -> SequenceBatch:
    """``tiny_batch`` with patch features that are functions of the state."""
    batch = tiny_batch(size, length, seed=seed)
    mixed = batch.reward[..., None] * torch.linspace(-1, 1, PATCHES.size) + batch.observations["state"][..., 1:2]
    patches = (0.5 + 2 * torch.tanh(mixed)).half().reshape(size, length, *PATCHES.shape)
    return replace(batch, observations={**batch.observations, "patches": patches})


@cache
def tiny_config(*overrides: str) -> dict[str, Any]:
    return compose(["preset=tiny", *overrides])


def tiny_model(*overrides: str, spec: DataSpec | None = None, seed: int = 0) -> WorldModel:
    """The configured world model at the smallest sizes, without constant parameters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: WorldModel = build_part(tiny_config(*overrides)["world_model"], spec or tiny_spec())
        without_zeros(model)
    return model


def without_zeros(module: torch.nn.Module) -> None:
    """Initialises constant parameters at random. A zero bias would hide errors; a zero kernel would stop gradients."""
    for parameter in module.parameters():
        if parameter.ndim == 1 or not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
