"""World models that are not RSSMs, and a controller that is not an actor, run through every stage."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from dreamset.core.capabilities import (
    Controller,
    Dynamics,
    Exportable,
    Representation,
    RewardModel,
    Trainable,
    Uncertain,
    require,
)
from dreamset.core.errors import UserError
from dreamset.datasets import Store
from dreamset.models.probes import recorded_trajectory
from dreamset.pipeline.artifacts import saved_models
from dreamset.pipeline.artifacts.saved_models import load_behavior, load_world_model
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.export.program import export_policy
from dreamset.pipeline.export.standalone.policy import Policy
from dreamset.pipeline.registry import catalog
from dreamset.pipeline.registry.logged import Runs
from dreamset.pipeline.registry.registration import registration
from dreamset.pipeline.registry.retrieval import from_registry
from dreamset.pipeline.stages import compare, evaluate, finetune, learn_behavior, train_world_model
from dreamset.pipeline.stages import table as stages
from dreamset.pipeline.tracking import delivery, embedded
from tests.builders import seeded, tiny_batch, tiny_model, tiny_spec
from tests.foreign.behaviors import PlannedActions
from tests.foreign.models import LatentModel, TokenModel

Configure = Callable[..., dict[str, Any]]

LATENT = {"_target_": "tests.foreign.models.LatentModel", "size": 12, "hidden": 16}
TOKENS = {"_target_": "tests.foreign.models.TokenModel", "window": 3, "token": 6, "hidden": 16}
PLANNED = {"_target_": "tests.foreign.behaviors.PlannedActions", "length": 5}
SUCCESS = {"_target_": "tests.foreign.behaviors.SuccessReward", "features": 12, "threshold": 0.2}
REWARD_ONLY = "objective=reward_only"
WORLD_MODEL, POLICY = Path("runs/world_model/reward_only-0/model"), Path("runs/behavior/reward_only-0/model")
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Saved models may name the classes of these tests."""
    for name in ("WORLD_MODEL_PARTS", "POLICY_PARTS"):
        monkeypatch.setattr(saved_models, name, (*getattr(saved_models, name), "tests.foreign"))


def trained(configure: Configure, world_model: dict[str, Any], *overrides: str) -> dict[str, Any]:
    """Trains the world model; returns its metrics."""
    train_world_model.run(configure("train_world_model", REWARD_ONLY, *overrides) | {"world_model": world_model})
    figures: dict[str, Any] = json.loads((WORLD_MODEL.parent / "metrics.json").read_text())
    return figures


def test_a_missing_capability_is_refused_by_name() -> None:
    recurrent, latent, tokens = tiny_model(), LatentModel(tiny_spec()), TokenModel(tiny_spec())
    for model in (recurrent, latent, tokens):
        require(model, Representation, Dynamics, Trainable, by="this test")
    require(latent, RewardModel, by="this test")
    with pytest.raises(UserError, match=r"this test needs .* TokenModel lacks \(RewardModel: Predicts the reward"):
        require(tokens, RewardModel, by="this test")
    with pytest.raises(UserError, match="Uncertain"):
        require(latent, Uncertain, by="this test")


def test_the_reward_of_a_state_and_an_action_is_in_the_row_of_arrival() -> None:
    model, batch = LatentModel(tiny_spec()), tiny_batch()
    rollout = model.observe(batch, seeded())
    reward = model.reward(recorded_trajectory(model, rollout, batch))
    assert torch.equal(reward[0], torch.zeros(3))
    action = model.spec.action.normalize(batch.action)[:, 3]
    expected = model.reward_head(torch.cat([rollout.features[:, 2], action], dim=-1))[..., 0]
    torch.testing.assert_close(reward[3], expected)


def test_the_states_of_a_token_model_are_reset_where_an_episode_begins() -> None:
    model, batch = TokenModel(tiny_spec()), tiny_batch()
    whole = model.observe(batch, seeded()).states
    assert not whole.token[:, 0, :-1].any()
    assert whole.token[:, 2].all()
    torch.testing.assert_close(whole.token[:, 3, 1], whole.token[:, 2, 2])


def test_a_latent_model_runs_through_all_stages(configure: Configure) -> None:
    figures = trained(configure, LATENT)
    assert {"validation/consistency", "validation/reward_error_h0", "validation/reward_error_h5"} <= figures.keys()
    assert {"validation/probe_r2", "validation/open_loop_mse"} <= figures.keys()
    assert "validation/kl" not in figures
    learn_behavior.run(configure("learn_behavior", REWARD_ONLY))
    evaluate.run(configure("evaluate", REWARD_ONLY))
    scores = json.loads(Path("runs/evaluation/reward_only-0/metrics.json").read_text())
    assert {"evaluation/return_iqm", "evaluation/imagined_return"} <= scores.keys()
    model, described = load_world_model(WORLD_MODEL, CPU)
    assert isinstance(model, LatentModel)
    assert registration(WORLD_MODEL, figures).figures["validation/consistency"] == figures["validation/consistency"]
    assert registration(POLICY, scores).origins["world_model"] == saved_models.model_digest(WORLD_MODEL)
    assert described.architecture["_target_"].endswith("LatentModel")


def test_a_latent_model_is_fine_tuned_online_with_an_explorer(configure: Configure) -> None:
    trained(configure, LATENT)
    learn_behavior.run(configure("learn_behavior", REWARD_ONLY))
    config = configure("finetune", REWARD_ONLY)
    before = load_file(POLICY / "model.safetensors")
    explorer = {"behavior": configure("learn_behavior", REWARD_ONLY)["behavior"], "reward": SUCCESS}
    config["finetuning"] = config["finetuning"] | {"explorer": explorer, "factors": {"encoder": 0.1}}
    config["behavior_training"] = with_classifier(config["behavior_training"])
    finetune.run(config)
    after = load_file(Path("runs/finetune/reward_only-0/policy/model.safetensors"))
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    curve = pd.read_csv("runs/finetune/reward_only-0/curve.csv")
    assert curve["environment_steps"].iloc[-1] >= 400


def test_an_explorer_collects_in_place_of_the_policy(configure: Configure) -> None:
    trained(configure, LATENT)
    learn_behavior.run(configure("learn_behavior", REWARD_ONLY))
    config = configure("finetune", REWARD_ONLY)
    predicted = {"_target_": "dreamset.behaviors.rewards.PredictedReward"}
    explorer = {"behavior": PLANNED, "reward": predicted}
    config["finetuning"] = config["finetuning"] | {"explorer": explorer, "factors": {"encoder": 0.1}}
    finetune.run(config)
    online = Store.open("runs/finetune/reward_only-0/online")
    plan = np.linspace(-2, 2, 5)
    for number in range(len(online.lengths)):
        taken = online.read(number)["action"][1:, 0]  # row 0 of an episode has no action
        np.testing.assert_allclose(taken, np.resize(plan, len(taken)), atol=1e-6)


def test_an_explorer_may_be_the_configured_behavior_with_another_reward() -> None:
    node = "{behavior: '${behavior}', reward: {_target_: dreamset.behaviors.rewards.PredictedReward}}"
    config = compose(["preset=tiny", f"finetuning.explorer={node}"])
    assert config["finetuning"]["explorer"]["behavior"] == config["behavior"]
    with pytest.raises(UserError, match=r"finetuning\.explorer\.behavior"):
        compose(["preset=tiny", f"finetuning.explorer={node.replace('behavior:', 'behaviour:')}"])


def planned(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of a behaviour without parameters, and so without optimisers."""
    return settings | {"behavior": PLANNED, "training": settings["training"] | {"optimizers": {}}}


def with_classifier(settings: dict[str, Any]) -> dict[str, Any]:
    """``behavior_training`` with an optimiser of the classifier."""
    optimizers = dict(settings["optimizers"])
    return settings | {"optimizers": optimizers | {"classifier": optimizers["actor"]}}


def test_a_reward_function_with_a_network_is_trained_and_saved_with_the_policy(configure: Configure) -> None:
    trained(configure, LATENT)
    config = configure("learn_behavior", REWARD_ONLY) | {"reward": SUCCESS}
    config["training"] = with_classifier(config["training"]) | {"updates": 20}
    learn_behavior.run(config)
    curves = pd.read_csv("runs/behavior/reward_only-0/imagination.csv")
    assert {"imagination/success", "loss/classifier", "gradient_norm/classifier"} <= set(curves.columns)
    assert curves["loss/classifier"].nunique() > 1
    assert set(load_file(POLICY / saved_models.REWARD)) == {"classifier.weight", "classifier.bias"}
    config["training"] = configure("learn_behavior", REWARD_ONLY)["training"]
    with pytest.raises(UserError, match="classifier"):
        learn_behavior.run(config)


def test_a_token_model_without_rewards_runs_through_all_stages(configure: Configure) -> None:
    figures = trained(configure, TOKENS)
    assert {"validation/prediction", "validation/probe_r2_h5", "validation/open_loop_mse"} <= figures.keys()
    assert not [name for name in figures if "reward_error" in name or "kl" in name]
    with pytest.raises(UserError, match=r"ImaginationActorCritic with PredictedReward needs .* TokenModel"):
        learn_behavior.run(configure("learn_behavior", REWARD_ONLY))
    learn_behavior.run(configure("learn_behavior", REWARD_ONLY, "behavior=cloning"))
    evaluate.run(configure("evaluate", REWARD_ONLY))
    scores = json.loads(Path("runs/evaluation/reward_only-0/metrics.json").read_text())
    assert "evaluation/return_iqm" in scores
    assert "evaluation/imagined_return" not in scores
    assert isinstance(load_world_model(WORLD_MODEL, CPU)[0], TokenModel)
    assert registration(WORLD_MODEL, figures).kind == "world_model"


def test_fine_tuning_refuses_an_optimizer_that_no_learner_has_a_network_for(configure: Configure) -> None:
    trained(configure, LATENT)
    learn_behavior.run(configure("learn_behavior", REWARD_ONLY))
    config = configure("finetune", REWARD_ONLY)
    config["finetuning"] = config["finetuning"] | {"factors": {"encoder": 0.1}}
    config["behavior_training"] = with_classifier(config["behavior_training"])
    with pytest.raises(UserError, match="names classifier, but the networks of ImaginationActorCritic are"):
        finetune.run(config)


def test_fine_tuning_refuses_an_explorer_whose_reward_the_model_cannot_serve(configure: Configure) -> None:
    trained(configure, TOKENS)
    learn_behavior.run(configure("learn_behavior", REWARD_ONLY, "behavior=cloning"))
    config = configure("finetune", REWARD_ONLY, "behavior=cloning")
    actor_critic = configure("learn_behavior", REWARD_ONLY)
    explorer = {"behavior": actor_critic["behavior"], "reward": actor_critic["reward"]}
    config["finetuning"] = config["finetuning"] | {"explorer": explorer, "factors": {}}
    config["behavior_training"] = configure("finetune", REWARD_ONLY)["behavior_training"]
    with pytest.raises(UserError, match=r"ImaginationActorCritic with PredictedReward needs .*TokenModel"):
        finetune.run(config)


def test_a_behavior_may_say_that_it_has_nothing_to_learn() -> None:
    config = compose(["preset=tiny", "behavior=cloning", "behavior_training.networks=[]"])
    assert config["behavior_training"]["optimizers"] == {}


@pytest.mark.parametrize("world_model", [LATENT, TOKENS])
def test_a_controller_of_planned_actions_is_evaluated_saved_and_exported(
    world_model: dict[str, Any], configure: Configure
) -> None:
    trained(configure, world_model)
    learn_behavior.run(planned(configure("learn_behavior", REWARD_ONLY)))
    evaluate.run(configure("evaluate", REWARD_ONLY))
    scores = json.loads(Path("runs/evaluation/reward_only-0/metrics.json").read_text())
    assert "evaluation/return_iqm" in scores
    assert "evaluation/imagined_return" not in scores
    learner, (model, _) = load_behavior(POLICY, CPU), load_world_model(WORLD_MODEL, CPU)
    controller = learner.controller(model)
    assert isinstance(learner, PlannedActions)
    assert isinstance(controller, Controller)
    assert isinstance(controller, Exportable)
    export_policy(WORLD_MODEL, POLICY, Path("exported"), environment=None)
    policy, first = Policy("exported", count=2), np.array([True, True])
    observations = {"state": np.zeros((2, 3), np.float32)}
    actions = [policy.act(observations, first & (t == 0))[0, 0] for t in range(6)]
    np.testing.assert_allclose(actions, [-2.0, -1.0, 0.0, 1.0, 2.0, -2.0], atol=1e-6)  # then again from the first
    assert registration(POLICY, scores).figures["evaluation/return_iqm"] == scores["evaluation/return_iqm"]


def test_models_with_different_figures_are_compared_in_one_table(configure: Configure) -> None:
    """A figure that a model lacks is a gap in the table, not an error."""
    for objective, world_model in (("reward_only", TOKENS), ("reconstruction", LATENT)):
        override = f"objective={objective}"
        train_world_model.run(configure("train_world_model", override) | {"world_model": world_model})
        learn_behavior.run(planned(configure("learn_behavior", override)))
        evaluate.run(configure("evaluate", override))
    composed = compose(["preset=tiny", "dataset=pendulum_state"])
    for objectives in (["reward_only", "reconstruction"], ["reward_only"]):
        compare.run(stages.compare(composed, objectives, [0]))
        summary = pd.read_csv("runs/comparison/summary.csv")
        assert list(summary["objective"]) == objectives
        text = Path("runs/comparison/comparison.md").read_text()
        assert "| reward_only |" in text
        assert Path("runs/comparison/comparison.png").stat().st_size > 10_000
    assert "| - |" in text  # its reward errors


def test_an_objective_that_needs_an_embedding_refuses_a_model_without_embedding(configure: Configure) -> None:
    config = configure("train_world_model", "objective=contrastive") | {"world_model": TOKENS}
    with pytest.raises(UserError, match=r"contrastive objective compares states with .* TokenModel has none"):
        train_world_model.run(config)


@pytest.mark.parametrize(("node", "kind"), [(LATENT, LatentModel), (TOKENS, TokenModel)])
def test_foreign_models_and_planned_actions_come_back_from_the_registry(
    node: dict[str, Any], kind: type, configure: Configure
) -> None:
    figures = trained(configure, node)
    learn_behavior.run(planned(configure("learn_behavior", REWARD_ONLY)))
    Path("tracking").mkdir()
    client = delivery.client_of(embedded.uri())
    for folder in (WORLD_MODEL, POLICY):
        run = delivery.make_run(client, "dreamset", str(folder.parent.name))
        known = registration(folder, figures if folder == WORLD_MODEL else {})
        catalog.register(client, Runs(run, run), known, folder)
    model, _ = load_world_model(from_registry("pendulum_state.world_model"), CPU)
    assert isinstance(model, kind)
    assert isinstance(load_behavior(from_registry("pendulum_state.policy"), CPU), PlannedActions)
    (origin,) = catalog.origins(client, catalog.version(client, "pendulum_state.policy"))
    assert origin.digest == saved_models.model_digest(WORLD_MODEL)
