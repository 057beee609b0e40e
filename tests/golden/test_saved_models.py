"""Models and stores of release 0.1 load, and compute the same numbers."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from dreamset.core.records import SequenceBatch
from dreamset.datasets import Store, sequences
from dreamset.models.probes import recorded_trajectory
from dreamset.pipeline.artifacts.saved_models import load_behavior, load_world_model
from tests.builders import seeded

SAVED = Path(__file__).with_name("saved")
CPU = torch.device("cpu")


@cache
def expected() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((SAVED / "expected.json").read_text())
    return loaded


def batch() -> SequenceBatch:
    store = Store.open(SAVED / "store")
    return next(sequences(store, split="train", length=6, batch_size=2, limit=2))


def test_saved_store_has_the_recorded_rows() -> None:
    assert batch().reward.tolist() == expected()["batch"]["reward"]
    assert batch().action.tolist() == expected()["batch"]["action"]


@pytest.mark.parametrize("case", ["v1", "v2", "v3"])
def test_saved_world_model_computes_the_recorded_states_and_rewards(case: str) -> None:
    model, _ = load_world_model(SAVED / case / "world_model", CPU)
    rollout = model.observe(batch(), seeded())
    recorded = expected()[case]
    assert rollout.features.flatten().tolist() == pytest.approx(recorded["features"], rel=1e-4, abs=1e-5)
    reward = model.reward(recorded_trajectory(model, rollout, batch())).t()
    assert reward.flatten().tolist() == pytest.approx(recorded["reward"], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("case", ["v1", "v2", "v3"])
def test_saved_policy_takes_the_recorded_actions(case: str) -> None:
    model, _ = load_world_model(SAVED / case / "world_model", CPU)
    controller = load_behavior(SAVED / case / "behavior", CPU).controller(model)
    rows, generator = batch(), seeded()
    memory, actions = controller.initial(2), []
    for t in range(rows.reward.shape[1]):
        row = {name: value[:, t] for name, value in rows.observations.items()}
        action, memory = controller.act(row, rows.is_first[:, t], memory, generator)
        actions.append(action)
    assert torch.stack(actions, dim=1).flatten().tolist() == pytest.approx(
        expected()[case]["actions"], rel=1e-4, abs=1e-5
    )
