"""Stage ``train_world_model``: one objective's world model, with held-out figures and an open-loop video."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from dreamset.core.capabilities import Dynamics, Trainable, require
from dreamset.core.files import replaced_folder
from dreamset.datasets import Store
from dreamset.objectives.base import Objective
from dreamset.pipeline.artifacts import pretrained
from dreamset.pipeline.artifacts.saved_models import OBJECTIVE, WORLD_MODEL, SavedModel, save_model, save_weights
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.evaluation.open_loop import OpenLoopPrediction, open_loop_prediction, train_probe_decoder
from dreamset.pipeline.evaluation.validation import Validator
from dreamset.pipeline.files import digest, write_csv, write_json
from dreamset.pipeline.registry.registration import registration
from dreamset.pipeline.tracking import reporting
from dreamset.pipeline.training.checkpoint import Checkpoint
from dreamset.pipeline.training.devices import choose_device
from dreamset.pipeline.training.loop import Training, advance, build_sampler
from dreamset.pipeline.training.world_model_trainer import WorldModelTrainer

log = logging.getLogger(__name__)

LOG_EVERY = 20  # updates between training curves' points


def run(config: dict[str, Any]) -> None:
    """Writes ``output``; see ``stages.train_world_model`` for the configuration."""
    device = choose_device(config["device"])
    store = Store.open(config["store"])
    lineage = describe_lineage(config, store)
    training = start(config, store, device)
    settings = config["validation"]
    validator = Validator(
        store,
        episodes=settings["episodes"],
        probe_episodes=settings["probe_episodes"],
        context=settings["context"],
        horizons=settings["horizons"],
        starts=settings["starts"],
        device=device,
    )
    checkpoint = Checkpoint(Path(config["checkpoints"]) / f"world_model-{lineage['key']}")
    saved = checkpoint.load()
    if saved is not None:
        training.load_state_dict(saved)
    name = f"{config['objective_name']} (seed {config['seed']})"
    with reporting.stage_run("train_world_model", root=name, lineage=lineage["key"], new_root=saved is None) as tracked:
        tracked.parameters(config, on_root=True)
        tracked.dataset(reporting.reference(store, config["dataset"]))
        train(config, training, validator, checkpoint, tracked)
        finish(config, training, validator, lineage, tracked)
    checkpoint.remove()


def describe_lineage(config: dict[str, Any], store: Store) -> dict[str, Any]:
    """Where the model comes from; ``key`` is the same for the same configuration on the same data."""
    source = store.info["source"]
    return {
        "key": digest(yaml.safe_dump(config, sort_keys=True), store.digest),
        "generation": config["generation"],
        "parent": pretrained.parent(config["start"]),
        "objective": config["objective_name"],
        "seed": config["seed"],
        "dataset": config["dataset"],
        "dataset_digest": store.digest,
        "dataset_return": store.info["episode_statistics"]["train"]["return"],
        "reference": {"low": source.get("ref_min_score"), "high": source.get("ref_max_score")},
    }


def start(config: dict[str, Any], store: Store, device: torch.device) -> Training[WorldModelTrainer]:
    """A training before its first update: networks new or as they were found, samplers at their first draw."""
    model, objective = build_networks(config, store, device)
    settings = config["training"]
    generator = torch.Generator(device).manual_seed(config["seed"])
    factors = None if config["start"] is None else config["start"]["adaptation"]
    trainer = WorldModelTrainer.configured(settings, model, objective, generator=generator, factors=factors)
    return Training(trainer, build_sampler(settings["batch"], store, seed=config["seed"]))


def build_networks(config: dict[str, Any], store: Store, device: torch.device) -> tuple[Any, Objective]:
    """World model and objective. PyTorch initialises from the global generator, which is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config["seed"])
        model = (
            build_part(config["world_model"], store.spec)
            if config["start"] is None
            else pretrained.continued(config["start"], store.spec)
        )
        require(model, Trainable, by="the stage train_world_model")
        objective: Objective = build_part(config["objective"], model)
    return model.to(device), objective.to(device)


def train(
    config: dict[str, Any],
    training: Training[WorldModelTrainer],
    validator: Validator,
    checkpoint: Checkpoint,
    tracked: reporting.StageRun,
) -> None:
    """Updates until the configured number is reached, validating on the way; without any, a single validation."""
    updates, every = config["training"]["updates"], config["validation"]["every"]
    if updates == 0:
        validate(training, validator, tracked)
    updated = advance(
        training, updates, description=config["objective_name"], device=validator.device, checkpoint=checkpoint
    )
    for bar, metrics in updated:
        if training.update % LOG_EVERY == 0:
            tracked.headline({name: float(value) for name, value in metrics.items()}, training.update)
        if training.update % every == 0 or training.update == updates:
            figures = validate(training, validator, tracked)
            bar.set_postfix(headlines(training.trainer.model, figures))


def validate(
    training: Training[WorldModelTrainer], validator: Validator, tracked: reporting.StageRun
) -> dict[str, float]:
    """The held-out figures of the model as it is now, also into the history."""
    figures = validator.metrics(training.trainer.model)
    training.history.append({"update": training.update} | figures)
    tracked.headline(figures, training.update)
    return figures


def finish(
    config: dict[str, Any],
    training: Training[WorldModelTrainer],
    validator: Validator,
    lineage: dict[str, Any],
    tracked: reporting.StageRun,
) -> None:
    """The probe decoder, the open-loop video and everything on disk."""
    model = training.trainer.model
    assert isinstance(model, nn.Module)
    model.eval().requires_grad_(False)
    settings = config["validation"]
    metrics = {name: value for name, value in training.history[-1].items() if name != "update"}
    shown = visible_prediction(config, model, validator)
    if shown is not None:
        metrics["validation/open_loop_mse"] = shown.mean_squared_error
    metrics["cost/updates"] = training.update
    metrics["cost/train_seconds"] = round(training.seconds, 1)
    networks: list[nn.Module] = [model, training.trainer.objective]
    metrics["cost/parameters"] = sum(p.numel() for network in networks for p in network.parameters())
    warn(model, metrics)
    output = Path(config["output"])
    with replaced_folder(output) as fresh:
        save_model(fresh / "model", model, SavedModel(config["world_model"], model.spec, lineage, WORLD_MODEL))
        save_weights(fresh / OBJECTIVE, training.trainer.objective)
        rows = [{name.removeprefix("validation/"): value for name, value in row.items()} for row in training.history]
        write_csv(fresh / "validation.csv", rows)
        (fresh / "media").mkdir()
        if shown is not None:
            shown.save(fresh / "media", episodes=settings["video_episodes"])
        write_json(fresh / "metrics.json", metrics)
    tracked.headline({name: value for name, value in metrics.items() if not name.startswith("validation/")})
    if shown is not None:
        tracked.headline({"validation/open_loop_mse": shown.mean_squared_error}, training.update)
    tracked.artifacts(output / "model", output / "validation.csv")
    tracked.model(registration(output / "model", metrics))
    tracked.artifacts(output / "media", on_root=True)


def visible_prediction(config: dict[str, Any], model: Any, validator: Validator) -> OpenLoopPrediction | None:
    """What the model expects to see when it no longer looks; None for a model that cannot move without observations."""
    if not isinstance(model, Dynamics):
        return None
    settings = config["validation"]
    decoder = train_probe_decoder(model, validator.fitting, seed=config["seed"], **settings["probe_decoder"])
    return open_loop_prediction(
        model, decoder, validator.held_out, context=settings["context"], horizon=max(settings["horizons"])
    )


def headlines(model: Trainable[Any], figures: Mapping[str, float]) -> dict[str, str]:
    """What stands beside the progress bar: the model's own headline and the reward's error, if there is one."""
    names = (model.headline, "reward_error_h0")
    return {name: f"{figures[key]:.3f}" for name in names if (key := f"validation/{name}") in figures}


def warn(model: Trainable[Any], metrics: Mapping[str, float]) -> None:
    """What the model's own figures say that no later stage would explain."""
    prefix = "validation/"
    own = {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}
    for line in model.warnings(own):
        log.warning("%s", line)
