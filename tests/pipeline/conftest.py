"""A tiny dataset, recorded and ingested once, and stage configurations that use it."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.stages import collect, ingest, learn_behavior, train_world_model
from dreamset.pipeline.stages import table as stages

TINY = ["preset=tiny", "dataset=pendulum_state"]

Configure = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``data/`` as the stages ``collect`` and ``ingest`` leave it."""
    folder = tmp_path_factory.mktemp("tiny")
    before = Path.cwd()
    os.environ["DREAMSET_TRACKING"] = "off"  # before any test's own fixtures
    os.chdir(folder)
    try:
        config = compose(TINY)
        collect.run(stages.collect(config))
        ingest.run(stages.ingest(config))
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def workspace(tiny_data: Path, tmp_path: Path) -> Path:
    """The working folder with a copy of the tiny data."""
    shutil.copytree(tiny_data / "data", tmp_path / "data")
    return tmp_path


@pytest.fixture
def configure(workspace: Path) -> Configure:  # noqa: ARG001 - the configuration refers to the working folder
    """``configure("train_world_model", "objective=contrastive")``: one stage's configuration."""

    def stage_config(stage: str, *overrides: str) -> dict[str, Any]:
        return stages.STAGES[stage](compose([*TINY, *overrides]))

    return stage_config


@pytest.fixture(autouse=True)
def _no_tracking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switches tracking off, because MLflow takes seconds to load. Tests of tracking switch it on."""
    monkeypatch.setenv("DREAMSET_TRACKING", "off")


@pytest.fixture(scope="module")
def offline_runs(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``runs/`` with a model and a policy that were trained offline."""
    folder = tmp_path_factory.mktemp("offline")
    (folder / "data").symlink_to(tiny_data / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DREAMSET_TRACKING", "off")
        patch.chdir(folder)
        config = compose(TINY)
        train_world_model.run(stages.train_world_model(config))
        learn_behavior.run(stages.learn_behavior(config))
    return folder / "runs"
