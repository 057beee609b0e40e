"""Training stages: their outputs, resuming after a kill, and results that repeat to the byte."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from dreamset.core.errors import UserError
from dreamset.datasets import Store
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.stages import compare, evaluate, learn_behavior, train_world_model
from dreamset.pipeline.stages import table as stages
from dreamset.pipeline.training import checkpoint
from tests.pipeline.conftest import TINY
from tests.pipeline.killing import Killed, kill_after

Configure = Callable[..., dict[str, Any]]

WEIGHTS = Path("runs/world_model/reconstruction-0/model/model.safetensors")
POLICY = Path("runs/behavior/reconstruction-0/model/model.safetensors")


@pytest.fixture(autouse=True)
def _checkpoint_after_every_update(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)


def test_a_killed_world_model_training_resumes_to_the_same_bytes(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure("train_world_model")
    train_world_model.run(config)
    uninterrupted = WEIGHTS.read_bytes()
    history = pd.read_csv("runs/world_model/reconstruction-0/validation.csv")
    WEIGHTS.unlink()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, 4)
        train_world_model.run(config)
    assert not WEIGHTS.exists()
    with monkeypatch.context() as patch:
        kill_after(patch, 2)  # 4 of 6 updates are done
        train_world_model.run(config)
    assert WEIGHTS.read_bytes() == uninterrupted
    pd.testing.assert_frame_equal(pd.read_csv("runs/world_model/reconstruction-0/validation.csv"), history)
    assert not list(Path(".checkpoints").glob("*"))


def test_a_killed_behavior_training_resumes_to_the_same_bytes(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_world_model.run(configure("train_world_model"))
    config = configure("learn_behavior")
    learn_behavior.run(config)
    uninterrupted = POLICY.read_bytes()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, 3)
        learn_behavior.run(config)
    with monkeypatch.context() as patch:
        kill_after(patch, 1)
        learn_behavior.run(config)
    assert POLICY.read_bytes() == uninterrupted


@pytest.mark.parametrize("weight", ["tuned", "calibrated"])
def test_a_killed_pessimistic_training_resumes_to_the_same_bytes(
    weight: str, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ["world_model/ensemble=priors", "reward=mean_disagreement", f"reward/weight={weight}"]
    train_world_model.run(configure("train_world_model", *overrides))
    config = configure("learn_behavior", *overrides)
    learn_behavior.run(config)
    uninterrupted = POLICY.read_bytes()
    curves = pd.read_csv("runs/behavior/reconstruction-0/imagination.csv")
    assert (curves["imagination/penalty"] < 0).all()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, 3)
        learn_behavior.run(config)
    with monkeypatch.context() as patch:
        kill_after(patch, 1)
        learn_behavior.run(config)
    assert POLICY.read_bytes() == uninterrupted
    learn_behavior.run(configure("learn_behavior", overrides[0], "reward=predicted"))
    assert POLICY.read_bytes() != uninterrupted


def test_pessimism_without_an_ensemble_is_refused_with_the_remedy(configure: Configure) -> None:
    train_world_model.run(configure("train_world_model"))
    with pytest.raises(UserError, match="world_model/ensemble=priors"):
        learn_behavior.run(configure("learn_behavior", "reward=mixture_spread"))


def test_a_training_with_other_settings_never_resumes_from_a_checkpoint(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, 4)
        train_world_model.run(configure("train_world_model"))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, 5)  # one too few for a training from scratch
        train_world_model.run(configure("train_world_model", "weights.kl=0.5"))


def test_different_seeds_give_different_models(configure: Configure) -> None:
    train_world_model.run(configure("train_world_model"))
    train_world_model.run(configure("train_world_model", "seed=1"))
    assert WEIGHTS.read_bytes() != Path("runs/world_model/reconstruction-1/model/model.safetensors").read_bytes()


def test_learning_a_behavior_needs_no_environment_and_changes_no_weight_of_the_model(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_world_model.run(configure("train_world_model"))
    before = WEIGHTS.read_bytes()
    monkeypatch.setattr("dreamset.environments.pendulum.make", lambda **_: pytest.fail("an environment was made"))
    learn_behavior.run(configure("learn_behavior"))
    assert WEIGHTS.read_bytes() == before


def test_environment_with_other_observations_is_refused_by_its_shapes(configure: Configure) -> None:
    train_world_model.run(configure("train_world_model"))
    learn_behavior.run(configure("learn_behavior"))
    message = r"does not fit the model's data: observation 'state' is missing, .* It offers image: uint8 \[32, 32, 3\]"
    with pytest.raises(UserError, match=message):
        evaluate.run(configure("evaluate", "dataset.environment.image_size=32"))


def test_outputs_have_all_metrics_curves_and_media(configure: Configure) -> None:
    train_world_model.run(configure("train_world_model"))
    learn_behavior.run(configure("learn_behavior"))
    evaluate.run(configure("evaluate"))
    model = json.loads(Path("runs/world_model/reconstruction-0/metrics.json").read_text())
    expected = {"validation/kl", "validation/probe_r2", "validation/open_loop_mse", "cost/train_seconds"}
    assert model["cost/train_threads"] == torch.get_num_threads()  # results of image models depend on it
    assert expected | {f"validation/reward_error_h{horizon}" for horizon in (0, 1, 5)} <= model.keys()
    history = pd.read_csv("runs/world_model/reconstruction-0/validation.csv")
    assert history["update"].tolist() == [3, 6]
    assert Path("runs/world_model/reconstruction-0/media/open_loop_state.png").stat().st_size > 1000
    episodes = pd.read_csv("runs/evaluation/reconstruction-0/episodes.csv")
    assert episodes["seed"].tolist() == [1_000_000, 1_000_001, 1_000_002, 1_000_003]
    scores = json.loads(Path("runs/evaluation/reconstruction-0/metrics.json").read_text())
    assert scores["evaluation/return_mean"] == pytest.approx(episodes["return"].mean())
    assert (
        scores["evaluation/return_iqm_low"] <= scores["evaluation/return_iqm"] <= scores["evaluation/return_iqm_high"]
    )
    lineage = json.loads(Path("runs/world_model/reconstruction-0/model/model.json").read_text())["lineage"]
    low, high = lineage["reference"]["low"], lineage["reference"]["high"]
    normalized = 100 * (scores["evaluation/return_mean"] - low) / (high - low)
    assert scores["evaluation/normalized_mean"] == pytest.approx(normalized)
    assert lineage["dataset_digest"] == Store.open("data/stores/pendulum_state").digest


def test_posterior_collapse_is_reported_with_the_settings_to_change(
    configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    train_world_model.run(configure("train_world_model"))
    assert "validation/kl" not in caplog.text
    outweighed = ["weights.kl=1000", "world_model_training.updates=100", "world_model_training.optimizer.lr=0.03"]
    train_world_model.run(configure("train_world_model", *outweighed))
    assert "validation/kl" in caplog.text
    assert "world_model_training.optimizer.lr" in caplog.text


def test_evaluating_twice_gives_the_same_episodes(configure: Configure) -> None:
    train_world_model.run(configure("train_world_model"))
    learn_behavior.run(configure("learn_behavior"))
    evaluate.run(configure("evaluate"))
    first = Path("runs/evaluation/reconstruction-0/episodes.csv").read_text()
    evaluate.run(configure("evaluate"))
    assert Path("runs/evaluation/reconstruction-0/episodes.csv").read_text() == first


def test_windows_longer_than_every_episode_are_refused_with_the_remedy(configure: Configure) -> None:
    config = configure("train_world_model", "world_model_training.batch.length=500")
    with pytest.raises(UserError, match=r"500 rows.*101.*lower"):
        train_world_model.run(config)


def test_horizons_beyond_every_episode_are_refused_by_key(configure: Configure) -> None:
    with pytest.raises(UserError, match=r"validation\.horizons"):
        train_world_model.run(configure("train_world_model", "validation.horizons=[1,200]"))


def test_an_objective_that_needs_missing_observations_is_refused_by_name(configure: Configure) -> None:
    with pytest.raises(UserError, match=r"\['sound'\].*\['state'\]"):
        train_world_model.run(configure("train_world_model", "objective.names=[sound]"))


def test_a_model_of_another_dataset_is_refused(configure: Configure) -> None:
    train_world_model.run(configure("train_world_model"))
    learn_behavior.run(configure("learn_behavior"))
    for stage in (learn_behavior, evaluate):
        config = configure(stage.__name__.rpartition(".")[2])
        with pytest.raises(
            UserError, match=r"reconstruction-0/model was trained on pendulum_state, not on pendulum_spin"
        ):
            stage.run(config | {"dataset": "pendulum_spin"})


def test_evaluation_without_an_environment_has_no_return_and_says_why(configure: Configure) -> None:
    train_world_model.run(configure("train_world_model"))
    learn_behavior.run(configure("learn_behavior"))
    config = configure("evaluate", "dataset.environment=null")
    with pytest.raises(UserError, match="was trained on pendulum_state"):
        evaluate.run(config | {"dataset": "pendulum_spin"})
    lines = evaluate.run(config)
    assert "dataset.environment is null, so the policy was not tried" in lines[0]
    output = Path("runs/evaluation/reconstruction-0")
    assert set(json.loads((output / "metrics.json").read_text())) == {"evaluation/dataset_return"}
    assert pd.read_csv(output / "episodes.csv").empty
    composed = compose([*TINY, "dataset.environment=null"])
    line = compare.run(stages.compare(composed, ["reconstruction"], [0]))[0]
    assert "No policy was tried" in line
    page = Path("runs/comparison/report.html").read_text()
    assert "reconstruction: no policy was evaluated" in page
    assert "episodes per training" not in page
    assert "reconstruction predicts rewards best (reward error +5 " in line
    summary = pd.read_csv("runs/comparison/summary.csv")
    assert summary["return_iqm"].isna().all()
    assert summary["probe_r2"].notna().all()
    assert Path("runs/comparison/report.html").stat().st_size > 10_000
    assert Path("runs/comparison/comparison.png").stat().st_size > 1_000
