"""Runs one fine-tuning: the loop of the stage, without its files and its video, which needs a renderer."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.offline_suite.episodes import Returns
from dreamset.datasets import Store
from dreamset.pipeline.stages import finetune
from dreamset.pipeline.stages.environment import environment_factory, require_environment
from dreamset.pipeline.stages.settings import Finetune
from dreamset.pipeline.tracking import reporting
from dreamset.pipeline.training.checkpoint import Checkpoint
from dreamset.pipeline.training.online_learning import OnlineLearner

# columns from the stage's evaluations
FIGURES = ("environment_steps", "updates", "imagined_return", "real_return")


def run(work: dict[str, Any]) -> list[tuple[dict[str, Any], Returns]]:
    """Metrics and returns of every evaluation; the first one is of the offline policy.

    A round ends with its episodes, so evaluations run slightly later than due; ``due`` is the same number for all
    seeds.
    """
    with fine_tuned(Finetune.of(**work["stage"])) as (learner, seconds):
        return evaluations(learner, seconds)


@contextmanager
def fine_tuned(settings: Finetune) -> Iterator[tuple[OnlineLearner, float]]:
    """The learner after its last round, and its CPU seconds; its collected episodes last as long as the block."""
    device = torch.device("cpu")
    checkpoint = Checkpoint(Path(settings.checkpoints))
    checkpoint.remove()  # the earlier cost of a resumed training is unknown
    began = time.process_time()
    environment = require_environment(settings.environment, stage="finetune", remedy="choose another task")
    make = environment_factory(environment, settings.episode_limits, output=settings.output)
    models = finetune.Models.load(settings, device)
    online = checkpoint.folder / "online"
    learner = finetune.start(settings, models, make, Store.open(settings.store), online, device)
    learner.run(checkpoint, reporting.StageRun(None))
    yield learner, round(time.process_time() - began, 1)
    checkpoint.remove()


def evaluations(learner: OnlineLearner, seconds: float) -> list[tuple[dict[str, Any], Returns]]:
    """Metrics and returns of every evaluation; ``seconds`` are those of the whole fine-tuning."""
    points, settings = [], learner.settings
    for evaluation in learner.progress.evaluations:
        steps = evaluation["environment_steps"]
        own = [row for row in learner.progress.episodes if row["environment_steps"] == steps]
        figures = {name: evaluation[name] for name in FIGURES if name in evaluation}
        figures["due"] = min(steps // settings.evaluate_every * settings.evaluate_every, settings.environment_steps)
        points.append((figures | {"cpu_seconds": seconds}, [(row["return"], int(row["length"])) for row in own]))
    return points
