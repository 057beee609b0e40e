"""The loop of ``finetune``: collect a round of episodes, train on offline and online data, evaluate, repeat."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from tqdm import tqdm

from dreamset.behaviors.base import Acting
from dreamset.behaviors.exploration import Exploration
from dreamset.datasets import Store
from dreamset.datasets.goals import LaterRows
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.config.settings import Finetuning
from dreamset.pipeline.evaluation.playing import play
from dreamset.pipeline.evaluation.policy_evaluator import PolicyEvaluator
from dreamset.pipeline.progress import progress, show_figures
from dreamset.pipeline.tracking import reporting
from dreamset.pipeline.training.checkpoint import Checkpoint
from dreamset.pipeline.training.fine_tuner import FineTuner
from dreamset.pipeline.training.loop import Training, take_updates
from dreamset.pipeline.training.online_data import OnlineData, mixed, round_seeds

LOG_EVERY = 20  # updates between the points of the loss curves


@dataclass(slots=True)
class Progress:
    """The state of a fine-tuning: everything that changes while it runs."""

    training: Training[FineTuner]
    online: OnlineData
    steps: int = 0  # of the environment, in all collected episodes
    rounds: int = 0
    evaluations: list[dict[str, float]] = field(default_factory=list)
    episodes: list[dict[str, float]] = field(default_factory=list)  # of all evaluations
    decisions: dict[str, float] = field(default_factory=dict)  # cost of a decision in the last evaluation

    def state_dict(self) -> dict[str, Any]:
        """The state for the checkpoint; the collected episodes lie beside it."""
        return {
            "training": self.training.state_dict(),
            "collected": self.online.episodes,
            "steps": self.steps,
            "rounds": self.rounds,
            "evaluations": self.evaluations,
            "episodes": self.episodes,
            "decisions": self.decisions,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of ``state_dict``."""
        self.training.load_state_dict(state["training"])
        self.online.episodes = state["collected"]
        self.steps, self.rounds = state["steps"], state["rounds"]
        self.evaluations, self.episodes = state["evaluations"], state["episodes"]
        self.decisions = state["decisions"]


@dataclass(frozen=True, slots=True)
class OnlineLearner:
    """One fine-tuning, from its first round to its last."""

    settings: Finetuning
    seed: int
    evaluator: PolicyEvaluator  # of the policy
    collector: Acting  # collects the episodes: the policy itself, or an explorer
    offline: Store
    progress: Progress
    goals: LaterRows | None = None  # how goals are drawn from both data

    def run(self, checkpoint: Checkpoint, tracked: reporting.StageRun) -> None:
        """Runs until ``environment_steps`` are collected.

        After a kill, rounds and updates are kept, and an evaluation is repeated.
        """
        now = self.progress
        if now.rounds:
            self._train_on(now.online.store())
        total = self.updates_due(self.settings.environment_steps)
        first = now.training.update
        with progress(range(0), description="fine-tune", total=total, initial=first, unit="update") as bar:
            while True:
                self._train(bar, checkpoint, tracked)
                if self._evaluation_is_due():
                    self._evaluate(tracked)
                    last = now.evaluations[-1]["return_iqm"]
                    show_figures(bar, {"finetune/environment_steps": now.steps, "evaluation/return_iqm": last})
                if now.steps >= self.settings.environment_steps:
                    checkpoint.save(now.state_dict())  # what follows the training may fail
                    return
                self._train_on(self._collect())
                checkpoint.save(now.state_dict())

    def updates_due(self, steps: int) -> int:
        """Number of updates after which ``train_ratio`` rows were trained on per step, offline rows included."""
        batch = self.settings.batch
        return int(steps * self.settings.train_ratio / (batch.size * batch.length))

    def _train(self, bar: "tqdm[int]", checkpoint: Checkpoint, tracked: reporting.StageRun) -> None:
        training = self.progress.training
        due = self.updates_due(self.progress.steps)
        for figures in take_updates(training, due, device=self.evaluator.device, checkpoint=checkpoint):
            bar.update()
            if training.update % LOG_EVERY == 0:
                tracked.metrics({name: float(value) for name, value in figures.items()}, training.update)
            checkpoint.save_if_due(self.progress.state_dict)

    def _train_on(self, online: Store) -> None:
        """Samples further batches from the grown data. The state of a sampler is the number of its next batch."""
        training, settings = self.progress.training, self.settings
        share, goals = settings.online_share, self.goals
        sampler = mixed(self.offline, online, settings.batch, online_share=share, seed=self.seed, goals=goals)
        sampler.load_state_dict(training.sampler.state_dict())
        training.sampler = sampler

    def _collect(self) -> Store:
        """Collects one more round: one episode in each environment."""
        now, evaluator = self.progress, self.evaluator
        seeds, policy_seed = round_seeds(self.seed, now.rounds, self.settings.environments)
        exploration: Exploration = build_part(self.settings.exploration)
        generator = torch.Generator(evaluator.device).manual_seed(policy_seed)
        controller = self.collector.controller(evaluator.model, exploration=exploration)
        episodes = play(controller, evaluator.make, seeds=seeds, generator=generator)
        store = now.online.add(episodes)
        now.rounds += 1
        now.steps += sum(len(episode.rewards) for episode in episodes)
        return store

    def _evaluation_is_due(self) -> bool:
        now, every, enough = self.progress, self.settings.evaluate_every, self.settings.environment_steps
        if not now.evaluations:
            return True  # of the offline policy
        last = int(now.evaluations[-1]["environment_steps"])
        return bool(now.steps // every > last // every or last < enough <= now.steps)

    def _evaluate(self, tracked: reporting.StageRun) -> None:
        now, evaluator = self.progress, self.evaluator
        table = evaluator.table(evaluator.play(evaluator.settings.episodes))
        now.decisions = evaluator.decisions.figures()
        figures = evaluator.score(table)
        counts = {"environment_steps": now.steps, "updates": now.training.update, "rounds": now.rounds}
        now.evaluations.append(counts | {name.removeprefix("evaluation/"): value for name, value in figures.items()})
        now.episodes += table.assign(environment_steps=now.steps).to_dict("records")  # type: ignore[arg-type]
        curve = {f"finetune/{name}": value for name, value in now.evaluations[-1].items() if name not in counts}
        tracked.headline(curve, now.steps)
