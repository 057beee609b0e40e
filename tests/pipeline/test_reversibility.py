"""Rewards with irreversibility through the stages: every behaviour, fine-tuning, acting, and mistakes."""

import json
import shutil
from pathlib import Path

import pytest

from dreamset.pipeline.stages import evaluate, learn_behavior
from tests.pipeline.conftest import Configure

CAREFUL = "reward=careful"
POLICY = Path("runs/behavior/reconstruction-0/model")
SEARCH = [f"acting.optimizer.{name}={value}" for name, value in {"candidates": 4, "elites": 2, "iterations": 1}.items()]
SMALL = ["evaluation.episodes=2", "dataset.environment.episode_steps=12"]
ONLINE = ["finetuning.environment_steps=24", "finetuning.evaluate_every=24"]


@pytest.fixture
def project(offline_runs: Path, configure: Configure, workspace: Path) -> Configure:
    """Composes settings in a folder with data and a world model."""
    shutil.copytree(offline_runs, workspace / "runs")
    return configure


def figures(stage: str) -> dict[str, float]:
    values: dict[str, float] = json.loads(Path(f"runs/{stage}/reconstruction-0/metrics.json").read_text())
    return values


@pytest.mark.parametrize("behavior", ["dreamer_v1", "dreamer_v3", "cloning", "planning"])
def test_careful_is_learned_and_evaluated_with_every_behaviour(project: Configure, behavior: str) -> None:
    search = [*SEARCH, "acting.optimizer.horizon=2"] if behavior == "planning" else []
    chosen = [CAREFUL, f"behavior={behavior}", *search]
    learn_behavior.run(project("learn_behavior", *chosen))
    evaluate.run(project("evaluate", *chosen, *SMALL))
    learned = figures("behavior")
    names = {"loss/precedence", "loss/action_irreversibility", "reversibility/order_accuracy"}
    assert names <= learned.keys()
    assert ("imagination/irreversibility" in learned) == behavior.startswith("dreamer")
    assert "evaluation/return_iqm" in figures("evaluation")
