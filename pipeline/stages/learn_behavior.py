"""Stage ``learn_behavior``: learns a policy in a frozen world model, without an environment."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dreamset.behaviors.base import Experience, Learner
from dreamset.core.capabilities import Representation
from dreamset.core.files import file_sha256, replaced_folder
from dreamset.datasets import Store
from dreamset.datasets.splits import TRAIN
from dreamset.pipeline.artifacts.goals import GOALS, drawn, towards
from dreamset.pipeline.artifacts.rewards import build_reward
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
from dreamset.pipeline.config.settings import Batch, Part
from dreamset.pipeline.files import digest, require_writable, write_csv, write_figures
from dreamset.pipeline.progress import show_figures
from dreamset.pipeline.registry.registration import registration
from dreamset.pipeline.report.showing import shown
from dreamset.pipeline.stages.settings import LearnBehavior
from dreamset.pipeline.tracking import reporting
from dreamset.pipeline.training.behavior_trainer import BehaviorTrainer, calibrate
from dreamset.pipeline.training.checkpoint import Checkpoint
from dreamset.pipeline.training.devices import choose_device
from dreamset.pipeline.training.loop import NoBatches, Training, advance, build_sampler, recorded_batches, sampled_for

LOG_EVERY = 10  # updates between the points of the curves

log = logging.getLogger(__name__)


def run(config: dict[str, Any]) -> None:
    """Writes ``output``; ``LearnBehavior`` describes the settings."""
    settings = LearnBehavior.of(**config)
    require_writable(Path(settings.output).parent, Path(settings.checkpoints))
    device = choose_device(settings.device)
    store = Store.open(settings.store)
    folder = Path(settings.world_model)
    model, described = load_world_model(folder, device)
    require_dataset(described, settings.dataset, folder)
    model = towards(model, settings.goals)
    training = start(settings, store, model, device)
    if settings.goals is not None and training.trainer.parameters:
        warn_of_short_episodes(store, settings.training.batch)
    key = digest(settings.text(), file_sha256(folder / "model.safetensors"), store.digest)
    checkpoint = Checkpoint(Path(settings.checkpoints) / f"behavior-{key}")
    resumed = checkpoint.restore(training)
    goals = drawn(settings.goals)
    batches = recorded_batches(settings.training.batch, store, seed=settings.seed, device=device, goals=goals)
    for part in (training.trainer.reward, training.trainer.behavior):
        calibrate(part, model, batches, torch.Generator(device).manual_seed(settings.seed))
    lineage = described.lineage
    place = reporting.Place("learn_behavior", key, lineage, resumed=resumed, world_model=model_digest(folder))
    with reporting.stage_run(place.stage, at=place) as tracked:
        tracked.settings(place.stage, settings)
        tracked.dataset(reporting.reference(store, lineage["dataset"]))
        learn(settings, training, checkpoint, tracked, device)
        finish(settings, training, described, tracked, held_out=held_out(settings, training, store, device))
    checkpoint.remove()


def start(
    settings: LearnBehavior, store: Store, model: Representation[Any], device: torch.device
) -> Training[BehaviorTrainer]:
    """A training before its first update, in a world model that has goals if the settings do.

    Raises:
        UserError: if the world model lacks what the learner or the reward function needs.
    """
    behavior = build_behavior(settings.behavior, model, seed=settings.seed, device=device)
    reward = behavior.acting_reward or build_reward(
        settings.reward, model.feature_size, model.spec.action, seed=settings.seed, device=device
    )
    generator = torch.Generator(device).manual_seed(settings.seed)
    trainer = BehaviorTrainer.configured(settings.training, model, behavior, reward.to(device), generator=generator)
    if not trainer.parameters:
        return Training(trainer, NoBatches(store))
    acted, goals = sampled_for(store, model, behavior), drawn(settings.goals)
    sampler = build_sampler(settings.training.batch, store, seed=settings.seed, acted=acted, goals=goals)
    return Training(trainer, sampler)


def warn_of_short_episodes(store: Store, batch: Batch) -> None:
    """Warns if windows leave few rows for goals after them, so that nearly all goals are the ends of episodes."""
    rows = int(np.median(store.lengths[store.split(TRAIN)]))
    if rows < 2 * batch.length:
        log.warning(
            "goals lie after windows of %d rows, but half of the episodes have at most %d, so most goals are ends of "
            "episodes; lower behavior_training.batch.length to %d or less",
            *(batch.length, rows, max(rows // 2, 1)),
        )


def build_behavior(behavior: Part, model: Representation[Any], *, seed: int, device: torch.device) -> Learner:
    """The learner with its networks, initialised from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        learner: Learner = build_part(behavior, model.feature_size, model.spec.action)
    return learner.to(device)


def learn(
    settings: LearnBehavior,
    training: Training[BehaviorTrainer],
    checkpoint: Checkpoint,
    tracked: reporting.StageRun,
    device: torch.device,
) -> None:
    """Trains up to the configured number of updates. A behaviour without parameters gets no update."""
    trainer = training.trainer
    if not trainer.parameters:
        return
    updates, headline = settings.training.updates, trainer.behavior.headline
    for bar, metrics in advance(
        training, updates, description="learn the policy", device=device, checkpoint=checkpoint
    ):
        if training.update % LOG_EVERY == 0 or training.update == updates:
            row = {name: float(value) for name, value in metrics.items()}
            training.history.append({"update": training.update} | row)
            tracked.metrics(row, training.update)
            if headline in row:  # a reward function may have other terms than the learner expects
                tracked.headline({headline: row[headline]}, training.update)
                show_figures(bar, {headline: row[headline]})


def held_out(
    settings: LearnBehavior, training: Training[BehaviorTrainer], store: Store, device: torch.device
) -> dict[str, float]:
    """The behaviour's own figures on held-out episodes; none if they are too short for a window."""
    trainer, figures = training.trainer, dict[str, float]()
    batch, goals = settings.training.batch, drawn(settings.goals)
    batches = recorded_batches(batch, store, seed=settings.seed, device=device, split="validation", goals=goals)
    generator = torch.Generator(device).manual_seed(settings.seed)
    recorded = (Experience.of(trainer.model, batch, generator) for batch in batches)
    with shown("the list of the behaviour's held-out figures"):
        values = trainer.behavior.held_out(recorded, trainer.model, generator)
        figures.update({name: float(value) for name, value in values.items()})
    return figures


def finish(
    settings: LearnBehavior,
    training: Training[BehaviorTrainer],
    described: SavedModel,
    tracked: reporting.StageRun,
    *,
    held_out: Mapping[str, float],
) -> None:
    """Writes all outputs and reports them."""
    last = training.history[-1] if training.history else {}
    metrics = {name: value for name, value in last.items() if name != "update"} | dict(held_out)
    metrics["cost/behavior_updates"] = training.update
    metrics["cost/behavior_seconds"] = round(training.seconds, 1)
    metrics["cost/behavior_threads"] = torch.get_num_threads()
    write(settings, training, described, metrics)
    for part in (training.trainer.reward, training.trainer.behavior):
        for line in part.warnings(metrics):
            log.warning("%s", line)
    output = Path(settings.output)
    tracked.headline({name: value for name, value in metrics.items() if name.startswith(("cost/", "held_out/"))})
    tracked.artifacts(output / "imagination.csv")
    tracked.model(registration(output / "model", metrics), output / "model")


def write(
    settings: LearnBehavior,
    training: Training[BehaviorTrainer],
    described: SavedModel,
    metrics: Mapping[str, float],
) -> None:
    """The saved policy with its reward function, the curves and the metrics."""
    trainer = training.trainer
    lineage = {
        **described.lineage,
        "parent": None,  # described.lineage has the parent of the world model
        "world_model": {"digest": model_digest(Path(settings.world_model))},
        "reward": settings.reward,
        "feature_size": trainer.model.feature_size,
        **({} if settings.goals is None else {GOALS: settings.goals.model_dump()}),
    }
    with replaced_folder(Path(settings.output)) as folder:
        saved = SavedModel(settings.behavior, trainer.model.spec, lineage, POLICY)
        save_model(folder / "model", trainer.behavior, saved)
        save_reward(folder / "model", trainer.reward)
        write_csv(folder / "imagination.csv", training.history or [{"update": 0.0}])
        write_figures(folder / "metrics.json", metrics)
