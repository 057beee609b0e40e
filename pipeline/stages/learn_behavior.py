"""Stage ``learn_behavior``: a policy on top of a frozen world model; no environment is touched."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from dreamset.behaviors.base import Learner, RewardFunction
from dreamset.core.capabilities import Representation, require
from dreamset.core.files import file_sha256, replaced_folder
from dreamset.datasets import Store
from dreamset.pipeline.artifacts.saved_models import (
    POLICY,
    SavedModel,
    load_world_model,
    model_digest,
    require_dataset,
    save_model,
    save_reward,
)
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.files import digest, write_csv, write_json
from dreamset.pipeline.registry.registration import registration
from dreamset.pipeline.tracking import reporting
from dreamset.pipeline.training.behavior_trainer import BehaviorTrainer
from dreamset.pipeline.training.checkpoint import Checkpoint
from dreamset.pipeline.training.devices import choose_device
from dreamset.pipeline.training.loop import Training, advance, build_sampler

LOG_EVERY = 10  # updates between the curves' points


def run(config: dict[str, Any]) -> None:
    """Writes ``output``; see ``stages.learn_behavior`` for the configuration."""
    device = choose_device(config["device"])
    store = Store.open(config["store"])
    folder = Path(config["world_model"])
    model, described = load_world_model(folder, device)
    require_dataset(described, config["dataset"], folder)
    behavior = build_behavior(config, model, described, device)
    learning = start(config, store, behavior, model, device)
    key = digest(yaml.safe_dump(config, sort_keys=True), file_sha256(folder / "model.safetensors"), store.digest)
    checkpoint = Checkpoint(Path(config["checkpoints"]) / f"behavior-{key}")
    saved = checkpoint.load()
    if saved is not None:
        learning.load_state_dict(saved)
    with reporting.stage_run(
        "learn_behavior", root=reporting.root_name(described.lineage), lineage=described.lineage["key"]
    ) as tracked:
        tracked.parameters(config)
        tracked.dataset(reporting.reference(store, described.lineage["dataset"]))
        learn(config, learning, checkpoint, tracked, device)
        finish(config, learning, described, tracked)
    checkpoint.remove()


def build_behavior(
    config: Mapping[str, Any], model: Representation[Any], described: SavedModel, device: torch.device
) -> Learner:
    """The learner with its networks, initialised from the seed.

    Raises:
        UserError: if the world model lacks what the learner needs.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config["seed"])
        behavior: Learner = build_part(config["behavior"], model.feature_size, described.spec.action)
    require(model, *behavior.needs, by=type(behavior).__name__)
    return behavior.to(device)


def start(
    config: dict[str, Any], store: Store, behavior: Learner, model: Representation[Any], device: torch.device
) -> Training[BehaviorTrainer]:
    """A new learner and a sampler at its first draw."""
    settings = config["training"]
    reward: RewardFunction = build_part(config["reward"])
    require(model, *behavior.needed(reward), by=f"{type(behavior).__name__} with {type(reward).__name__}")
    generator = torch.Generator(device).manual_seed(config["seed"])
    trainer = BehaviorTrainer.configured(settings, model, behavior, reward.to(device), generator=generator)
    return Training(trainer, build_sampler(settings["batch"], store, seed=config["seed"]))


def learn(
    config: dict[str, Any],
    learning: Training[BehaviorTrainer],
    checkpoint: Checkpoint,
    tracked: reporting.StageRun,
    device: torch.device,
) -> None:
    """Updates until the configured number is reached; none of a behaviour that has nothing to learn."""
    trainer = learning.trainer
    updates, headline = config["training"]["updates"] if trainer.parameters else 0, trainer.behavior.headline
    for bar, metrics in advance(learning, updates, description="behavior", device=device, checkpoint=checkpoint):
        if learning.update % LOG_EVERY == 0 or learning.update == updates:
            row = {name: float(value) for name, value in metrics.items()}
            learning.history.append({"update": learning.update} | row)
            tracked.metrics(row, learning.update)
            if headline in row:  # a reward function may have other terms than the learner expects
                tracked.headline({headline: row[headline]}, learning.update)
                bar.set_postfix({headline.rpartition("/")[2]: f"{row[headline]:.3f}"})


def finish(
    config: dict[str, Any], learning: Training[BehaviorTrainer], described: SavedModel, tracked: reporting.StageRun
) -> None:
    """Policy, curves and figures on disk."""
    output = Path(config["output"])
    last = learning.history[-1] if learning.history else {}
    metrics = {name: value for name, value in last.items() if name != "update"}
    metrics["cost/behavior_updates"] = learning.update
    metrics["cost/behavior_seconds"] = round(learning.seconds, 1)
    with replaced_folder(output) as fresh:
        lineage = {
            **described.lineage,
            "parent": None,  # the world model's; its own origin is the world model
            "world_model": {"digest": model_digest(Path(config["world_model"]))},
            "reward": config["reward"],
            "feature_size": learning.trainer.model.feature_size,
        }
        saved = SavedModel(config["behavior"], described.spec, lineage, POLICY)
        save_model(fresh / "model", learning.trainer.behavior, saved)
        save_reward(fresh / "model", learning.trainer.reward)
        write_csv(fresh / "imagination.csv", learning.history or [{"update": 0.0}])
        write_json(fresh / "metrics.json", metrics)
    tracked.headline({name: value for name, value in metrics.items() if name.startswith("cost/")})
    tracked.artifacts(output / "model", output / "imagination.csv")
    tracked.model(registration(output / "model", metrics))
