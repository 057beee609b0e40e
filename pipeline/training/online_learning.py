"""The loop of ``finetune``: collect a round of episodes, learn from old and new data, evaluate; again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from tqdm import tqdm

from dreamset.behaviors.base import Learner
from dreamset.behaviors.exploration import Exploration
from dreamset.core.capabilities import Representation
from dreamset.datasets import Store
from dreamset.environments.rollouts import RecordedEpisode
from dreamset.environments.wrappers import Environment
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.evaluation.playing import play, play_evaluation
from dreamset.pipeline.evaluation.scores import episode_table, imagined_returns, summarize
from dreamset.pipeline.progress import progress
from dreamset.pipeline.tracking import reporting
from dreamset.pipeline.training.checkpoint import Checkpoint
from dreamset.pipeline.training.fine_tuner import FineTuner
from dreamset.pipeline.training.loop import Training, take_updates
from dreamset.pipeline.training.online_data import OnlineData, mixed, round_seeds

LOG_EVERY = 20  # updates between the points of the losses' curves


@dataclass(slots=True)
class Progress:
    """Everything that changes while a policy is fine-tuned."""

    training: Training[FineTuner]
    online: OnlineData
    steps: int = 0  # of the environment, in all episodes that were collected
    rounds: int = 0
    evaluations: list[dict[str, float]] = field(default_factory=list)
    episodes: list[dict[str, float]] = field(default_factory=list)  # of all evaluations

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint; the collected episodes lie beside it."""
        return {
            "training": self.training.state_dict(),
            "collected": self.online.episodes,
            "steps": self.steps,
            "rounds": self.rounds,
            "evaluations": self.evaluations,
            "episodes": self.episodes,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """From the checkpoint."""
        self.training.load_state_dict(state["training"])
        self.online.episodes = state["collected"]
        self.steps, self.rounds = state["steps"], state["rounds"]
        self.evaluations, self.episodes = state["evaluations"], state["episodes"]


@dataclass(frozen=True, slots=True)
class OnlineLearner:
    """One fine-tuning from its first round to its last."""

    config: Mapping[str, Any]  # of the stage
    model: Representation[Any]
    behavior: Learner  # is scored, and collects unless there is an explorer
    explorer: Learner | None  # collects in its place
    lineage: Mapping[str, Any]  # of the world model, for reference scores
    offline: Store
    make: Callable[[], Environment]
    progress: Progress
    device: torch.device

    @property
    def settings(self) -> Mapping[str, Any]:
        """``finetuning`` of the configuration."""
        settings: Mapping[str, Any] = self.config["finetuning"]
        return settings

    def run(self, checkpoint: Checkpoint, tracked: reporting.StageRun) -> None:
        """Until there are steps enough. Rounds and updates survive a kill; an evaluation is repeated."""
        now = self.progress
        if now.rounds:
            self._learn_from(now.online.store())
        total = self.updates_due(self.settings["environment_steps"])
        with progress(range(0), description="finetune", total=total, initial=now.training.update) as bar:
            while True:
                self._learn(bar, checkpoint, tracked)
                if self._evaluation_is_due():
                    self._evaluate(tracked)
                    bar.set_postfix(steps=now.steps, return_iqm=f"{now.evaluations[-1]['return_iqm']:.4g}")
                if now.steps >= self.settings["environment_steps"]:
                    return
                self._learn_from(self._collect())
                checkpoint.save(now.state_dict())

    def play_evaluation(self, episodes: int) -> list[RecordedEpisode]:
        """The first episodes that ``evaluate`` would play, with the policy as it is now."""
        controller = self.behavior.controller(self.model)
        return play_evaluation(self.config["evaluation"], controller, self.make, episodes=episodes, device=self.device)

    def updates_due(self, steps: int) -> int:
        """After how many updates every step has been learned from ``train_ratio`` times, old rows counted as well."""
        batch = self.settings["batch"]
        return int(steps * self.settings["train_ratio"] / (batch["size"] * batch["length"]))

    def _learn(self, bar: "tqdm[int]", checkpoint: Checkpoint, tracked: reporting.StageRun) -> None:
        training = self.progress.training
        for figures in take_updates(training, self.updates_due(self.progress.steps), device=self.device):
            bar.update()
            if training.update % LOG_EVERY == 0:
                tracked.metrics({name: float(value) for name, value in figures.items()}, training.update)
            checkpoint.save_if_due(self.progress.state_dict)

    def _learn_from(self, online: Store) -> None:
        """The next batches come from the grown data; which number comes next is all that a sampler remembers."""
        training, settings = self.progress.training, self.settings
        sampler = mixed(
            self.offline, online, settings["batch"], online_share=settings["online_share"], seed=self.config["seed"]
        )
        sampler.load_state_dict(training.sampler.state_dict())
        training.sampler = sampler

    def _collect(self) -> Store:
        """One more round: one episode in each of the environments."""
        now = self.progress
        seeds, drawn = round_seeds(self.config["seed"], now.rounds, self.settings["environments"])
        exploration: Exploration = build_part(self.settings["exploration"])
        generator = torch.Generator(self.device).manual_seed(drawn)
        collector = self.behavior if self.explorer is None else self.explorer
        controller = collector.controller(self.model, exploration=exploration)
        episodes = play(controller, self.make, seeds=seeds, generator=generator)
        store = now.online.add(episodes)
        now.rounds += 1
        now.steps += sum(len(episode.rewards) for episode in episodes)
        return store

    def _evaluation_is_due(self) -> bool:
        now, every, enough = self.progress, self.settings["evaluate_every"], self.settings["environment_steps"]
        if not now.evaluations:
            return True  # the policy as it was learned offline
        last = int(now.evaluations[-1]["environment_steps"])
        return bool(now.steps // every > last // every or last < enough <= now.steps)

    def _evaluate(self, tracked: reporting.StageRun) -> None:
        now, settings, context = self.progress, self.config["evaluation"], self.config["context"]
        played = self.play_evaluation(settings["episodes"])
        imagined = imagined_returns(self.model, self.behavior, played, context=context, device=self.device)
        table = episode_table(played, imagined, context=context)
        figures = summarize(settings, table, self.lineage)
        when = {"environment_steps": now.steps, "updates": now.training.update, "rounds": now.rounds}
        now.evaluations.append(when | {name.removeprefix("evaluation/"): value for name, value in figures.items()})
        now.episodes += table.assign(environment_steps=now.steps).to_dict("records")  # type: ignore[arg-type]
        curve = {f"finetune/{name}": value for name, value in now.evaluations[-1].items() if name not in when}
        tracked.headline(curve, now.steps)
