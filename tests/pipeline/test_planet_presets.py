"""PlaNet's presets: the published numbers, and small sizes that plan and explore as published."""

import pytest
import torch

from dreamset.behaviors.exploration import GaussianNoise
from dreamset.behaviors.planning.optimizers import CEM
from dreamset.core.spec import ActionSpec, ArraySpec, DataSpec
from dreamset.datasets.splits import split_episodes
from dreamset.models.recurrent.divergences import FreeNatsKL, OvershootingKL
from dreamset.models.recurrent.world_model import WorldModel
from dreamset.pipeline.config.compose import Config, compose
from dreamset.pipeline.config.instantiate import build_part

PRESETS = ("planet", "planet_small", "planet_small_state")
FRAMES = DataSpec(
    observations={"image": ArraySpec((64, 64, 3), "uint8")},
    action=ActionSpec(6, discrete=False, low=(-1.0,) * 6, high=(1.0,) * 6),
    privileged={},
    statistics={},
)


def composed(preset: str, *overrides: str) -> Config:
    dataset = "pendulum_state" if preset.endswith("state") else "pendulum_pixels"
    return compose([f"dataset={dataset}", f"preset={preset}", *overrides])


def built(preset: str, *overrides: str) -> WorldModel:
    model: WorldModel = build_part(composed(preset, *overrides)["world_model"], FRAMES)
    return model


def test_planet_has_the_published_model() -> None:
    model = built("planet")
    divergence = model.divergence
    assert isinstance(divergence, FreeNatsKL)
    assert (divergence.weight, divergence.free_nats) == (1.0, 3.0)
    latent, cell = model.dynamics.latent, model.dynamics.cell
    assert (latent.size, latent.min_std, cell.size) == (30, 0.1, 200)
    assert (model.reward_weight, model.continue_head) == (10.0, None)
    assert [layer.out_features for layer in model.reward_head.layers if hasattr(layer, "out_features")] == [200, 200, 1]
    kinds = {type(layer) for layer in model.modules()}
    assert torch.nn.ReLU in kinds
    assert torch.nn.ELU not in kinds


def test_free_nats_of_planet_apply_to_every_row_as_in_its_code() -> None:
    kl = torch.tensor([[2.0, 5.0]])  # the mean exceeds 3, the first row does not
    assert built("planet").divergence.limited(kl, 3.0).tolist() == [[3.0, 5.0]]


def test_planet_has_the_published_training_and_planner() -> None:
    config = composed("planet")
    training, optimizer = config["world_model_training"], config["world_model_training"]["optimizer"]
    assert (optimizer["_target_"], optimizer["lr"], optimizer["eps"]) == ("torch.optim.Adam", 1e-3, 1e-4)
    assert (training["clip_norm"], training["scheduler"]) == (1000.0, None)
    assert (training["batch"]["size"], training["batch"]["length"]) == (50, 50)
    planning = build_part(config["behavior"], 8, FRAMES.action).planning
    assert (planning.discount, planning.terminal_value, planning.proposals, planning.warm_start) == (
        1.0,
        None,
        0,
        False,
    )
    search = planning.optimizer
    assert (search.horizon, search.candidates, search.elites, search.iterations) == (12, 1000, 100, 10)
    assert search.initial_std == 1.0
    finetuning = config["finetuning"]
    rows = finetuning["batch"]["size"] * finetuning["batch"]["length"]
    assert finetuning["environments"] == 1
    assert finetuning["train_ratio"] * 250 / rows == 100  # updates per episode of 250 steps


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_plans_by_the_cross_entropy_method_and_explores_with_noise(preset: str) -> None:
    config = composed(preset)
    assert config["choices"]["behavior"] == "planning"
    assert config["acting"] == config["behavior"]["planning"]
    assert isinstance(build_part(config["acting"]).optimizer, CEM)
    exploration = build_part(config["finetuning"]["exploration"])
    assert isinstance(exploration, GaussianNoise)
    assert exploration.std == 0.3


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_can_overshoot(preset: str) -> None:
    model = built(preset, "world_model/divergence=overshooting", "world_model.divergence.distance=7")
    assert isinstance(model.divergence, OvershootingKL)
    assert model.divergence.distance == 7


def test_online_learning_starts_with_five_random_episodes_of_the_same_task() -> None:
    seed, whole = (compose([f"dataset={name}"])["dataset"] for name in ("pendulum_random", "pendulum_state"))
    assert seed["environment"] == whole["environment"]
    assert seed["recording"]["policy"] == seed["reference"]["low"]
    split = split_episodes(seed["recording"]["episodes"], **seed["split"])
    assert len(split["train"]) == 5
