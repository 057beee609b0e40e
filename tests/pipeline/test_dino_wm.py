"""DINO-WM from configuration: published numbers, sizes, and the models that a configuration builds."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from dreamset.core.capabilities import RewardModel
from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec, ArraySpec, DataSpec, VectorStatistics
from dreamset.datasets import Store
from dreamset.models.attention.world_model import AttentionWorldModel, RewardedAttentionWorldModel
from dreamset.pipeline.artifacts.saved_models import load_world_model
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.export.program import export_policy
from dreamset.pipeline.export.standalone.policy import Policy
from dreamset.pipeline.stages import collect, evaluate, ingest, learn_behavior, train_world_model
from dreamset.pipeline.stages import table as stages
from dreamset.pipeline.training import checkpoint
from tests.docs_blocks import blocks
from tests.pipeline.killing import Killed, kill_after
from tests.pipeline.test_published import at

ROOT = Path(__file__).parents[2]
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


PLAIN = ("preset=tiny", "dataset=pendulum_pixels")
TINY = (
    *PLAIN,
    *("objective=reward_only", "world_model=dino_wm_reward", "behavior=planning", "evaluation.episodes=2"),
    *("world_model.dynamics.depth=1", "world_model.dynamics.heads=2", "world_model.dynamics.head_size=4"),
    *("world_model.dynamics.hidden=8", "world_model_training.batch.length=4", "network.depth=2"),
    *("acting.optimizer.horizon=3", "acting.optimizer.candidates=8", "acting.optimizer.elites=2"),
    "acting.optimizer.iterations=2",
)
WORLD_MODEL, POLICY = Path("runs/world_model/reward_only-0/model"), Path("runs/behavior/reward_only-0/model")


def composed(*overrides: str) -> dict[str, Any]:
    """The configuration with the transforms and the environment of docs/dino_wm.md, but a tiny encoder."""
    (documented,) = (block.code for block in blocks(ROOT / "docs/dino_wm.md") if block.language == "yaml")
    encoder = "dreamset.vision.EfficientNetLite0"
    assert documented.count(encoder) == 2
    config = compose([*TINY, *overrides])
    config["dataset"] |= yaml.safe_load(documented.replace(encoder, "tests.pipeline.squares.Squares"))
    return config


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recording of the pendulum, ingested in blocks of five actions with patch features."""
    folder = tmp_path_factory.mktemp("patches")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DREAMSET_TRACKING", "off")
        patch.chdir(folder)
        collect.run(stages.collect(compose([*PLAIN])))
        ingest.run(stages.ingest(composed()))
    return folder


@pytest.fixture
def configure(store: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    shutil.copytree(store / "data", tmp_path / "data")
    return lambda stage, *overrides: stages.STAGES[stage](composed(*overrides))


def test_a_model_of_patch_features_runs_through_all_stages(configure: Callable[..., dict[str, Any]]) -> None:
    stored = Store.open("data/stores/pendulum_pixels").spec
    assert stored.observations["patches"] == ArraySpec((16, 3), "float16", "squares:0a1b")
    assert stored.action.size == 5
    train_world_model.run(configure("train_world_model"))
    figures = json.loads((WORLD_MODEL.parent / "metrics.json").read_text())
    expected = {"prediction", "prediction_share", "open_loop_mse", "probe_r2", "probe_r2_h5", "reward_error_h5"}
    assert {f"validation/{name}" for name in expected} <= figures.keys()
    assert (WORLD_MODEL.parent / "media" / "open_loop_image.mp4").exists()
    learn_behavior.run(configure("learn_behavior"))
    evaluate.run(configure("evaluate"))
    scores = json.loads(Path("runs/evaluation/reward_only-0/metrics.json").read_text())
    assert {"evaluation/return_iqm", "evaluation/imagined_return"} <= scores.keys()
    model, _ = load_world_model(WORLD_MODEL, torch.device("cpu"))
    assert isinstance(model, RewardedAttentionWorldModel)
    assert model.patches == "patches"
    export_policy(WORLD_MODEL, POLICY, Path("exported"), environment=None)
    policy = Policy("exported", count=2)
    for row in range(3):
        action = policy.act({"patches": np.full((2, 16, 3), row / 3, np.float16)}, np.array([row == 0] * 2))
        assert action.shape == (2, 5)
        assert (np.abs(action) <= 2).all()


def test_a_killed_training_with_dropout_resumes_to_the_same_bytes(
    configure: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    config = configure("train_world_model", "world_model.dynamics.dropout=0.5")
    train_world_model.run(config)
    weights = WORLD_MODEL / "model.safetensors"
    uninterrupted = weights.read_bytes()
    with monkeypatch.context() as patch:
        kill_after(patch, 4)
        with pytest.raises(Killed):
            train_world_model.run(config)
    train_world_model.run(config)
    assert weights.read_bytes() == uninterrupted


def test_a_return_without_a_model_of_rewards_is_refused_in_one_line(configure: Callable[..., dict[str, Any]]) -> None:
    train_world_model.run(configure("train_world_model", "world_model=dino_wm"))
    with pytest.raises(UserError, match=r"AttentionWorldModel lacks \(RewardModel: [^\n]*\)$"):
        learn_behavior.run(configure("learn_behavior", "world_model=dino_wm"))
