"""Saved pairs of a world model and a policy, untrained and tiny, for tests that need no learning."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dreamset.behaviors.controller import Agent
from dreamset.core.spec import ActionSpec, ArraySpec, DataSpec, VectorStatistics
from dreamset.pipeline.artifacts.saved_models import (
    POLICY,
    WORLD_MODEL,
    SavedModel,
    load_behavior,
    load_world_model,
    model_digest,
    save_model,
)
from dreamset.pipeline.config.instantiate import build_part
from tests.builders import seeded, tiny_batch, tiny_config, tiny_model, tiny_spec, without_zeros

CPU = torch.device("cpu")
CHOICE = ActionSpec(4, discrete=True, low=(0.0,) * 4, high=(1.0,) * 4)


@dataclass(frozen=True)
class Pair:
    """Two saved models that belong together."""

    world_model: Path
    policy: Path
    spec: DataSpec

    def ours(self, seed: int) -> Agent:
        """The policy as the stage ``evaluate`` runs it."""
        model, _ = load_world_model(self.world_model, CPU)
        return Agent(load_behavior(self.policy, CPU).controller(model), generator=seeded(seed))


def save_pair(runs: Path, *overrides: str, spec: DataSpec | None = None, discrete: bool = False, seed: int = 0) -> Pair:
    """Models of the configuration in the folders where the stages would leave them."""
    spec = spec or tiny_spec()
    spec = replace(spec, action=CHOICE) if discrete else spec
    config = tiny_config(*overrides)
    model = tiny_model(*overrides, spec=spec, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        behavior = build_part(config["behavior"], model.feature_size, spec.action)
        without_zeros(behavior)
    lineage: dict[str, Any] = {"key": "k1", "objective": "reconstruction", "seed": seed, "dataset": "pendulum_pixels"}
    pair = Pair(runs / "world_model/reconstruction-0/model", runs / "behavior/reconstruction-0/model", spec)
    save_model(pair.world_model, model, SavedModel(config["world_model"], spec, lineage, WORLD_MODEL))
    origin = {"world_model": {"digest": model_digest(pair.world_model)}, "feature_size": model.feature_size}
    save_model(pair.policy, behavior, SavedModel(config["behavior"], spec, lineage | origin, POLICY))
    return pair


def state_spec(size: int, action: ActionSpec) -> DataSpec:
    """One vector called ``state``."""
    return DataSpec(
        observations={"state": ArraySpec((size,), "float32")},
        action=action,
        privileged={},
        statistics={"state": VectorStatistics((0.0,) * size, (1.0,) * size)},
    )


def episodes(count: int, rows: int = 6) -> tuple[dict[str, Tensor], Tensor]:
    """Observations [N, T, ...] of the tiny specification and is_first [N, T]: episodes end at different times."""
    observations = tiny_batch(count, rows, seed=4).observations
    first = torch.zeros(count, rows, dtype=torch.bool)
    first[:, 0] = True
    first[0, 2] = first[count // 2, 4] = True
    return dict(observations), first
