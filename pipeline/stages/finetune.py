"""Stage ``finetune``: a world model and a policy that were learned offline go on learning in the environment."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml

from dreamset.behaviors.base import Learner, RewardFunction
from dreamset.core.capabilities import Trainable, require
from dreamset.core.errors import UserError
from dreamset.core.files import replaced_folder, save_with
from dreamset.datasets import Store
from dreamset.objectives.base import Objective
from dreamset.pipeline.artifacts.saved_models import (
    OBJECTIVE,
    POLICY,
    WORLD_MODEL,
    SavedModel,
    load_behavior,
    load_reward,
    load_weights,
    load_world_model,
    model_digest,
    read_description,
    require_dataset,
    save_model,
    save_reward,
    save_weights,
)
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.files import digest, write_csv, write_json
from dreamset.pipeline.registry.catalog import FOLDER
from dreamset.pipeline.registry.registration import registration
from dreamset.pipeline.report import videos
from dreamset.pipeline.report.figures import online_curve
from dreamset.pipeline.stages.learn_behavior import build_behavior
from dreamset.pipeline.tracking import reporting
from dreamset.pipeline.training.behavior_trainer import BehaviorTrainer, named_networks
from dreamset.pipeline.training.checkpoint import Checkpoint
from dreamset.pipeline.training.devices import choose_device
from dreamset.pipeline.training.fine_tuner import EXPLORER, FineTuner
from dreamset.pipeline.training.loop import Training
from dreamset.pipeline.training.online_data import OnlineData, mixed
from dreamset.pipeline.training.online_learning import OnlineLearner, Progress
from dreamset.pipeline.training.world_model_trainer import WorldModelTrainer

ABOVE_ZERO = ("environment_steps", "environments", "train_ratio", "evaluate_every")  # settings
COUNTS = ("environment_steps", "updates", "rounds")  # columns of an evaluation that say when it was


@dataclass(frozen=True, slots=True)
class Models:
    """What learns, and what is known of it."""

    world_model: Any  # trainable, and what the behaviour needs
    objective: Objective
    behavior: Learner
    reward: RewardFunction
    described: SavedModel  # of the world model
    policy: SavedModel
    origins: Mapping[str, str]  # kind -> digest of the model that was learned offline

    @classmethod
    def load(cls, config: Mapping[str, Any], device: torch.device) -> "Models":
        """What the stages before left, ready to learn on.

        Raises:
            UserError: if something is missing, damaged or another dataset's.
        """
        folder, policy = Path(config["world_model"]), Path(config["policy"])
        model, described = load_world_model(folder / "model", device)
        require_dataset(described, config["dataset"], folder / "model")
        model.requires_grad_(True)
        objective: Objective = build_part(config["objective"], model).to(device)
        load_weights(folder / OBJECTIVE, objective, made_by="dreamset train-world-model")
        behavior = load_behavior(policy, device)
        require(model, Trainable, *behavior.needs, by=type(behavior).__name__)
        for network in behavior.networks().values():
            network.requires_grad_(True)
        origins = {WORLD_MODEL: model_digest(folder / "model"), POLICY: model_digest(policy)}
        reward = load_reward(build_part(config["reward"]), policy).to(device)
        of_policy = read_description(policy, made_by="dreamset learn-behavior")
        return cls(model, objective, behavior, reward, described, of_policy, origins)


def run(config: dict[str, Any]) -> None:
    """Writes ``output``; see ``stages.finetune`` for the configuration."""
    if config["environment"] is None:
        raise UserError(
            "dataset.environment is null, so there is nothing to fine-tune in; name an environment in the dataset's "
            "yaml or take the stage out: finetune: [] in params.yaml"
        )
    device = choose_device(config["device"])
    offline = Store.open(config["store"])
    models = Models.load(config, device)
    key = digest(yaml.safe_dump(config, sort_keys=True), *models.origins.values(), offline.digest)
    checkpoint = Checkpoint(Path(config["checkpoints"]) / f"finetune-{key}")
    learner = start(config, models, offline, checkpoint.path.parent / "online", device)
    saved = checkpoint.load()
    if saved is not None:
        learner.progress.load_state_dict(saved)
    lineage = models.described.lineage
    with reporting.stage_run("finetune", root=reporting.root_name(lineage), lineage=lineage["key"]) as tracked:
        tracked.parameters(config)
        tracked.dataset(reporting.reference(offline, config["dataset"]))
        learner.run(checkpoint, tracked)
        finish(config, learner, models, key, tracked)
    checkpoint.remove()


def start(config: dict[str, Any], models: Models, offline: Store, online: Path, device: torch.device) -> OnlineLearner:
    """Before the first step: fresh optimisers on networks that have learned.

    Raises:
        UserError: for a setting that leaves nothing to do.
    """
    for name in ABOVE_ZERO:
        if not config["finetuning"][name] > 0:
            raise UserError(
                f"finetuning.{name} is {config['finetuning'][name]}, allowed is any number above 0; mend it"
            )
    settings, generator = config["finetuning"], torch.Generator(device).manual_seed(config["seed"])
    world_model = WorldModelTrainer.configured(
        config["world_model_training"] | {"scheduler": settings["scheduler"]},
        models.world_model,
        models.objective,
        generator=generator,
        factors=settings["factors"],
    )
    behaviors = {POLICY: behavior_trainer(config, models, models.behavior, models.reward, generator)}
    explorer = build_explorer(config, models, device)
    if explorer is not None:
        behaviors[EXPLORER] = behavior_trainer(config, models, *explorer, generator)
    trainer = FineTuner(world_model, behaviors, actor_from=settings["actor_from"])
    sampler = mixed(offline, None, settings["batch"], online_share=settings["online_share"], seed=config["seed"])
    provenance = {"format": "online", "dataset": config["dataset"], "policy": models.origins[POLICY]}
    collected = OnlineData(online, offline.spec, provenance, [build_part(node) for node in settings["transforms"]])
    return OnlineLearner(
        config,
        models.world_model,
        models.behavior,
        None if explorer is None else explorer[0],
        models.described.lineage,
        offline,
        build_part(config["environment"]),
        Progress(Training(trainer, sampler), collected),
        device,
    )


def behavior_trainer(
    config: Mapping[str, Any], models: Models, behavior: Learner, reward: RewardFunction, generator: torch.Generator
) -> BehaviorTrainer:
    """With those optimisers of ``behavior_training`` that its networks need; an explorer's reward may need others."""
    settings, names = config["behavior_training"], named_networks(behavior, reward)
    own = {name: node for name, node in settings["optimizers"].items() if name in names}
    return BehaviorTrainer.configured(
        {**settings, "optimizers": own}, models.world_model, behavior, reward, generator=generator
    )


def build_explorer(
    config: Mapping[str, Any], models: Models, device: torch.device
) -> tuple[Learner, RewardFunction] | None:
    """The learner that collects in the policy's place, new, and what it is rewarded by; None unless there is one."""
    node = config["finetuning"]["explorer"]
    if node is None:
        return None
    described = models.described
    learner = build_behavior({**config, "behavior": node["behavior"]}, models.world_model, described, device)
    return learner, build_part(node["reward"]).to(device)


def finish(
    config: dict[str, Any], learner: OnlineLearner, models: Models, key: str, tracked: reporting.StageRun
) -> None:
    """The models as they are now, the online data, the curve and a video."""
    done, output = learner.progress, Path(config["output"])
    metrics = summary(done)
    with replaced_folder(output) as fresh:
        shutil.copytree(done.online.path, fresh / "online")
        save_models(fresh, config, models, key, done)
        write_csv(fresh / "curve.csv", done.evaluations)
        save_with(fresh / "episodes.csv", lambda path: pd.DataFrame(done.episodes).to_csv(path, index=False))
        write_json(fresh / "metrics.json", metrics)
        online_curve(
            pd.DataFrame(done.evaluations), fresh / "curve.png", title=reporting.root_name(models.described.lineage)
        )
        shown = learner.play_evaluation(config["evaluation"]["video_episodes"])
        videos.episode_video(shown, learner.make, fresh / "media" / "episodes.mp4")
    tracked.headline({name: value for name, value in metrics.items() if name.startswith("finetune/")}, done.steps)
    tracked.metrics({name: value for name, value in metrics.items() if name.startswith("cost/")})
    tracked.artifacts(*(output / name for name in ("curve.csv", "curve.png", "media")))
    report_world_model(output / WORLD_MODEL, metrics, models.described.lineage)
    tracked.artifacts(output / POLICY, folder=FOLDER)
    tracked.model(registration(output / POLICY, metrics))


def report_world_model(folder: Path, metrics: Mapping[str, float], lineage: Mapping[str, Any]) -> None:
    """In a tracked run of its own, since a run keeps one model, and before the policy that was learned in it."""
    with reporting.stage_run(
        "finetune_world_model", root=reporting.root_name(lineage), lineage=lineage["key"]
    ) as tracked:
        tracked.artifacts(folder, folder=FOLDER)
        costs = {name: value for name, value in metrics.items() if name.startswith("cost/")}
        tracked.model(registration(folder, costs))


def summary(done: Progress) -> dict[str, float]:
    """Before, worst and after; the figures of the last evaluation have the names that ``evaluate`` gives them."""
    first, last = done.evaluations[0], done.evaluations[-1]
    lowest = min(row["return_iqm"] for row in done.evaluations)
    figures = {f"evaluation/{name}": value for name, value in last.items() if name not in COUNTS}
    return figures | {
        "finetune/offline_return_iqm": first["return_iqm"],
        "finetune/offline_return_iqm_low": first["return_iqm_low"],
        "finetune/offline_return_iqm_high": first["return_iqm_high"],
        "finetune/improvement": last["return_iqm"] - first["return_iqm"],
        "finetune/dip": first["return_iqm"] - lowest,  # 0 if it never fell below the offline policy
        "finetune/environment_steps": done.steps,
        "finetune/episodes": done.online.episodes,
        "cost/finetune_updates": done.training.update,
        "cost/finetune_seconds": round(done.training.seconds, 1),
    }


def save_models(folder: Path, config: dict[str, Any], models: Models, key: str, done: Progress) -> None:
    """World model, objective and policy, each beside what it came from."""
    collected = {"digest": done.online.store().digest, "environment_steps": done.steps}
    descent = {"key": key, "online": collected}
    lineage = {**models.described.lineage, **descent, "parent": {"digest": models.origins[WORLD_MODEL]}}
    described = models.described
    saved = SavedModel(described.architecture, described.spec, lineage, WORLD_MODEL)
    save_model(folder / WORLD_MODEL, models.world_model, saved)
    save_weights(folder / OBJECTIVE, models.objective)
    lineage = {
        **models.policy.lineage,
        **descent,
        "parent": {"digest": models.origins[POLICY]},
        "world_model": {"digest": model_digest(folder / WORLD_MODEL)},
        "reward": config["reward"],
    }
    policy = SavedModel(models.policy.architecture, models.policy.spec, lineage, POLICY)
    save_model(folder / POLICY, models.behavior, policy)
    save_reward(folder / POLICY, models.reward)
