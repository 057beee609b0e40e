"""Learns one behaviour on a trained world model, and lets it act at every budget of updates and of CPU seconds."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.acting.playing import environment_of
from benchmarks.offline_suite.episodes import Returns, evaluation_seeds
from dreamset.core.capabilities import Representation
from dreamset.datasets import Store
from dreamset.pipeline.artifacts.saved_models import load_world_model
from dreamset.pipeline.evaluation.playing import play
from dreamset.pipeline.progress import counter
from dreamset.pipeline.registry.registration import code_version
from dreamset.pipeline.stages import learn_behavior
from dreamset.pipeline.stages.settings import Evaluate, LearnBehavior
from dreamset.pipeline.training.behavior_trainer import BehaviorTrainer, calibrate
from dreamset.pipeline.training.loop import Training, recorded_batches

Point = tuple[dict[str, Any], Returns]


@dataclass(slots=True)
class Budgets:
    """Which budgets of updates and of seconds are not reached yet."""

    remaining: dict[str, list[float]]  # kind -> ascending amounts

    def reached(self, spent: Mapping[str, float]) -> list[tuple[str, float]]:
        """The budgets that ``spent`` has reached since the last call: kind and amount."""
        found = []
        for kind, amounts in self.remaining.items():
            while amounts and spent[kind] >= amounts[0]:
                found.append((kind, amounts.pop(0)))
        return found

    @property
    def done(self) -> bool:
        """Whether all are reached."""
        return not any(self.remaining.values())


@dataclass
class Curve:
    """A training and the CPU seconds of its updates, batches included."""

    training: Training[BehaviorTrainer]
    model: Representation[Any]
    settings: Evaluate
    spent: dict[str, float] = field(default_factory=lambda: {"updates": 0, "seconds": 0.0})

    def update(self) -> None:
        """One update on the next batch."""
        began = time.process_time()
        self.training.trainer.step(self.training.sampler.sample())
        self.spent["seconds"] += time.process_time() - began
        self.spent["updates"] += 1

    def play(self) -> Returns:
        """(return, length) of the evaluation's episodes, by the policy as it is now."""
        seeds = evaluation_seeds(self.settings.evaluation.model_dump())
        generator = torch.Generator().manual_seed(self.settings.evaluation.seed)
        controller = self.training.trainer.behavior.controller(self.model)
        episodes = play(controller, environment_of(self.settings), seeds=seeds, generator=generator)
        return [(episode.total_reward, len(episode.rewards)) for episode in episodes]


def run(work: dict[str, Any]) -> list[Point]:
    """Metrics and returns at every budget; an update that reaches several budgets acts once."""
    settings, device = LearnBehavior.of(**work["learn"]), torch.device("cpu")
    model, _ = load_world_model(Path(settings.world_model), device)
    store = Store.open(settings.store)
    training = learn_behavior.start(settings, store, model, device)
    batches = recorded_batches(settings.training.batch, store, seed=settings.seed, device=device)
    calibrate(training.trainer.reward, model, batches, torch.Generator(device).manual_seed(settings.seed))
    return points(Curve(training, model, Evaluate.of(**work["evaluate"])), work["budgets"])


def points(curve: Curve, budgets: Mapping[str, Sequence[float]]) -> list[Point]:
    """Trains until all budgets are reached."""
    open_budgets = Budgets({kind: sorted(amounts) for kind, amounts in budgets.items()})
    found: list[Point] = []
    with counter(description="learn", unit="update") as step:
        while not open_budgets.done:
            curve.update()
            step()
            reached = open_budgets.reached(curve.spent)
            returns = curve.play() if reached else []
            figures = {"updates": curve.spent["updates"], "cpu_seconds": round(curve.spent["seconds"], 2)}
            for kind, amount in reached:
                found.append((figures | {"budget": kind, "amount": amount, "code": code_version()}, returns))
    return found
