"""A world model that is only the observations: a baseline on raw observations, through the stages."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamset.core.errors import UserError
from dreamset.pipeline.export.program import export_policy
from dreamset.pipeline.export.standalone.policy import Policy
from dreamset.pipeline.stages import evaluate, learn_behavior, train_world_model

Configure = Callable[..., dict[str, Any]]
RAW = ("world_model=observations", "objective=reward_only")
WORLD_MODEL, POLICY = Path("runs/world_model/reward_only-0/model"), Path("runs/behavior/reward_only-0/model")


def test_cloning_on_observations_is_trained_evaluated_and_exported(configure: Configure) -> None:
    chosen = (*RAW, "behavior=cloning", "evaluation.episodes=2", "evaluation.video_episodes=1")
    train_world_model.run(configure("train_world_model", *RAW))
    figures = json.loads((WORLD_MODEL.parent / "metrics.json").read_text())
    assert {"validation/reward_error_h0", "validation/probe_r2"} <= figures.keys()
    assert figures["validation/probe_r2"] > 0.999  # the pendulum's state is its observation
    learn_behavior.run(configure("learn_behavior", *chosen))
    evaluate.run(configure("evaluate", *chosen))
    assert "evaluation/return_iqm" in json.loads(Path("runs/evaluation/reward_only-0/metrics.json").read_text())
    export_policy(WORLD_MODEL, POLICY, Path("exported"), environment=None)
    observations = {"state": np.array([[1.0, 0.0, 0.5], [0.0, 1.0, -2.0]], np.float32)}
    action = Policy("exported", count=2).act(observations, np.array([True, True]))
    assert action.shape == (2, 1)
    assert (np.abs(action) <= 2).all()


def test_learning_in_imagination_is_refused_in_one_line(configure: Configure) -> None:
    train_world_model.run(configure("train_world_model", *RAW))
    with pytest.raises(UserError, match="capabilities that Observations lacks \\(Dynamics: "):
        learn_behavior.run(configure("learn_behavior", *RAW))
