"""Plays one way of acting, with its CPU seconds per decision."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.offline_suite.episodes import Returns, evaluation_seeds
from benchmarks.offline_suite.ours import COST
from dreamset.core.capabilities import Controller
from dreamset.environments.rollouts import RecordedEpisode
from dreamset.environments.wrappers import Environment
from dreamset.pipeline.evaluation.playing import play
from dreamset.pipeline.files import read_json
from dreamset.pipeline.progress import counter
from dreamset.pipeline.registry.registration import code_version
from dreamset.pipeline.stages import evaluate
from dreamset.pipeline.stages.environment import environment_factory, require_environment
from dreamset.pipeline.stages.settings import Evaluate

EVALUATION = {  # column -> name in the stage's metrics
    "normalized_mean": "evaluation/normalized_mean",
    "imagined_return": "evaluation/imagined_return",
    "real_return": "evaluation/real_return",
    "dataset_return": "evaluation/dataset_return",
}
TRAINING = {
    "world_model_updates": "cost/updates",
    "behavior_updates": "cost/behavior_updates",
    "reward_error_h1": "validation/reward_error_h1",
    "reward_error_h5": "validation/reward_error_h5",
    "reward_error_h15": "validation/reward_error_h15",
    "probe_r2": "validation/probe_r2",
}


def run(work: dict[str, Any]) -> tuple[dict[str, Any], Returns]:
    """Metrics and (return, length) of every episode."""
    settings = Evaluate.of(**work["evaluate"])
    figures, returns = played(settings)
    costs, codes = trained(settings)
    return figures | costs | {"code": ", ".join(dict.fromkeys([*codes, code_version()]))}, returns


def trained(settings: Evaluate) -> tuple[dict[str, Any], list[str]]:
    """Figures and CPU seconds of the training of world model and policy, and the versions of its code."""
    model, policy = Path(settings.world_model).parent, Path(settings.policy).parent
    written = [read_json(folder / "metrics.json", made_by="the stage") for folder in (model, policy)]
    metrics = written[0] | written[1]
    costs = [read_json(folder / COST, made_by="its job") for folder in (model, policy)]
    seconds = [round(cost["cpu_seconds"], 1) for cost in costs]
    figures: dict[str, Any] = {column: metrics[name] for column, name in TRAINING.items() if name in metrics}
    figures |= dict(zip(("world_model_cpu_seconds", "behavior_cpu_seconds"), seconds, strict=True))
    return figures | {"cpu_seconds": sum(seconds)}, [cost["code"] for cost in costs]


def played(settings: Evaluate) -> tuple[dict[str, Any], Returns]:
    """The stage ``evaluate`` without its files and its video, which needs a renderer; with the time of decisions."""
    evaluator = evaluate.load_evaluator(settings, environment_of(settings), torch.device("cpu"))
    episodes, figures = timed_episodes(evaluator.behavior.controller(evaluator.model), settings)
    metrics = evaluator.score(evaluator.table(episodes))
    figures |= {column: metrics[name] for column, name in EVALUATION.items() if name in metrics}
    return figures, [(episode.total_reward, len(episode.rewards)) for episode in episodes]


def timed_episodes(controller: Controller[Any], settings: Evaluate) -> tuple[list[RecordedEpisode], dict[str, Any]]:
    """The episodes of the evaluation, side by side, and how many decisions the controller makes per CPU second."""
    seeds, timed = evaluation_seeds(settings.evaluation.model_dump()), Timed(controller)
    generator = torch.Generator().manual_seed(settings.evaluation.seed)
    with counter(description="evaluate", unit="step") as step:
        episodes = play(timed, environment_of(settings), seeds=seeds, generator=generator, on_step=step)
    return episodes, {"parallel_episodes": len(seeds), "decisions_per_cpu_second": timed.rows / timed.seconds}


def environment_of(settings: Evaluate) -> Callable[[], Environment]:
    """Makes the task's environment.

    Raises:
        UserError: if the task has none.
    """
    environment = require_environment(settings.environment, stage="evaluate", remedy="choose another task")
    return environment_factory(environment, settings.episode_limits, output=settings.output)


@dataclass
class Timed:
    """A controller that adds up the CPU seconds of its decisions: of inferring the state and choosing the action."""

    controller: Controller[Any]
    rows: int = 0  # decisions: one for each row of each episode
    seconds: float = 0.0

    @property
    def spec(self) -> Any:
        """The controller's."""
        return self.controller.spec

    def initial(self, count: int) -> Any:
        """The controller's."""
        return self.controller.initial(count)

    def act(
        self, observations: Mapping[str, Tensor], is_first: Tensor, memory: Any, generator: torch.Generator
    ) -> tuple[Tensor, Any]:
        """The controller's action and memory."""
        began = time.process_time()
        acted = self.controller.act(observations, is_first, memory, generator)
        self.seconds += time.process_time() - began
        self.rows += len(is_first)
        return acted
