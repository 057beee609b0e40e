"""Presets that are made for one generation choose its parts, and give way to those that are asked for."""

import pytest

from dreamset.pipeline.compose import Config, compose


def composed(generation: str, *overrides: str) -> Config:
    return compose(["dataset=pendulum_state", f"preset=small_state_{generation}", *overrides])


@pytest.mark.parametrize("generation", ["v2", "v3"])
def test_the_preset_alone_chooses_model_behavior_and_decoder(generation: str) -> None:
    preset = composed(generation)
    chosen = compose(["dataset=pendulum_state", f"world_model=dreamer_{generation}", f"behavior=dreamer_{generation}"])
    assert preset["choices"] | {"preset": ""} == chosen["choices"] | {"preset": ""}
    assert preset["objective"]["decoder"].keys() == chosen["objective"]["decoder"].keys()
    for part in ("dynamics", "reward_head", "continue_head", "divergence"):
        assert preset["world_model"][part].keys() == chosen["world_model"][part].keys()
    assert preset["behavior"].keys() == chosen["behavior"].keys()


def test_their_settings_reach_the_slow_critics_and_the_divergences() -> None:
    second, third = composed("v2"), composed("v3")
    assert second["behavior"]["slow_critic"]["every"] == 5
    assert third["behavior"]["slow_critic"]["decay"] == 0.9
    assert second["world_model"]["divergence"]["free_nats"] == third["world_model"]["divergence"]["free_bits"] == 0
    assert compose(["behavior=dreamer_v2"])["behavior"]["slow_critic"]["every"] == 100
    assert compose(["behavior=dreamer_v3"])["behavior"]["slow_critic"]["decay"] == 0.98


@pytest.mark.parametrize("generation", ["v2", "v3"])
def test_another_behavior_may_be_learned_on_their_models(generation: str) -> None:
    config = composed(generation, "behavior=cloning", "+behavior_training=cloning")
    assert config["choices"]["behavior"] == "cloning"
    assert set(config["behavior"]) == {"_target_", "actor"}
    assert config["behavior_training"]["updates"] == 3000
