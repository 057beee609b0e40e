"""Presets of one generation select its parts; overrides come after them."""

import pytest

from dreamset.behaviors.rewards.functions import PenalizedReward
from dreamset.core.spec import ActionSpec, ArraySpec, DataSpec
from dreamset.models.recurrent.world_model import WorldModel
from dreamset.pipeline.config.compose import Config, compose
from dreamset.pipeline.config.instantiate import build_part


def composed(generation: str, *overrides: str) -> Config:
    return compose(["dataset=pendulum_state", f"preset=small_state_{generation}", *overrides])


@pytest.mark.parametrize("generation", ["v2", "v3"])
def test_a_preset_of_a_generation_selects_model_behavior_and_decoder(generation: str) -> None:
    preset = composed(generation)
    by_name = compose(["dataset=pendulum_state", f"world_model=dreamer_{generation}", f"behavior=dreamer_{generation}"])
    assert preset["choices"] | {"preset": ""} == by_name["choices"] | {"preset": ""}
    assert preset["objective"]["decoder"].keys() == by_name["objective"]["decoder"].keys()
    for part in ("dynamics", "reward_head", "continue_head", "divergence"):
        assert preset["world_model"][part].keys() == by_name["world_model"][part].keys()
    assert preset["behavior"].keys() == by_name["behavior"].keys()


def test_settings_of_a_preset_reach_the_slow_critic_and_the_divergence() -> None:
    second, third = composed("v2"), composed("v3")
    assert second["behavior"]["slow_critic"]["every"] == 5
    assert third["behavior"]["slow_critic"]["decay"] == 0.9
    assert second["world_model"]["divergence"]["free_nats"] == third["world_model"]["divergence"]["free_bits"] == 0
    assert compose(["behavior=dreamer_v2"])["behavior"]["slow_critic"]["every"] == 100
    assert compose(["behavior=dreamer_v3"])["behavior"]["slow_critic"]["decay"] == 0.98


@pytest.mark.parametrize("generation", ["v2", "v3"])
def test_an_override_replaces_the_behavior_of_a_preset(generation: str) -> None:
    config = composed(generation, "behavior=cloning", "+behavior_training=cloning")
    assert config["choices"]["behavior"] == "cloning"
    assert set(config["behavior"]) == {"_target_", "actor"}
    assert config["behavior_training"]["updates"] == 3000


@pytest.mark.parametrize("dataset", ["vd4rl_walker_walk", "vd4rl_cheetah_run"])
def test_offline_dreamer_v2_has_the_numbers_of_its_published_code(dataset: str) -> None:
    config = compose([f"dataset={dataset}", "dataset.source.path=somewhere", "preset=offline_dreamer_v2"])
    environment, behavior = config["dataset"]["environment"], config["behavior"]
    assert f"vd4rl_{environment['domain']}_{environment['task']}" == config["dataset"]["name"] == dataset
    assert (environment["action_repeat"], environment["image_size"]) == (2, 64)
    assert (behavior["horizon"], behavior["slow_critic"]["every"]) == (5, 100)
    assert (behavior["discount"], behavior["lambda_"]) == (0.99, 0.95)
    divergence = config["world_model"]["divergence"]
    assert (divergence["alpha"], divergence["weight"], divergence["free_nats"]) == (0.8, 1.0, 1.0)
    for training, rate in ((config["world_model_training"]["optimizer"], 3e-4), *_behavior_optimizers(config)):
        assert training["lr"] == rate
        assert training["lr"] * training["weight_decay"] == pytest.approx(1e-6, rel=1e-3)
    reward = build_part(config["reward"])
    assert isinstance(reward, PenalizedReward)
    frames, action = ArraySpec((64, 64, 3), "uint8"), ActionSpec(6, discrete=False, low=(-1.0,) * 6, high=(1.0,) * 6)
    spec = DataSpec(observations={"image": frames}, action=action, privileged={}, statistics={})
    model: WorldModel = build_part(config["world_model"], spec)
    assert model.ensemble is not None
    assert model.feature_size == 200 + 32 * 32


def _behavior_optimizers(config: Config) -> list[tuple[dict[str, float], float]]:
    training = config["behavior_training"]
    return [(optimizer, 8e-5) for optimizer in training["optimizers"].values()]
