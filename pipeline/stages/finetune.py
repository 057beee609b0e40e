"""Stage ``finetune``: trains a world model and a policy, which were trained offline, further in the environment."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from dreamset.behaviors.base import Acting, Learner, RewardFunction
from dreamset.core.capabilities import Trainable, require
from dreamset.core.files import replaced_folder, save_with
from dreamset.datasets import Store
from dreamset.datasets.goals import LaterRows
from dreamset.environments.wrappers import Environment
from dreamset.objectives.base import Objective
from dreamset.pipeline.artifacts.acting import acting_of, require_fit
from dreamset.pipeline.artifacts.goals import drawn, goals_of, towards
from dreamset.pipeline.artifacts.rewards import build_reward
from dreamset.pipeline.artifacts.saved_models import (
    OBJECTIVE,
    POLICY,
    REWARD,
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
from dreamset.pipeline.config.settings import LearnerOptimisation
from dreamset.pipeline.evaluation.policy_evaluator import PolicyEvaluator
from dreamset.pipeline.files import digest, require_writable, write_csv, write_figures
from dreamset.pipeline.registry.registration import registration
from dreamset.pipeline.report import videos
from dreamset.pipeline.report.online_figure import online_curve
from dreamset.pipeline.report.showing import shown, write_blank
from dreamset.pipeline.report.titles import training_title
from dreamset.pipeline.stages.environment import environment_factory, require_environment
from dreamset.pipeline.stages.learn_behavior import build_behavior
from dreamset.pipeline.stages.settings import Finetune
from dreamset.pipeline.tracking import reporting
from dreamset.pipeline.training.behavior_trainer import (
    BehaviorTrainer,
    calibrate,
    named_networks,
    require_same_names,
)
from dreamset.pipeline.training.checkpoint import ONLINE, Checkpoint
from dreamset.pipeline.training.devices import choose_device
from dreamset.pipeline.training.fine_tuner import EXPLORER, FineTuner
from dreamset.pipeline.training.loop import Training, recorded_batches
from dreamset.pipeline.training.online_data import OnlineData, mixed
from dreamset.pipeline.training.online_learning import OnlineLearner, Progress
from dreamset.pipeline.training.world_model_trainer import WorldModelTrainer

COUNTS = ("environment_steps", "updates", "rounds")  # columns of an evaluation that are no scores


@dataclass(frozen=True, slots=True)
class Models:
    """The models to fine-tune, and their descriptions."""

    world_model: Any  # Trainable, with the capabilities that the behaviour needs
    objective: Objective
    behavior: Learner
    acting: Acting  # how the behaviour acts
    reward: RewardFunction
    described: SavedModel  # of the world model
    policy: SavedModel
    origins: Mapping[str, str]  # kind -> digest of the model that was trained offline
    known: Any  # the world model as the behaviour knows it: with goals, if it acts towards goals

    @property
    def goals(self) -> LaterRows | None:
        """How the behaviour's goals are drawn."""
        return drawn(goals_of(self.policy))

    @classmethod
    def load(cls, settings: Finetune, device: torch.device) -> "Models":
        """The models of the earlier stages, ready to be trained.

        Raises:
            UserError: if a model is missing or damaged, or was trained on another dataset.
        """
        folder, policy = Path(settings.world_model), Path(settings.policy)
        model, described = load_world_model(folder / "model", device)
        require_dataset(described, settings.dataset, folder / "model")
        model.requires_grad_(True)
        objective: Objective = build_part(settings.objective, model).to(device)
        load_weights(folder / OBJECTIVE, objective, made_by="dreamset train-world-model")
        behavior = load_behavior(policy, device)
        require(model, Trainable, by="the stage finetune")
        for network in behavior.networks().values():
            network.requires_grad_(True)
        origins = {WORLD_MODEL: model_digest(folder / "model"), POLICY: model_digest(policy)}
        of_policy = read_description(policy, made_by="dreamset learn-behavior")
        known = towards(model, goals_of(of_policy))
        reward = behavior.acting_reward or build_reward(
            settings.reward, known.feature_size, known.spec.action, seed=settings.seed, device=device
        )
        learned_with_it = of_policy.lineage.get("reward") == settings.reward
        if learned_with_it or (reward.networks() and (policy / REWARD).exists()):
            reward = load_reward(reward, policy)  # other settings need constants, and perhaps networks, of their own
        for network in reward.networks().values():
            network.requires_grad_(True)  # those of a planner were saved and frozen with it
        learning = reward if learned_with_it else None
        acting = acting_of(behavior, policy, device, acting=settings.acting, learning=learning)
        require_fit(acting, known, described)
        return cls(model, objective, behavior, acting, reward.to(device), described, of_policy, origins, known)


@dataclass(frozen=True, slots=True)
class Explorer:
    """A learner that collects the episodes in place of the policy, with a reward function of its own."""

    behavior: Learner
    reward: RewardFunction


def run(config: dict[str, Any]) -> None:
    """Writes ``output``; ``Finetune`` describes the settings."""
    settings = Finetune.of(**config)
    require_writable(Path(settings.output).parent, Path(settings.checkpoints))
    environment = require_environment(
        settings.environment, stage="finetune", remedy="leave the stage out: finetune: [] in params.yaml"
    )
    make = environment_factory(environment, settings.episode_limits, output=settings.output)
    device = choose_device(settings.device)
    offline = Store.open(settings.store)
    models = Models.load(settings, device)
    key = digest(settings.text(without=["episode_limits"]), *models.origins.values(), offline.digest)
    checkpoint = Checkpoint(Path(settings.checkpoints) / f"finetune-{key}")
    learner = start(settings, models, make, offline, checkpoint.folder / ONLINE, device)
    resumed = checkpoint.restore(learner.progress)
    for trainer in learner.progress.training.trainer.behaviors.values():
        batches = recorded_batches(
            settings.finetuning.batch, offline, seed=settings.seed, device=device, goals=models.goals
        )
        calibrate(trainer.reward, models.known, batches, torch.Generator(device).manual_seed(settings.seed))
    used = {"world_model": models.origins[WORLD_MODEL], "policy": models.origins[POLICY]}
    place = reporting.Place("finetune", key, models.described.lineage, resumed=resumed, **used)
    with reporting.stage_run(place.stage, at=place) as tracked:
        tracked.settings(place.stage, settings)
        tracked.dataset(reporting.reference(offline, settings.dataset))
        learner.run(checkpoint, tracked)
        finish(settings, learner, models, place, tracked)
    checkpoint.remove()


def start(
    settings: Finetune,
    models: Models,
    make: Callable[[], Environment],
    offline: Store,
    online: Path,
    device: torch.device,
) -> OnlineLearner:
    """A fine-tuning before its first step: trained networks with new optimisers.

    Args:
        settings: of the stage.
        models: trained offline.
        make: makes an environment.
        offline: the data that the models were trained on.
        online: folder for the collected episodes.
        device: of the models.
    """
    finetuning, seed = settings.finetuning, settings.seed
    explorer = build_explorer(settings, models, device)
    trainer = build_trainer(settings, models, explorer, torch.Generator(device).manual_seed(seed))
    share = finetuning.online_share
    sampler = mixed(offline, None, finetuning.batch, online_share=share, seed=seed, goals=models.goals)
    provenance = {"format": "online", "dataset": settings.dataset, "policy": models.origins[POLICY]}
    collected = OnlineData(online, offline.spec, provenance, [build_part(node) for node in finetuning.transforms])
    lineage = models.described.lineage
    evaluator = PolicyEvaluator(
        settings.evaluation, settings.context, models.known, models.acting, make, lineage, device
    )
    return OnlineLearner(
        finetuning,
        seed,
        evaluator,
        collector=models.acting if explorer is None else explorer.behavior,
        offline=offline,
        progress=Progress(Training(trainer, sampler), collected),
        goals=models.goals,
    )


def build_explorer(settings: Finetune, models: Models, device: torch.device) -> Explorer | None:
    """The untrained explorer, or None if the policy collects itself."""
    parts = settings.finetuning.explorer
    if parts is None:
        return None
    model = models.known
    behavior = build_behavior(parts.behavior, model, seed=settings.seed, device=device)
    reward = build_reward(parts.reward, model.feature_size, model.spec.action, seed=settings.seed, device=device)
    return Explorer(behavior, reward)


def build_trainer(
    settings: Finetune, models: Models, explorer: Explorer | None, generator: torch.Generator
) -> FineTuner:
    """The trainer of world model, policy and explorer, with one shared generator."""
    world_model = WorldModelTrainer.configured(
        settings.world_model_training,
        models.world_model,
        models.objective,
        scheduler=settings.finetuning.scheduler,
        generator=generator,
        factors=settings.finetuning.factors,
    )

    parts = {POLICY: (models.behavior, models.reward)}
    if explorer is not None:
        parts[EXPLORER] = (explorer.behavior, explorer.reward)
    optimisations = share_optimizers(settings.behavior_training, parts)
    behaviors = {
        name: BehaviorTrainer.configured(optimisations[name], models.known, *pair, generator=generator)
        for name, pair in parts.items()
    }
    return FineTuner(world_model, behaviors, actor_from=settings.finetuning.actor_from)


def share_optimizers(
    optimisation: LearnerOptimisation, parts: Mapping[str, tuple[Learner, RewardFunction]]
) -> dict[str, LearnerOptimisation]:
    """For each pair of learner and reward function, the optimisers of its networks: the pairs' networks may differ.

    Raises:
        UserError: if an optimiser belongs to none of the pairs.
    """
    networks = {name: named_networks(*pair) for name, pair in parts.items()}
    every = set().union(*networks.values())
    nodes = {name: node for name, node in optimisation.optimizers.items() if node is not None}
    provided = set().union(*(reward.optimizers() for _, reward in parts.values()))
    learners = " and ".join(type(learner).__name__ for learner, _ in parts.values())
    require_same_names(sorted(every), nodes.keys() | provided, learner=learners)
    return {
        name: optimisation.model_copy(update={"optimizers": {key: nodes[key] for key in own if key in nodes}})
        for name, own in networks.items()
    }


def finish(
    settings: Finetune,
    learner: OnlineLearner,
    models: Models,
    place: reporting.Place,
    tracked: reporting.StageRun,
) -> None:
    """Writes all outputs, and then draws and reports them."""
    done, lineage = learner.progress, models.described.lineage
    metrics = summary(done)
    output = Path(settings.output)
    with replaced_folder(output) as folder:
        shutil.copytree(done.online.path, folder / "online")
        save_models(folder, settings, models, place.key, done)
        write_figures(folder / "metrics.json", metrics)
        write_evaluations(folder, done)
    draw(output, learner, title=f"{training_title(lineage)} · fine-tuned")
    tracked.headline({name: value for name, value in metrics.items() if name.startswith("finetune/")}, done.steps)
    tracked.headline({name: value for name, value in metrics.items() if name.startswith("cost/")})
    tracked.artifacts(output / "curve.csv", output / "curve.png", on_row=True)
    tracked.artifacts(output / "media", folder="media/finetuning", on_row=True)
    report_world_model(output / WORLD_MODEL, metrics, place)
    tracked.model(registration(output / POLICY, metrics), output / POLICY)


def write_evaluations(folder: Path, done: Progress) -> None:
    """The curve of all evaluations and their episodes, with places for the figure and the video."""
    write_csv(folder / "curve.csv", done.evaluations)
    save_with(folder / "episodes.csv", lambda path: pd.DataFrame(done.episodes).to_csv(path, index=False))
    write_blank(folder / "curve.png")
    (folder / "media").mkdir()


def draw(output: Path, learner: OnlineLearner, *, title: str) -> None:
    """The curve of all evaluations as a figure, and a video of the final policy, beside the results."""
    curve, video, evaluator = output / "curve.png", output / "media" / "episodes.mp4", learner.evaluator
    with shown(curve):
        online_curve(pd.DataFrame(learner.progress.evaluations), curve, title=title)
    with shown(video):
        episodes = evaluator.play(evaluator.settings.video_episodes)
        videos.episode_video(episodes, evaluator.make, video, title=title)


def report_world_model(folder: Path, metrics: Mapping[str, float], place: reporting.Place) -> None:
    """Reports the world model in a tracked run of its own, because a run keeps one model.

    It comes before the policy, which refers to it.
    """
    with reporting.stage_run("finetune_world_model", at=place) as tracked:
        costs = {name: value for name, value in metrics.items() if name.startswith("cost/finetune_")}
        tracked.model(registration(folder, costs), folder)


def summary(done: Progress) -> dict[str, float]:
    """The return before fine-tuning, the lowest and the last one; the last evaluation has the names of ``evaluate``."""
    first, last = done.evaluations[0], done.evaluations[-1]
    lowest = min(row["return_iqm"] for row in done.evaluations)
    figures = {f"evaluation/{name}": value for name, value in last.items() if name not in COUNTS}
    return figures | {
        "finetune/offline_return_iqm": first["return_iqm"],
        "finetune/offline_return_iqm_low": first["return_iqm_low"],
        "finetune/offline_return_iqm_high": first["return_iqm_high"],
        "finetune/improvement": last["return_iqm"] - first["return_iqm"],
        "finetune/dip": first["return_iqm"] - lowest,  # 0 if no evaluation is below that of the offline policy
        "finetune/environment_steps": done.steps,
        "finetune/episodes": done.online.episodes,
        "cost/finetune_updates": done.training.update,
        "cost/finetune_seconds": round(done.training.seconds, 1),
        "cost/finetune_threads": torch.get_num_threads(),
        **done.decisions,
    }


def save_models(folder: Path, settings: Finetune, models: Models, key: str, done: Progress) -> None:
    """Saves world model, objective, policy and reward function, with their lineage."""
    collected = {"digest": done.online.store().digest, "environment_steps": done.steps}
    origin = {"key": key, "online": collected}
    lineage = {**models.described.lineage, **origin, "parent": {"digest": models.origins[WORLD_MODEL]}}
    described = models.described
    saved = SavedModel(described.architecture, described.spec, lineage, WORLD_MODEL)
    save_model(folder / WORLD_MODEL, models.world_model, saved)
    save_weights(folder / OBJECTIVE, models.objective)
    lineage = {
        **models.policy.lineage,
        **origin,
        "parent": {"digest": models.origins[POLICY]},
        "world_model": {"digest": model_digest(folder / WORLD_MODEL)},
        "reward": settings.reward,
    }
    policy = SavedModel(models.policy.architecture, models.policy.spec, lineage, POLICY)
    save_model(folder / POLICY, models.behavior, policy)
    save_reward(folder / POLICY, models.reward)
