"""DINO-WM from configuration: published numbers, sizes, and the models that a configuration builds."""

from typing import Any

import pytest
import torch

from dreamset.core.capabilities import RewardModel
from dreamset.core.spec import ActionSpec, ArraySpec, DataSpec, VectorStatistics
from dreamset.models.attention.world_model import AttentionWorldModel
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.config.instantiate import build_part
from tests.pipeline.test_published import at

TRAINING, DYNAMICS = "world_model_training", "world_model.dynamics"
PUBLISHED = {
    f"{DYNAMICS}.history": 3,
    f"{DYNAMICS}.depth": 6,
    f"{DYNAMICS}.heads": 16,
    f"{DYNAMICS}.head_size": 64,
    f"{DYNAMICS}.hidden": 2048,
    f"{DYNAMICS}.action_code": 10,
    f"{DYNAMICS}.vector_code": 10,
    f"{DYNAMICS}.dropout": 0.1,
    f"{DYNAMICS}.change": False,
    f"{TRAINING}.optimizer._target_": "torch.optim.AdamW",
    f"{TRAINING}.optimizer.lr": 5e-4,
    f"{TRAINING}.batch.size": 32,
    f"{TRAINING}.batch.length": 4,
    "acting.optimizer._target_": "dreamset.behaviors.planning.optimizers.CEM",
    "acting.optimizer.horizon": 5,
    "acting.optimizer.candidates": 300,
    "acting.optimizer.elites": 30,
    "acting.optimizer.iterations": 30,
    "acting.optimizer.initial_std": 1.0,
}


def patches_spec(patches: int, channels: int, *, vectors: int = 0, actions: int = 10) -> DataSpec:
    observations = {
        "image": ArraySpec((96, 96, 3), "uint8"),
        "patches": ArraySpec((patches, channels), "float16", "name:0a1b"),
    }
    statistics = {"patches": VectorStatistics((0.0,), (1.0,))}
    if vectors:
        observations["state"] = ArraySpec((vectors,), "float32")
        statistics["state"] = VectorStatistics((0.0,) * vectors, (1.0,) * vectors)
    bounds = (-1.0,) * actions, (1.0,) * actions
    return DataSpec(observations, ActionSpec(actions, False, *bounds), {}, statistics)


def built(spec: DataSpec, *overrides: str) -> Any:
    with torch.device("meta"):
        return build_part(compose(list(overrides))["world_model"], spec)


def parameters(model: AttentionWorldModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_one_preset_has_every_published_number() -> None:
    config = compose(["preset=dino_wm"])
    assert {key: at(config, key) for key in PUBLISHED} == PUBLISHED
    assert config["choices"]["objective"] == "reward_only"


def test_the_published_sizes_have_about_the_published_19_million_weights() -> None:
    """Counted by hand for 196 patches of 384 features, ten actions and a vector of four numbers."""
    width = 384 + 10 + 10
    attention = width * 3 * 1024 + 1024 * width + width
    hidden = width * 2048 + 2048 + 2048 * width + width
    block = attention + hidden + 2 * 2 * width
    codes = (10 + 1) * 10 + (4 + 1) * 10
    expected = 6 * block + 3 * 196 * width + 2 * width + codes
    of_vectors = (width + 1) * 4  # not published: it predicts the vectors themselves instead of their code
    count = parameters(built(patches_spec(196, 384, vectors=4), "preset=dino_wm"))
    assert count == expected + of_vectors == 20_124_380
    assert count == pytest.approx(19e6, rel=0.06)


def test_the_small_sizes_have_tokens_of_128_numbers_and_few_weights() -> None:
    model = built(patches_spec(36, 112, vectors=4), "preset=dino_wm_small")
    assert model.dynamics.transformer.positions.shape == (2, 36, 128)
    assert parameters(model) < 300_000


def test_a_window_of_the_presets_has_one_row_more_than_the_history() -> None:
    for preset in ("dino_wm", "dino_wm_small"):
        config = compose([f"preset={preset}"])
        assert at(config, f"{TRAINING}.batch.length") == at(config, f"{DYNAMICS}.history") + 1


@pytest.mark.parametrize("ends", [False, True])
def test_rewards_and_ends_are_predicted_only_when_asked(ends: bool) -> None:
    head = ["world_model/continue_head=bernoulli"] if ends else []
    spec = patches_spec(9, 112)
    plain = built(spec, "preset=dino_wm_small", *head)
    assert not isinstance(plain, RewardModel)
    assert isinstance(built(spec, "preset=small", "world_model=dino_wm_reward", *head), RewardModel)
    assert plain.predicts_ends == ends
