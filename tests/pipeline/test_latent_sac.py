"""Latent SAC through the stages: learning, acting alone and by planning, export, fine-tuning."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from dreamset.pipeline.artifacts.acting import load_policy
from dreamset.pipeline.artifacts.saved_models import load_behavior
from dreamset.pipeline.export.program import export_policy
from dreamset.pipeline.export.standalone.policy import Policy
from dreamset.pipeline.report.metrics import metric
from dreamset.pipeline.stages import evaluate, finetune, learn_behavior, train_world_model
from tests.pipeline.conftest import Configure

MODEL, POLICY = Path("runs/world_model/reconstruction-0/model"), Path("runs/behavior/reconstruction-0/model")
SAC = ("behavior=latent_sac_retrace", "behavior.conservative_samples=2")
SEARCH = [f"acting.optimizer.{name}={value}" for name, value in {"candidates": 4, "elites": 2, "iterations": 1}.items()]
PLANNED = ["acting=mppi_critic_actor", *SEARCH, "acting.optimizer.horizon=2", "acting.proposals=2"]
SHORT = ["evaluation.episodes=2", "dataset.environment.episode_steps=12"]


@pytest.fixture
def learned(offline_runs: Path, configure: Configure, workspace: Path) -> Configure:
    """A folder with data, a world model and a policy of latent SAC in it."""
    shutil.copytree(offline_runs, workspace / "runs")
    learn_behavior.run(configure("learn_behavior", *SAC))
    return configure


def test_every_figure_of_learning_has_words(learned: Configure) -> None:  # noqa: ARG001
    figures = json.loads((POLICY.parent / "metrics.json").read_text())
    names = {"q_data", "q_policy", "td_error", "entropy", "temperature", "conservative_gap", "trace", "reward"}
    assert {f"replay/{name}" for name in names} <= figures.keys()
    assert [name for name in figures if not metric(name).meaning] == []


def test_it_acts_alone_and_its_critic_and_actor_serve_a_planner(learned: Configure) -> None:
    actions = {}
    for acting in ([], PLANNED):
        evaluate.run(learned("evaluate", *SAC, *SHORT, *acting))
        figures = json.loads(Path("runs/evaluation/reconstruction-0/metrics.json").read_text())
        assert np.isfinite(figures["evaluation/return_mean"])
        actions[len(acting)] = figures["cost/decision_milliseconds"]
    assert len(set(actions.values())) == 2


def test_exported_policy_acts_as_the_saved_one(learned: Configure, tmp_path: Path) -> None:  # noqa: ARG001
    export_policy(MODEL, POLICY, tmp_path / "exported", environment=None)
    ours, theirs = load_policy(POLICY, MODEL, seed=3), Policy(tmp_path / "exported", count=2, seed=3)
    for row in range(3):
        state, first = torch.randn(2, 3, generator=torch.Generator().manual_seed(row)), torch.tensor([row == 0] * 2)
        np.testing.assert_array_equal(theirs.act({"state": state}, first), ours.act({"state": state}, first).numpy())


def test_fine_tuning_trains_every_network_further(learned: Configure) -> None:
    finetune.run(learned("finetune", *SAC, *SHORT, "finetuning.actor_from=0"))
    before, after = (load_behavior(folder) for folder in (POLICY, Path("runs/finetune/reconstruction-0/policy")))
    for name, network in before.networks().items():
        trained = dict(after.networks()[name].named_parameters())
        assert [key for key, value in network.named_parameters() if torch.equal(value, trained[key])] == [], name


def test_on_the_observations_themselves_it_is_soft_actor_critic_without_a_model(configure: Configure) -> None:
    raw = ("world_model=observations", "objective=reward_only", "behavior=latent_sac", *SHORT)
    train_world_model.run(configure("train_world_model", *raw[:2]))
    learn_behavior.run(configure("learn_behavior", *raw))
    evaluate.run(configure("evaluate", *raw))
    assert "evaluation/return_mean" in json.loads(Path("runs/evaluation/reward_only-0/metrics.json").read_text())
    learned = load_behavior(Path("runs/behavior/reward_only-0/model"))
    first = next(iter(learned.critic.parameters()))
    assert first.shape[1] == 3 + 1  # the pendulum's observation and its action
