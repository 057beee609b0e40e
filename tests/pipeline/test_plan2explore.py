"""Plan2Explore: its presets, and the documented way from random episodes to policies for two tasks."""

import json
import shlex
from pathlib import Path

import pandas as pd
import pytest

from dreamset.behaviors.exploration import GaussianNoise
from dreamset.behaviors.rewards import Disagreement
from dreamset.behaviors.rewards.penalty_weights import FixedWeight, TunedWeight
from dreamset.behaviors.rewards.spreads import Variance
from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec, ArraySpec, DataSpec
from dreamset.datasets import Store
from dreamset.models.recurrent.one_step import OneStepEnsemble
from dreamset.models.recurrent.world_model import WorldModel
from dreamset.pipeline import cli
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.config.instantiate import build_part
from tests.docs_blocks import blocks

FRAMES = DataSpec(
    observations={"image": ArraySpec((64, 64, 3), "uint8")},
    action=ActionSpec(6, discrete=False, low=(-1.0,) * 6, high=(1.0,) * 6),
    privileged={},
    statistics={},
)
SIZES = ("network.hidden=16", "network.deterministic=16", "network.variables=4", "network.classes=4")
SMALL = (
    *("world_model_training.updates=4", "world_model_training.batch.size=4", "world_model_training.batch.length=8"),
    *("validation.every=4", "validation.episodes=2", "validation.probe_episodes=2", "validation.horizons=[1,5]"),
    *("validation.probe_decoder.updates=2", "evaluation.episodes=2", "evaluation.resamples=100"),
    *("behavior_training.updates=3", "behavior_training.batch.size=4", "behavior_training.batch.length=8"),
    *("finetuning.environment_steps=200", "finetuning.evaluate_every=200", "finetuning.train_ratio=3"),
    "evaluation.video_episodes=1",
)
EXPLORE = Path("runs/explore")


def test_plan2explore_has_the_published_numbers() -> None:
    config = compose(["dataset=dmc_cartpole_pixels", "preset=plan2explore"])
    model: WorldModel = build_part(config["world_model"], FRAMES)
    ensemble = model.ensemble
    assert isinstance(ensemble, OneStepEnsemble)
    layers = [[layer.out_features for layer in member if hasattr(layer, "out_features")] for member in ensemble.members]
    assert layers == [[1024, 1024, 1024]] * 5
    assert (model.dynamics.cell.size, model.dynamics.latent.size, model.reward_gradient) == (400, 60, False)
    reward = build_part(config["reward"])
    assert isinstance(reward, Disagreement)
    assert isinstance(reward.spread, Variance)
    assert isinstance(reward.weight, FixedWeight)
    assert reward.weight.value == 10_000
    rates = [config["world_model_training"]["optimizer"]["lr"]]
    rates += [optimizer["lr"] for optimizer in config["behavior_training"]["optimizers"].values()]
    assert rates == [6e-4, 8e-5, 8e-5]
    assert (config["behavior"]["horizon"], config["free_nats"]) == (15, 3.0)
    finetuning = config["finetuning"]
    batch, exploration = finetuning["batch"], build_part(finetuning["exploration"])
    assert (batch["size"], batch["length"], finetuning["environments"]) == (50, 50, 1)
    assert finetuning["train_ratio"] * 500 / (batch["size"] * batch["length"]) == 100  # updates per episode
    assert isinstance(exploration, GaussianNoise)
    assert exploration.std == 0.3


def test_small_preset_is_dreamer_v3_with_curiosity_whose_scale_follows_the_model() -> None:
    config = compose(["dataset=pendulum_random", "preset=plan2explore_small_state"])
    plain = compose(["dataset=pendulum_random", "preset=small_state_v3"])
    assert config["behavior"] == plain["behavior"]
    assert config["world_model"] == plain["world_model"] | {
        "reward_gradient": False,
        "ensemble": config["world_model"]["ensemble"],
    }
    assert isinstance(build_part(config["reward"]).weight, TunedWeight)


@pytest.mark.parametrize("ensemble", ["one_step", "priors"])
def test_one_member_is_refused_when_the_configuration_is_composed(ensemble: str) -> None:
    with pytest.raises(UserError, match=r"world_model\.ensemble\.members is 1; allowed: 2 or more"):
        compose([f"world_model/ensemble={ensemble}", "world_model.ensemble.members=1"])


@pytest.mark.parametrize("preset", ["plan2explore", "plan2explore_small_state"])
def test_a_task_and_an_existing_model_replace_those_of_the_preset(preset: str) -> None:
    config = compose([f"preset={preset}", "reward=predicted", "world_model=from_registry", "adaptation=heads_only"])
    assert config["reward"]["_target_"].endswith("PredictedReward")
    assert "reward_gradient" not in config["world_model"]


def test_both_explored_datasets_read_the_same_episodes_in_the_same_environment() -> None:
    plain, spin = (compose([f"dataset=pendulum_{name}"])["dataset"] for name in ("explored", "explored_spin"))
    assert plain["source"] == spin["source"]
    assert plain["source"]["path"] == str(EXPLORE / "finetune/reconstruction-0/online")
    assert spin["environment"]["environment"] == plain["environment"]
    assert plain["environment"] == compose(["dataset=pendulum_random"])["dataset"]["environment"]


def small(command: str) -> tuple[str, ...]:
    """Overrides that make a command quick; the sizes of an existing model are its own."""
    return {"data": (), "adapt": SMALL}.get(command, (*SIZES, *SMALL))


@pytest.mark.slow
def test_documented_commands_lead_from_random_episodes_to_policies_for_two_tasks(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [
        line
        for block in blocks(root / "docs/exploration.md")
        if block.language == "bash"
        for line in block.code.splitlines()
    ]
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "dreamset"
        cli.main([*arguments, *small(arguments[0])])
    collected = Store.open(EXPLORE / "finetune/reconstruction-0/online")
    assert collected.lengths.tolist() == [101, 101]
    learned = pd.read_csv(EXPLORE / "behavior/reconstruction-0/imagination.csv")
    assert (learned["imagination/disagreement"] > 0).all()
    assert "imagination/reward" not in learned
    assert list(pd.read_csv(EXPLORE / "finetune/reconstruction-0/curve.csv")["environment_steps"]) == [0, 200]
    for task in ("explored", "explored_spin"):
        assert Store.open(f"data/stores/pendulum_{task}").lengths.tolist() == [101, 101]
    evaluated = json.loads(Path("runs/evaluation/reconstruction-0/metrics.json").read_text())
    assert "evaluation/return_iqm" in evaluated  # of the last task
    assert list(pd.read_csv("scores.csv")["episode"]) == [0, 1]
    assert Path("card/disagreement.png").exists()
    assert "mean disagreement about 200 transitions" in capsys.readouterr().out
