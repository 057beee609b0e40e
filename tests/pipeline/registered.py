"""Small models in the registry of the working folder."""

import json
import shutil
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import torch

from dreamset.core.spec import ActionSpec, ArraySpec, DataSpec, VectorStatistics
from dreamset.models.recurrent.world_model import WorldModel
from dreamset.pipeline.artifacts.saved_models import (
    POLICY,
    WORLD_MODEL,
    WORLD_MODEL_PARTS,
    SavedModel,
    build,
    save_model,
)
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.registry import catalog
from dreamset.pipeline.registry.logged import Runs
from dreamset.pipeline.registry.registration import registration
from dreamset.pipeline.tracking import delivery, embedded


def spec(*, size: int = 3, action: int = 1, high: float = 2.0, discrete: bool = False, **more: ArraySpec) -> DataSpec:
    """The specification of a dataset with the vector ``state`` and the columns ``more``."""
    observations = {"state": ArraySpec((size,), "float32"), **more}
    statistics = {
        name: VectorStatistics((0.5,) * array.size, (2.0,) * array.size) for name, array in observations.items()
    }
    return DataSpec(observations, ActionSpec(action, discrete, (-high,) * action, (high,) * action), {}, statistics)


def architecture(*overrides: str) -> dict[str, Any]:
    """The tiny world model's."""
    return deepcopy(_composed(overrides))


@cache
def _composed(overrides: tuple[str, ...]) -> dict[str, Any]:
    node: dict[str, Any] = compose(["preset=tiny", *overrides])["world_model"]
    return node


def lineage(**changes: Any) -> dict[str, Any]:
    """A lineage as the training of a world model writes it."""
    common = {"key": "k", "generation": "dreamer_v1", "parent": None, "objective": "reconstruction", "seed": 0}
    data = {"dataset": "pendulum", "dataset_digest": "d" * 64, "dataset_return": {"mean": 1.0}}
    return {**common, **data, "reference": {"low": None, "high": None}, **changes}


def world_model(folder: Path, *, seed: int = 0, size: int = 3, **changes: Any) -> Path:
    """A folder with an untrained world model."""
    torch.manual_seed(seed)
    node = architecture()
    model: WorldModel = build(node, spec(size=size), allowed=WORLD_MODEL_PARTS)
    save_model(folder, model, SavedModel(node, spec(size=size), lineage(seed=seed, **changes), WORLD_MODEL))
    return folder


def policy(folder: Path, *, seed: int = 0, of: str) -> Path:
    """A folder that can be registered as a policy of the world model ``of``."""
    torch.manual_seed(seed)
    described = lineage(seed=seed, world_model={"digest": of}, reward={"_target_": "R"}, feature_size=2)
    node = {"_target_": "dreamset.behaviors.None"}
    save_model(folder, torch.nn.Linear(2, 1), SavedModel(node, spec(), described, POLICY))
    return folder


def register(client: Any, folder: Path, **figures: float) -> catalog.Version:
    """Registers a folder from a new run, as the delivery of a stage does."""
    run = delivery.make_run(client, "dreamset", folder.name)
    named = {name.replace("__", "/"): value for name, value in figures.items()}
    return catalog.register(client, Runs(run, run), registration(folder, named), folder)


def fresh_store(template: Path) -> Any:
    """The embedded store of the working folder, copied, because MLflow needs seconds to create one."""
    Path("tracking").mkdir()
    shutil.copy(template, "tracking/mlflow.db")
    return delivery.client_of(embedded.uri())


def rewrite(folder: Path, **changes: Any) -> None:
    """Changes top-level entries of ``model.json``, whose checksum is then left out."""
    path = folder / "model.json"
    description = json.loads(path.read_text())
    description.pop("checksum", None)
    path.write_text(json.dumps(description | changes))
