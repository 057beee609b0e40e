"""Stage ``evaluate``: plays one policy in the environment and compares its returns with the imagined ones.

Without an environment, as with data of a real robot, no return is measured: the results say so and stay comparable.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from dreamset.behaviors.base import Acting
from dreamset.core.capabilities import Representation
from dreamset.core.files import replaced_folder, save_with
from dreamset.environments.rollouts import RecordedEpisode
from dreamset.environments.wrappers import Environment
from dreamset.pipeline.artifacts.acting import LEARN, load_acting
from dreamset.pipeline.artifacts.goals import goals_of, towards
from dreamset.pipeline.artifacts.saved_models import (
    POLICY,
    load_world_model,
    model_digest,
    read_description,
    require_dataset,
)
from dreamset.pipeline.evaluation.policy_evaluator import PolicyEvaluator
from dreamset.pipeline.evaluation.scores import episode_table
from dreamset.pipeline.files import digest, require_writable, write_figures
from dreamset.pipeline.progress import counter
from dreamset.pipeline.registry.ranking import POLICY_RETURN
from dreamset.pipeline.report import videos
from dreamset.pipeline.report.showing import shown
from dreamset.pipeline.report.titles import training_title
from dreamset.pipeline.stages.environment import environment_factory
from dreamset.pipeline.stages.settings import Evaluate
from dreamset.pipeline.tracking import reporting
from dreamset.pipeline.training.devices import choose_device


def run(config: dict[str, Any]) -> list[str]:
    """Writes ``output``, and returns what a reader must know of it; ``Evaluate`` describes the settings."""
    settings = Evaluate.of(**config)
    require_writable(Path(settings.output).parent)
    if settings.environment is None:
        return leave_untried(settings)
    make = environment_factory(settings.environment, settings.episode_limits, output=settings.output)
    evaluator = load_evaluator(settings, make, choose_device(settings.device))
    lineage = evaluator.lineage
    world_model, policy = (model_digest(Path(folder)) for folder in (settings.world_model, settings.policy))
    key = digest(settings.text(without=["episode_limits"]), world_model, policy)
    place = reporting.Place("evaluate", key, lineage, world_model=world_model, policy=policy)
    with reporting.stage_run(place.stage, at=place) as tracked:
        tracked.settings(place.stage, settings)
        episodes = play(evaluator)
        table = imagine(evaluator, episodes)
        metrics = evaluator.score(table) | evaluator.decisions.figures()
        write(settings, table, metrics)
        draw(settings, evaluator, episodes)
        report(settings, metrics, tracked, conditions=conditions_of(settings, lineage))
    return []


def leave_untried(settings: Evaluate) -> list[str]:
    """Results without a return, for a dataset without an environment. World model and policy are checked as always."""
    _, _, lineage = load_models(settings, choose_device(settings.device))
    write(
        settings,
        episode_table([], np.zeros(0), context=settings.context),
        {"evaluation/dataset_return": float(lineage["dataset_return"]["mean"])},
    )
    return [
        f"{settings.dataset}: dataset.environment is null, so the policy was not tried and has no return. The "
        "comparison ranks the world models. To try policies, name the environment in the dataset's yaml, e.g. "
        "environment: {_target_: dreamset.environments.gym.make, _partial_: true, id: CartPole-v1}"
    ]


def load_evaluator(settings: Evaluate, make: Callable[[], Environment], device: torch.device) -> PolicyEvaluator:
    """The saved world model and the saved policy, ready to play; see ``load_models``."""
    model, behavior, lineage = load_models(settings, device)
    return PolicyEvaluator(settings.evaluation, settings.context, model, behavior, make, lineage, device)


def load_models(settings: Evaluate, device: torch.device) -> tuple[Representation[Any], Acting, Mapping[str, Any]]:
    """The saved world model with the goals of the saved policy, how the policy acts in it, and the model's lineage.

    Raises:
        UserError: if a model is missing or damaged, was trained on another dataset, or does not fit the policy.
    """
    folder, policy = Path(settings.world_model), Path(settings.policy)
    model, described = load_world_model(folder, device)
    require_dataset(described, settings.dataset, folder)
    model = towards(model, goals_of(read_description(policy, made_by=LEARN, kind=POLICY)))
    acting = load_acting(policy, model, described, device, acting=settings.acting)
    return model, acting, described.lineage


def play(evaluator: PolicyEvaluator) -> list[RecordedEpisode]:
    """All episodes of the evaluation, in parallel, with a progress bar."""
    with counter(description="evaluate", unit="step") as step:
        return evaluator.play(evaluator.settings.episodes, on_step=step)


def imagine(evaluator: PolicyEvaluator, episodes: list[RecordedEpisode]) -> pd.DataFrame:
    """The table of the episodes; a planner's imagined returns take long and have a progress bar."""
    with counter(description="imagine the same episodes", unit="step") as step:
        return evaluator.table(episodes, on_step=step)


def write(settings: Evaluate, table: pd.DataFrame, metrics: Mapping[str, float]) -> None:
    """Metrics, the table of episodes and an empty folder for the video."""
    with replaced_folder(Path(settings.output)) as folder:
        write_figures(folder / "metrics.json", metrics)
        save_with(folder / "episodes.csv", lambda path: table.to_csv(path, index=False))
        (folder / "media").mkdir()


def draw(settings: Evaluate, evaluator: PolicyEvaluator, episodes: list[RecordedEpisode]) -> None:
    """A video of the first episodes, beside the results."""
    video = Path(settings.output) / "media" / "episodes.mp4"
    with shown(video):
        first, title = episodes[: settings.evaluation.video_episodes], training_title(evaluator.lineage)
        videos.episode_video(first, evaluator.make, video, title=title)


def conditions_of(settings: Evaluate, lineage: Mapping[str, Any]) -> str:
    """A digest of what the returns depend on besides the policy: data, environment, and episodes."""
    evaluation = settings.evaluation
    chosen = {"environment": settings.environment, "episodes": evaluation.episodes, "seed": evaluation.seed}
    if settings.acting is not None:
        chosen["acting"] = settings.acting
    return digest(lineage["dataset_digest"], json.dumps(chosen, sort_keys=True))


def report(settings: Evaluate, metrics: dict[str, float], tracked: reporting.StageRun, *, conditions: str) -> None:
    """Metrics and files, to the tracking; the registry's versions of the policy and its world model get metrics too."""
    output = Path(settings.output)
    tracked.headline(metrics)
    tracked.measured(model_digest(Path(settings.policy)), metrics, conditions=conditions)
    of_policy = {POLICY_RETURN: metrics["evaluation/return_iqm"]}
    tracked.measured(model_digest(Path(settings.world_model)), of_policy, conditions=conditions)
    tracked.artifacts(output / "episodes.csv")
    tracked.artifacts(output / "media", folder="media/evaluation", on_row=True)
