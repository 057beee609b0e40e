"""Frozen features through the stages: a column of the dataset, an objective, and acting with and without features.

The commands of docs/frozen_features.md run, too.
"""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamset.core.errors import UserError
from dreamset.datasets import Store
from dreamset.pipeline import cli
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.export.program import export_policy
from dreamset.pipeline.export.standalone.policy import Policy
from dreamset.pipeline.stages import collect, evaluate, finetune, ingest, learn_behavior, train_world_model
from dreamset.pipeline.stages import table as stages
from tests.docs_blocks import blocks

PIXELS = ["preset=tiny", "dataset=puck_pixels", "collection.episodes=6", "dataset.environment.episode_steps=30"]
PATCHES = [
    "preset=tiny",
    "dataset=puck_patches",
    "objective=frozen_features",
    "dataset/encoder=random",
    "dataset.encoder.encoder.size=32",
    "dataset.environment.environment.episode_steps=30",
    "evaluation.episodes=2",
]
ONLY_IMAGE = "world_model.encoder.names=[image]"
MODEL, POLICY = Path("runs/world_model/frozen_features-0/model"), Path("runs/behavior/frozen_features-0/model")


def settings(stage: str, *overrides: str) -> dict[str, Any]:
    return stages.STAGES[stage](compose([*PATCHES, *overrides]))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the dataset of features."""
    folder = tmp_path_factory.mktemp("puck")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DREAMSET_TRACKING", "off")
        patch.chdir(folder)
        collect.run(stages.collect(compose(PIXELS)))
        ingest.run(stages.ingest(compose(PIXELS)))
        ingest.run(settings("ingest"))
    return folder


@pytest.fixture(autouse=True)
def _data(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "data", tmp_path / "data")


def learn(*overrides: str) -> None:
    train_world_model.run(settings("train_world_model", *overrides))
    learn_behavior.run(settings("learn_behavior", *overrides))


def test_model_that_reads_only_images_predicts_features_and_acts_without_them() -> None:
    learn(ONLY_IMAGE)
    figures = json.loads((MODEL.parent / "metrics.json").read_text())
    assert {"validation/probe_r2", "validation/open_loop_mse", "validation/reward_error_h0"} <= figures.keys()
    media = sorted(path.name for path in (MODEL.parent / "media").iterdir())
    assert media == ["open_loop_image.mp4", "open_loop_image.png"]  # features cannot be seen
    named = ["dataset.name=puck_patches", "objective=frozen_features", "evaluation.episodes=2"]
    evaluate.run(stages.evaluate(compose([*PIXELS, *named])))  # whose environment has no features
    figures = json.loads(Path("runs/evaluation/frozen_features-0/metrics.json").read_text())
    assert np.isfinite(figures["evaluation/return_mean"])
    export_policy(MODEL, POLICY, Path("exported"), environment=None)
    action = Policy("exported", count=1).act({"image": np.zeros((1, 32, 32, 3), np.uint8)}, np.array([True]))
    assert action.shape == (1, 2)


def test_model_that_reads_features_acts_and_learns_in_an_environment_that_computes_them() -> None:
    learn()
    evaluate.run(settings("evaluate"))
    finetune.run(settings("finetune"))
    (online,) = Path("runs").rglob("dataset.json")
    store = Store.open(online.parent)
    assert store.spec.observations["patches"] == Store.open("data/stores/puck_patches").spec.observations["patches"]


def test_features_of_another_encoder_are_refused_before_the_first_episode() -> None:
    learn()
    with pytest.raises(UserError, match=r"'patches' is float16 .* of the encoder random_efficientnet_lite0:"):
        evaluate.run(settings("evaluate", "dataset.encoder.seed=1"))


def test_commands_of_the_page_run(root: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "data")
    for block in blocks(root / "docs/frozen_features.md"):
        for line in block.code.splitlines() if block.language == "bash" else ():
            program, *arguments = shlex.split(line)
            assert program == "dreamset"
            own = PATCHES[4:] if "dataset=puck_patches" in arguments else PIXELS[2:]
            cli.main([*(text for text in arguments if not text.startswith("preset=")), "preset=tiny", *own])
    assert Path("runs/evaluation/frozen_features-0/metrics.json").exists()


def test_settings_of_the_page_are_accepted(root: Path, tmp_path: Path) -> None:
    (code,) = (block.code for block in blocks(root / "docs/frozen_features.md") if block.language == "yaml")
    shutil.copytree(root / "configs", tmp_path / "configs")
    source = (
        "name: mine\nsource: {_target_: dreamset.datasets.store_source.StoreSource, path: data/stores/puck_pixels}\n"
    )
    (tmp_path / "configs/dataset/mine.yaml").write_text(code.replace("# name, source and split as before\n", source))
    config = compose(["preset=tiny", "dataset=mine"])
    encoder = {"_target_": "dreamset.vision.EfficientNetLite0", "block": 10, "size": 96, "pool": 1}
    assert config["dataset"]["transforms"][0]["encoder"] == config["dataset"]["environment"]["encoder"] == encoder
