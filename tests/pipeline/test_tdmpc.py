"""TD-MPC from configuration to acting: published numbers, sizes, every stage, refusals."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec, ArraySpec, DataSpec, VectorStatistics
from dreamset.models.told.world_model import TOLD
from dreamset.pipeline.artifacts.saved_models import load_world_model, model_digest
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.export.program import export_policy
from dreamset.pipeline.export.standalone.policy import Policy
from dreamset.pipeline.registry.registration import registration
from dreamset.pipeline.stages import evaluate, finetune, learn_behavior, train_world_model
from dreamset.pipeline.training import checkpoint
from tests.pipeline.killing import Killed, kill_after
from tests.pipeline.test_published import at

Configure = Callable[..., dict[str, Any]]

TOLD_PARTS, HEADS = "dreamset.models.told", "dreamset.models.heads"
MODEL, ADAM, TRAINING = "world_model", "torch.optim.Adam", "world_model_training"
V2 = {
    f"{MODEL}.encoder.size": 512,
    f"{MODEL}.encoder.hidden": 256,
    f"{MODEL}.encoder.layers": 1,
    f"{MODEL}.dynamics.hidden": 512,
    f"{MODEL}.dynamics.layers": 2,
    f"{MODEL}.reward_head._target_": f"{HEADS}.SymlogTwoHotHead",
    f"{MODEL}.critics.members": 5,
    f"{MODEL}.critics.dropout": 0.01,
    f"{MODEL}.policy._target_": f"{TOLD_PARTS}.policy.SquashedGaussianPolicy",
    f"{MODEL}.target.rate": 0.01,
    f"{MODEL}.target.every": 1,
    f"{MODEL}.target_value._target_": f"{TOLD_PARTS}.critics.minimum_of_drawn",
    f"{MODEL}.policy_value._target_": f"{TOLD_PARTS}.critics.mean_of_drawn",
    f"{MODEL}.reward_weight": 0.1,
    f"{MODEL}.value_weight": 0.1,
    f"{MODEL}.entropy_weight": 1e-4,
    f"{MODEL}.rho": 0.5,
    f"{MODEL}.discount": 0.99,
    "objective._target_": "dreamset.objectives.consistency.Consistency",
    "objective.weight": 20.0,
    "objective.horizon": 3,
    "objective.rho": 0.5,
    "objective.target._target_": "dreamset.objectives.consistency.OnlineTarget",
    f"{TRAINING}.optimizer._target_": ADAM,
    f"{TRAINING}.optimizer.lr": 3e-4,
    f"{TRAINING}.factors": {"encoder": 0.3},
    f"{TRAINING}.clip_norm": 20.0,
    f"{TRAINING}.batch.size": 256,
    f"{TRAINING}.batch.length": 4,
    "acting.optimizer._target_": "dreamset.behaviors.planning.optimizers.MPPI",
    "acting.optimizer.horizon": 3,
    "acting.optimizer.candidates": 488,
    "acting.optimizer.elites": 64,
    "acting.optimizer.iterations": 6,
    "acting.optimizer.temperature": 0.5,
    "acting.optimizer.min_std": 0.05,
    "acting.optimizer.max_std": 2.0,
    "acting.proposals": 24,
    "acting.terminal_value.pessimism": 0.0,
    "acting.discount": 0.99,
    "finetuning.factors.encoder": 0.3,
}
V1 = {
    f"{MODEL}.encoder.size": 50,
    f"{MODEL}.encoder.hidden": 256,
    f"{MODEL}.encoder.norm._target_": f"{TOLD_PARTS}.norms.unnormalized",
    f"{MODEL}.dynamics.hidden": 512,
    f"{MODEL}.dynamics.norm._target_": f"{TOLD_PARTS}.norms.unnormalized",
    f"{MODEL}.dynamics.style._target_": "dreamset.models.layers.elu_orthogonal",
    f"{MODEL}.reward_head._target_": f"{HEADS}.SquaredErrorHead",
    f"{MODEL}.critics.members": 2,
    f"{MODEL}.critics.dropout": 0.0,
    f"{MODEL}.critics.output._target_": f"{HEADS}.SquaredErrorOutput",
    f"{MODEL}.critics.first._target_": "dreamset.models.layers.tanh_layer_norm",
    f"{MODEL}.policy._target_": f"{TOLD_PARTS}.policy.DeterministicPolicy",
    f"{MODEL}.policy.start": 0.5,
    f"{MODEL}.policy.end": 0.05,
    f"{MODEL}.policy.over": 25000,
    f"{MODEL}.scale": None,
    f"{MODEL}.target.rate": 0.01,
    f"{MODEL}.target.every": 2,
    f"{MODEL}.policy_value._target_": f"{TOLD_PARTS}.critics.minimum_of_drawn",
    f"{MODEL}.reward_weight": 0.5,
    f"{MODEL}.value_weight": 0.2,
    f"{MODEL}.entropy_weight": 0.0,
    "objective.weight": 2.0,
    "objective.horizon": 5,
    "objective.rho": 0.5,
    "objective.target._target_": "dreamset.objectives.consistency.EMATarget",
    "objective.target.decay": 0.99,
    "objective.target.every": 2,
    f"{TRAINING}.optimizer._target_": ADAM,
    f"{TRAINING}.optimizer.lr": 1e-3,
    f"{TRAINING}.factors": None,
    f"{TRAINING}.clip_norm": 10.0,
    f"{TRAINING}.batch.size": 512,
    f"{TRAINING}.batch.length": 6,
    "acting.optimizer.horizon": 5,
    "acting.optimizer.candidates": 512,
    "acting.optimizer.momentum": 0.1,
    "acting.terminal_value.pessimism": 1.0,
    "acting.proposals": 25,
}
PUBLISHED = {"tdmpc2": V2, "tdmpc": V1}
SIZES = {  # of 24 observed numbers and six actions; the slow copies of the critics are not counted
    "tdmpc2_1m": 1_214_651,
    "tdmpc2_5m": 4_960_618,
    "tdmpc2_19m": 18_062_442,
    "tdmpc2_48m": 47_208_298,
    "tdmpc2_317m": 312_595_417,
    "tdmpc": 1_507_693,
}

SETTINGS = (
    *("objective=consistency", "behavior=planning", "acting=mppi_critic_actor", "network.encoder_hidden=8"),
    *("world_model_training.batch.length=4", "behavior_training.batch.length=4", "finetuning.train_ratio=0.3"),
    *("acting.optimizer.horizon=3", "acting.optimizer.candidates=8", "acting.optimizer.elites=4", "acting.proposals=2"),
    *("acting.optimizer.iterations=2", "evaluation.episodes=2", "evaluation.video_episodes=1"),
)
TINY = {
    "tdmpc2": ("world_model=tdmpc2", *SETTINGS),
    "tdmpc2_continue": ("world_model=tdmpc2_continue", *SETTINGS),
    "tdmpc": ("world_model=tdmpc", "objective/target=ema", "network.critics=2", *SETTINGS),
}
WORLD_MODEL, POLICY = Path("runs/world_model/consistency-0/model"), Path("runs/behavior/consistency-0/model")
CPU = torch.device("cpu")


@pytest.mark.parametrize("preset", PUBLISHED)
def test_one_preset_has_every_published_number(preset: str) -> None:
    config, published = compose([f"preset={preset}"]), PUBLISHED[preset]
    assert {key: at(config, key) for key in published} == published
    chosen = {group: config["choices"][group] for group in ("world_model", "objective", "behavior")}
    assert chosen == {"world_model": preset, "objective": "consistency", "behavior": "planning"}


@pytest.mark.parametrize("size", SIZES)
def test_published_sizes_have_the_stated_number_of_parameters(size: str, root: Path) -> None:
    generation = "tdmpc" if size == "tdmpc" else "tdmpc2"
    data = DataSpec(
        {"state": ArraySpec((24,), "float32")},
        ActionSpec(6, discrete=False, low=(-1.0,) * 6, high=(1.0,) * 6),
        {},
        {"state": VectorStatistics((0.0,) * 24, (1.0,) * 24)},
    )
    with torch.device("meta"):
        model: TOLD = build_part(compose([f"preset={generation}", f"size={size}"])["world_model"], data)
    count = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert count == SIZES[size]
    assert f"{count:,} parameters" in (root / "configs/size" / f"{size}.yaml").read_text()


def trained(configure: Configure, kind: str, *overrides: str) -> dict[str, Any]:
    """Trains the world model; returns its metrics."""
    train_world_model.run(configure("train_world_model", *TINY[kind], *overrides))
    figures: dict[str, Any] = json.loads((WORLD_MODEL.parent / "metrics.json").read_text())
    return figures


@pytest.mark.parametrize("kind", TINY)
def test_every_form_is_trained_validated_saved_and_acts(kind: str, configure: Configure) -> None:
    figures = trained(configure, kind)
    expected = {"validation/consistency", "validation/latent_std", "validation/reward_error_h5", "validation/probe_r2"}
    assert expected | {"validation/open_loop_mse"} <= figures.keys()
    assert ("validation/continue_brier_h5" in figures) == (kind == "tdmpc2_continue")
    assert not any(name.startswith("loss/") for name in figures)
    reason = json.loads((WORLD_MODEL.parent / "calibration.json").read_text())["reward"]["reason"]
    assert "deterministic" in reason
    model, _ = load_world_model(WORLD_MODEL, CPU)
    assert isinstance(model, TOLD)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    learn_behavior.run(configure("learn_behavior", *TINY[kind]))
    evaluate.run(configure("evaluate", *TINY[kind]))
    scores = json.loads(Path("runs/evaluation/consistency-0/metrics.json").read_text())
    assert {"evaluation/return_iqm", "evaluation/imagined_return"} <= scores.keys()


def test_a_planner_with_critics_and_policy_is_exported_and_registered(configure: Configure) -> None:
    figures = trained(configure, "tdmpc2_continue", "validation.probe_decoder.updates=1")
    learn_behavior.run(configure("learn_behavior", *TINY["tdmpc2_continue"]))
    export_policy(WORLD_MODEL, POLICY, Path("exported"), environment=None)
    policy = Policy("exported", count=2)
    observations = {"state": np.array([[1.0, 0.0, 0.5], [0.0, 1.0, -2.0]], np.float32)}
    for row in range(3):
        action = policy.act(observations, np.array([row == 0] * 2))
        assert action.shape == (2, 1)
        assert (np.abs(action) <= 2).all()
    known = registration(WORLD_MODEL, figures)
    assert known.figures["validation/consistency"] == figures["validation/consistency"]
    assert registration(POLICY, {}).origins["world_model"] == model_digest(WORLD_MODEL)


@pytest.mark.parametrize("kind", ["tdmpc2", "tdmpc"])
def test_a_killed_training_resumes_to_the_same_bytes(
    kind: str, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    trained(configure, kind)
    weights = WORLD_MODEL / "model.safetensors"
    uninterrupted = weights.read_bytes()
    config = configure("train_world_model", *TINY[kind])
    for updates, killed in ((4, True), (2, False)):  # 6 in all
        with monkeypatch.context() as patch:
            kill_after(patch, updates)
            if killed:
                with pytest.raises(Killed):
                    train_world_model.run(config)
            else:
                train_world_model.run(config)
    assert weights.read_bytes() == uninterrupted


def test_fine_tuning_trains_model_critics_and_policy_together_online(configure: Configure) -> None:
    trained(configure, "tdmpc2")
    learn_behavior.run(configure("learn_behavior", *TINY["tdmpc2"]))
    before = load_file(WORLD_MODEL / "model.safetensors")
    finetune.run(configure("finetune", *TINY["tdmpc2"]))
    after = load_file(Path("runs/finetune/consistency-0/world_model/model.safetensors"))
    assert before.keys() == after.keys()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert {"encoder", "dynamics", "reward_head", "critics", "policy", "target_critics", "scale"} >= changed
    assert {"encoder", "dynamics", "critics", "policy", "target_critics"} <= changed
    curve = pd.read_csv("runs/finetune/consistency-0/curve.csv")
    assert curve["environment_steps"].iloc[-1] >= 400


def test_discrete_actions_are_refused_in_one_line(configure: Configure) -> None:
    data = DataSpec(
        {"state": ArraySpec((4,), "float32")},
        ActionSpec(2, discrete=True, low=(0.0,) * 2, high=(1.0,) * 2),
        {},
        {"state": VectorStatistics((0.0,) * 4, (1.0,) * 4)},
    )
    node = configure("train_world_model", *TINY["tdmpc2"])["world_model"]
    with pytest.raises(UserError, match="actions are discrete, but TD-MPC supports only continuous ones"):
        build_part(node, data)


def test_an_objective_that_compares_with_embeddings_is_refused(configure: Configure) -> None:
    config = configure("train_world_model", *TINY["tdmpc2"], "objective=contrastive")
    with pytest.raises(UserError, match="TOLD has none"):
        train_world_model.run(config)
