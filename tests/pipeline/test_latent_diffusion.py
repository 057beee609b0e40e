"""Latent diffusion planning through the stages, on the latents of three kinds of world models."""

import json
import logging
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dreamset.behaviors.cloning import BehaviorCloning
from dreamset.behaviors.diffusion.denoisers import TemporalUNet
from dreamset.core.capabilities import LabelsActions
from dreamset.core.errors import UserError
from dreamset.datasets import Store
from dreamset.pipeline import cli
from dreamset.pipeline.artifacts.acting import load_policy
from dreamset.pipeline.artifacts.saved_models import load_behavior, load_world_model
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.export.program import export_policy
from dreamset.pipeline.export.standalone.policy import Policy
from dreamset.pipeline.report.metrics import metric
from dreamset.pipeline.stages import evaluate, finetune, ingest, learn_behavior, train_world_model
from dreamset.pipeline.stages.settings import LearnBehavior
from tests.builders import tiny_spec
from tests.docs_blocks import blocks
from tests.pipeline.conftest import Configure

FAST = ("behavior.diffusion.steps=6", "behavior.diffusion.sampling_steps=3", "behavior.diffusion.eta=0")
DIFFUSION = ("behavior=latent_diffusion_planning", *FAST)
SHORT = ("evaluation.episodes=2", "evaluation.video_episodes=1", "dataset.environment.episode_steps=12")
RAW = ("world_model=observations", "objective=reward_only")
CODED = ("world_model=autoencoder", "objective=reward_only")
QUICK = (
    *("collection.episodes=12", "collection.reference_episodes=2", "world_model_training.updates=2"),
    *("behavior_training.updates=4", "evaluation.episodes=2", "evaluation.video_episodes=1"),
)


def folders(objective: str) -> tuple[Path, Path]:
    return Path(f"runs/world_model/{objective}-0/model"), Path(f"runs/behavior/{objective}-0/model")


def figures(stage: str, objective: str) -> Mapping[str, Any]:
    return json.loads(Path(f"runs/{stage}/{objective}-0/metrics.json").read_text())


@pytest.mark.parametrize("world", [RAW, CODED], ids=["observations", "autoencoder"])
def test_it_learns_acts_and_is_exported_without_memory_and_dynamics(
    configure: Configure, world: tuple[str, ...]
) -> None:
    train_world_model.run(configure("train_world_model", *world))
    learn_behavior.run(configure("learn_behavior", *world, *DIFFUSION))
    evaluate.run(configure("evaluate", *world, *DIFFUSION, *SHORT))
    assert np.isfinite(figures("evaluation", "reward_only")["evaluation/return_mean"])
    for stage in ("world_model", "behavior"):
        assert [name for name in figures(stage, "reward_only") if not metric(name).meaning] == []
    learned = figures("behavior", "reward_only")
    assert {"held_out/action_error", "held_out/plan_error", "diffusion/planner_error"} <= learned.keys()
    model, policy = folders("reward_only")
    export_policy(model, policy, Path("exported"), environment=None)
    theirs, states = Policy("exported", count=3, seed=3), torch.randn(12, 3, 3, generator=torch.Generator())
    ours = load_policy(policy, model).controller
    memory, generator = ours.initial(3), torch.Generator().manual_seed(3)
    for row, state in enumerate(states):
        first = torch.tensor([row == 0, row in (0, 2), row in (0, 7)])
        with torch.no_grad():
            action, memory = ours.step({"state": state}, first, memory, ours.noise(3, generator))
        np.testing.assert_allclose(theirs.act({"state": state}, first), action, atol=1e-5)


def test_ranges_come_from_the_training_split_and_are_saved_with_the_policy(configure: Configure) -> None:
    train_world_model.run(configure("train_world_model", *RAW))
    learn_behavior.run(configure("learn_behavior", *RAW, *DIFFUSION))
    model, policy = folders("reward_only")
    learned = load_behavior(policy)
    lowest, highest = learned.ranges.latents.low, learned.ranges.latents.high
    assert isinstance(learned, LabelsActions)  # for dreamset data label-actions
    reached = load_policy(policy, model).controller.plans.ranges
    assert torch.equal(reached.latents.high, highest)
    assert ((highest - lowest) > 1).all()  # cosine, sine and speed of the pendulum, standardised


def test_warnings_of_a_behaviour_are_logged(configure: Configure, caplog: pytest.LogCaptureFixture) -> None:
    train_world_model.run(configure("train_world_model", *RAW))
    with caplog.at_level(logging.WARNING):
        learn_behavior.run(configure("learn_behavior", *RAW, *DIFFUSION))
    lines = [record.message for record in caplog.records if "held_out/" in record.message]
    assert len(lines) == sum(
        figures("behavior", "reward_only")[f"held_out/{name}_error"] >= 1 for name in ("action", "plan")
    )
    assert lines  # four updates teach nothing


def test_it_plans_and_imagines_in_the_stochastic_state_of_a_recurrent_model(
    offline_runs: Path, configure: Configure, workspace: Path
) -> None:
    shutil.copytree(offline_runs, workspace / "runs")
    skip = "behavior.skip=${network.deterministic}"
    learn_behavior.run(configure("learn_behavior", *DIFFUSION, skip))
    evaluate.run(configure("evaluate", *DIFFUSION, skip, *SHORT))
    assert np.isfinite(figures("evaluation", "reconstruction")["evaluation/imagined_return"])
    learned = load_behavior(folders("reconstruction")[1])
    assert learned.ranges.latents.low.shape == (4,)  # the tiny preset's stochastic state
    finetune.run(configure("finetune", *DIFFUSION, skip, *SHORT))
    further = load_behavior(Path("runs/finetune/reconstruction-0/policy"))
    assert not torch.equal(next(learned.planner.parameters()), next(further.planner.parameters()))


def test_episodes_without_actions_reach_the_planner(configure: Configure) -> None:
    stripped = "dataset.transforms=[{_target_: dreamset.datasets.transforms.WithoutActions, keep: 4}]"
    ingest.run(configure("ingest", stripped))
    train_world_model.run(configure("train_world_model", stripped, *RAW))
    settings = LearnBehavior.of(**configure("learn_behavior", stripped, *RAW, *DIFFUSION))
    store, cpu = Store.open(settings.store), torch.device("cpu")
    model, _ = load_world_model(Path(settings.world_model), cpu)
    training = learn_behavior.start(settings, store, model, cpu)
    batches = [training.sampler.sample() for _ in range(4)]
    marks = torch.cat([batch.acted for batch in batches if batch.acted is not None])
    assert bool(marks.any())
    assert not bool(marks.all())
    figures = [training.trainer.step(batch) for batch in batches]
    assert all(bool(torch.isfinite(value)) for step in figures for value in step.values())


def test_a_resumed_training_keeps_its_ranges(configure: Configure) -> None:
    train_world_model.run(configure("train_world_model", *RAW))
    learned = []
    for updates in (4, 4):
        learn_behavior.run(configure("learn_behavior", *RAW, *DIFFUSION, f"behavior_training.updates={updates}"))
        learned.append(load_behavior(folders("reward_only")[1]).state_dict())
    assert all(torch.equal(value, learned[1][name]) for name, value in learned[0].items())


def test_windows_that_are_too_short_are_refused_with_both_settings(configure: Configure) -> None:
    train_world_model.run(configure("train_world_model", *RAW))
    with pytest.raises(UserError, match=r"batch.length is 5; .*imagination.horizon=5"):
        learn_behavior.run(configure("learn_behavior", *RAW, *DIFFUSION, "behavior_training.batch.length=5"))


def test_published_preset_has_the_published_numbers() -> None:
    config = compose(["preset=latent_diffusion_planning"])
    behavior, training = config["behavior"], config["behavior_training"]
    assert (behavior["horizon"], behavior["execute"], behavior["ema"]) == (8, 4, 0.0)
    assert (behavior["diffusion"]["steps"], behavior["diffusion"]["eta"]) == (100, 1.0)
    assert behavior["diffusion"]["sampling_steps"] is None
    assert behavior["planner"]["widths"] == [256, 512, 1024]
    assert (behavior["inverse_dynamics"]["hidden"], behavior["inverse_dynamics"]["blocks"]) == (256, 3)
    assert behavior["demonstration_share"] == 0.5
    assert (training["batch"]["size"], training["batch"]["length"], training["updates"]) == (256, 9, 500_000)
    assert {node["lr"] for node in training["optimizers"].values()} == {1e-4}
    model, learning = config["world_model"], config["world_model_training"]
    assert (model["size"], model["kl_weight"]) == (16, 1e-5)
    assert (learning["batch"]["size"], learning["batch"]["length"], learning["updates"]) == (128, 1, 300_000)


@pytest.mark.parametrize(
    ("preset", "dataset", "latent"),
    [
        ("latent_diffusion_planning", "pendulum_pixels", "Autoencoder"),
        ("latent_diffusion_planning_small", "pendulum_pixels_stacked", "Autoencoder"),
        ("latent_diffusion_planning_small_state", "pendulum_state", "Observations"),
    ],
)
def test_presets_build_what_they_say(preset: str, dataset: str, latent: str) -> None:
    config = compose([f"preset={preset}", f"dataset={dataset}", "network.hidden=8", "network.depth=2"])
    assert config["world_model"]["_target_"].endswith(latent)
    planner = build_part(config["behavior"]["planner"])
    network = planner(config["behavior"]["horizon"], 4, 4)
    assert isinstance(network, TemporalUNet) == (preset == "latent_diffusion_planning")
    learner = build_part(config["behavior"], 4, tiny_spec().action)
    assert set(learner.networks()) == {name for name, node in config["behavior_training"]["optimizers"].items() if node}


@pytest.mark.slow
def test_documented_commands_lead_to_both_imitators(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for block in blocks(root / "docs/imitation.md"):
        if block.language == "python":
            exec(compile("\n" * block.line + block.code, "docs/imitation.md", "exec"), {})  # lines of the page
            continue
        for line in block.code.replace("\\\n", " ").splitlines():
            program, *arguments = shlex.split(line)
            assert program == "dreamset"
            cli.main([*arguments, *QUICK, *(FAST if "preset=latent" in line else ())])
    assert isinstance(load_behavior(folders("reward_only")[1]), BehaviorCloning)  # the last one
