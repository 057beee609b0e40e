"""Stage ``train_world_model``: trains the world model of one objective and measures it on held-out episodes."""

import logging
import re
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dreamset.core.capabilities import Dynamics, Trainable, require
from dreamset.core.files import replaced_folder
from dreamset.datasets import Store
from dreamset.objectives.base import Objective
from dreamset.pipeline.artifacts import pretrained
from dreamset.pipeline.artifacts.description import PREDICTION
from dreamset.pipeline.artifacts.saved_models import OBJECTIVE, WORLD_MODEL, SavedModel, save_model, save_weights
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.evaluation.calibration import Record, calibration
from dreamset.pipeline.evaluation.open_loop import OpenLoopPrediction, open_loop_prediction, train_probe_decoder
from dreamset.pipeline.evaluation.validation import Validator
from dreamset.pipeline.files import digest, require_writable, write_csv, write_figures, write_json
from dreamset.pipeline.progress import show_figures
from dreamset.pipeline.registry.registration import registration
from dreamset.pipeline.report.showing import shown
from dreamset.pipeline.report.titles import training_title
from dreamset.pipeline.stages.settings import TrainWorldModel
from dreamset.pipeline.tracking import reporting
from dreamset.pipeline.training.checkpoint import Checkpoint
from dreamset.pipeline.training.devices import choose_device
from dreamset.pipeline.training.loop import Training, advance, build_sampler, sampled_for
from dreamset.pipeline.training.parameter_groups import Factors
from dreamset.pipeline.training.world_model_trainer import WorldModelTrainer

log = logging.getLogger(__name__)

CALIBRATION = "calibration.json"  # in the output: see ``pipeline/evaluation/calibration.py``
LOG_EVERY = 20  # updates between the points of the training curves
REWARD_ERROR = re.compile(r"validation/reward_error_h([1-9]\d*)")  # in open loop


def run(config: dict[str, Any]) -> None:
    """Writes ``output``; ``TrainWorldModel`` describes the settings."""
    settings = TrainWorldModel.of(**config)
    require_writable(Path(settings.output).parent, Path(settings.checkpoints))
    device = choose_device(settings.device)
    store = Store.open(settings.store)
    lineage = describe_lineage(settings, store)
    training = start(settings, store, device)
    validator = Validator(store, settings.validation, device=device)
    checkpoint = Checkpoint(Path(settings.checkpoints) / f"world_model-{lineage['key']}")
    resumed = checkpoint.restore(training)
    task = store.info["source"].get("env_id")
    place = reporting.Place("train_world_model", lineage["key"], lineage, resumed=resumed, task=task)
    with reporting.stage_run(place.stage, at=place) as tracked:
        tracked.settings(place.stage, settings)
        tracked.dataset(reporting.reference(store, settings.dataset))
        train(settings, training, validator, checkpoint, tracked)
        finish(settings, training, validator, lineage, tracked)
    checkpoint.remove()


def describe_lineage(settings: TrainWorldModel, store: Store) -> dict[str, Any]:
    """The origin of the model. ``key`` is the same for the same settings and the same data."""
    source = store.info["source"]
    return {
        "key": digest(settings.text(), store.digest),
        "generation": settings.generation,
        "parent": pretrained.parent(None if settings.start is None else settings.start.model_dump()),
        "objective": settings.objective_name,
        "seed": settings.seed,
        "dataset": settings.dataset,
        "dataset_digest": store.digest,
        "dataset_return": store.info["episode_statistics"]["train"]["return"],
        "reference": {"low": source.get("ref_min_score"), "high": source.get("ref_max_score")},
    }


def start(settings: TrainWorldModel, store: Store, device: torch.device) -> Training[WorldModelTrainer]:
    """A training before its first update, with new or with pretrained networks."""
    model, objective = build_networks(settings, store, device)
    trainer = WorldModelTrainer.configured(
        settings.training,
        model,
        objective,
        scheduler=settings.training.scheduler,
        generator=torch.Generator(device).manual_seed(settings.seed),
        factors=learning_rate_factors(settings),
    )
    acted = sampled_for(store, model, objective)
    return Training(trainer, build_sampler(settings.training.batch, store, seed=settings.seed, acted=acted))


def learning_rate_factors(settings: TrainWorldModel) -> Factors:
    """Those of the training, replaced part by part by those of the adaptation."""
    adaptation = {} if settings.start is None else settings.start.adaptation
    return {**(settings.training.factors or {}), **adaptation}


def build_networks(settings: TrainWorldModel, store: Store, device: torch.device) -> tuple[Any, Objective]:
    """World model and objective. PyTorch initialises with the global generator, whose state is kept.

    Raises:
        UserError: if the world model cannot be trained, or does not fit the data or the objective.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = (
            build_part(settings.world_model, store.spec)
            if settings.start is None
            else pretrained.continued(settings.start.model_dump(), store.spec)
        )
        require(model, Trainable, by="the stage train_world_model")
        objective: Objective = build_part(settings.objective, model)
    return model.to(device), objective.to(device)


def train(
    settings: TrainWorldModel,
    training: Training[WorldModelTrainer],
    validator: Validator,
    checkpoint: Checkpoint,
    tracked: reporting.StageRun,
) -> None:
    """Trains up to the configured number of updates and validates in between; without updates, it validates once."""
    updates, every = settings.training.updates, settings.validation.every
    if updates == 0:
        validate(training, validator, tracked)
    updated = advance(
        training, updates, description=settings.objective_name, device=validator.device, checkpoint=checkpoint
    )
    for bar, metrics in updated:
        if training.update % LOG_EVERY == 0:
            tracked.headline({name: float(value) for name, value in metrics.items()}, training.update)
        if training.update % every == 0 or training.update == updates:
            figures = validate(training, validator, tracked)
            show_figures(bar, headlines(training.trainer.model, figures))


def validate(
    training: Training[WorldModelTrainer], validator: Validator, tracked: reporting.StageRun
) -> dict[str, float]:
    """The held-out figures of the model after the last update. They are added to the history."""
    figures = validator.metrics(training.trainer.model)
    training.history.append({"update": training.update} | figures)
    tracked.headline(figures, training.update)
    return figures


def finish(
    settings: TrainWorldModel,
    training: Training[WorldModelTrainer],
    validator: Validator,
    lineage: dict[str, Any],
    tracked: reporting.StageRun,
) -> None:
    """Measures the trained model for the last time, writes all outputs, and then draws and reports them."""
    model = training.trainer.model
    assert isinstance(model, nn.Module)
    model.eval().requires_grad_(False)
    prediction: OpenLoopPrediction | None = None
    with shown("the open-loop prediction"):
        prediction = predict_open_loop(settings, model, validator)
    calibrated: Record = {}
    with shown("the calibration"):
        calibrated = calibration(model, validator)
    metrics = final_metrics(training, prediction)
    networks: list[nn.Module] = [model, training.trainer.objective]
    metrics["cost/parameters"] = sum(parameter.numel() for part in networks for parameter in part.parameters())
    write(settings, training, lineage | {PREDICTION: prediction_facts(settings, metrics)}, metrics, calibrated)
    with shown("the list of the model's own warnings"):
        warn(model, metrics)
    if prediction is not None:
        episodes = validator.episode_names[: settings.validation.video_episodes]
        prediction.save(Path(settings.output) / "media", title=training_title(lineage), episodes=episodes)
    report(Path(settings.output), metrics, training.update, tracked)


def predict_open_loop(settings: TrainWorldModel, model: Any, validator: Validator) -> OpenLoopPrediction | None:
    """Open-loop predictions of the held-out observations; None for a model that needs each observation."""
    if not isinstance(model, Dynamics):
        return None
    validation = settings.validation
    decoder = train_probe_decoder(model, validator.fitting, seed=settings.seed, **validation.probe_decoder.model_dump())
    return open_loop_prediction(
        model, decoder, validator.held_out, context=validation.context, horizon=max(validation.horizons)
    )


def final_metrics(training: Training[WorldModelTrainer], prediction: OpenLoopPrediction | None) -> dict[str, float]:
    """The figures of the last validation and of the open-loop prediction, and the cost of the training."""
    metrics = {name: value for name, value in training.history[-1].items() if name != "update"}
    if prediction is not None:
        metrics["validation/open_loop_mse"] = prediction.mean_squared_error
    metrics["cost/updates"] = training.update
    metrics["cost/train_seconds"] = round(training.seconds, 1)
    metrics["cost/train_threads"] = torch.get_num_threads()
    return metrics


def prediction_facts(settings: TrainWorldModel, metrics: Mapping[str, float]) -> dict[str, Any]:
    """How far ahead the model was trained and how well it predicts rewards, for the warning of a planner."""
    errors = {match[1]: value for name, value in metrics.items() if (match := REWARD_ERROR.fullmatch(name))}
    return {
        "rows": settings.training.batch.length,
        "reward_error": {step: value for step, value in errors.items() if isfinite(value)},
    }


def write(
    settings: TrainWorldModel,
    training: Training[WorldModelTrainer],
    lineage: dict[str, Any],
    metrics: Mapping[str, float],
    calibrated: Record,
) -> None:
    """The saved model with its objective, the validation curve, the figures and an empty folder for videos."""
    model, objective = training.trainer.model, training.trainer.objective
    assert isinstance(model, nn.Module)
    saved = SavedModel(settings.world_model, model.spec, lineage, WORLD_MODEL)
    rows = [{name.removeprefix("validation/"): value for name, value in row.items()} for row in training.history]
    with replaced_folder(Path(settings.output)) as folder:
        save_model(folder / "model", model, saved)
        save_weights(folder / OBJECTIVE, objective)
        write_csv(folder / "validation.csv", rows)
        write_figures(folder / "metrics.json", metrics)
        write_json(folder / CALIBRATION, calibrated)
        (folder / "media").mkdir()


def report(output: Path, metrics: Mapping[str, float], update: int, tracked: reporting.StageRun) -> None:
    """New metrics, the files and the model, to the tracking; ``validate`` has reported the others."""
    tracked.headline({name: value for name, value in metrics.items() if not name.startswith("validation/")})
    error = "validation/open_loop_mse"
    if error in metrics:
        tracked.headline({error: metrics[error]}, update)
    tracked.artifacts(output / "validation.csv", output / CALIBRATION)
    tracked.model(registration(output / "model", metrics), output / "model")
    tracked.artifacts(output / "media", folder="media/world_model", on_row=True)


def headlines(model: Trainable[Any], figures: Mapping[str, float]) -> dict[str, float]:
    """The figures beside the progress bar: the model's own headline, and the reward error if there is one."""
    names = (f"validation/{model.headline}", "validation/reward_error_h0")
    return {name: figures[name] for name in names if name in figures}


def warn(model: Trainable[Any], metrics: Mapping[str, float]) -> None:
    """Logs the problems that the model's own figures reveal, such as posterior collapse."""
    prefix = "validation/"
    own = {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}
    for line in model.warnings(own):
        log.warning("%s", line)
