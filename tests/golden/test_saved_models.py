"""Models and stores that release 0.1 wrote load, and compute what they computed then."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from dreamset.behaviors.controller import LatentPolicy
from dreamset.core.records import SequenceBatch
from dreamset.datasets import Store, sequences
from dreamset.pipeline.artifacts.saved_models import load_world_model
from dreamset.pipeline.stages.evaluate import load_behavior
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


def test_a_saved_store_has_the_same_rows() -> None:
    assert batch().reward.tolist() == expected()["batch"]["reward"]
    assert batch().action.tolist() == expected()["batch"]["action"]


@pytest.mark.parametrize("case", ["v1", "v2", "v3"])
def test_a_saved_world_model_computes_the_same_states_and_rewards(case: str) -> None:
    model, _ = load_world_model(SAVED / case / "world_model", CPU)
    rollout = model.observe(batch(), seeded())
    wanted = expected()[case]
    assert rollout.features.flatten().tolist() == pytest.approx(wanted["features"], rel=1e-4, abs=1e-5)
    assert model.reward(rollout.features).flatten().tolist() == pytest.approx(wanted["reward"], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("case", ["v1", "v2", "v3"])
def test_a_saved_policy_acts_the_same(case: str) -> None:
    model, _ = load_world_model(SAVED / case / "world_model", CPU)
    learner = load_behavior(SAVED / case / "behavior", CPU)
    policy, rows = LatentPolicy(model, learner.actor, generator=seeded()), batch()
    actions = [
        policy.act({name: value[:, t] for name, value in rows.observations.items()}, rows.is_first[:, t])
        for t in range(rows.reward.shape[1])
    ]
    assert torch.stack(actions, dim=1).flatten().tolist() == pytest.approx(
        expected()[case]["actions"], rel=1e-4, abs=1e-5
    )
