"""Plays and scores one policy: the stages ``evaluate`` and ``finetune`` measure policies in the same way."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch

from dreamset.behaviors.base import Acting
from dreamset.core.capabilities import Representation
from dreamset.environments.rollouts import RecordedEpisode
from dreamset.environments.wrappers import Environment
from dreamset.pipeline.config.settings import Evaluation
from dreamset.pipeline.evaluation.playing import Decisions, play
from dreamset.pipeline.evaluation.scores import episode_table, imagined_returns, summarize


@dataclass(frozen=True, slots=True)
class PolicyEvaluator:
    """A policy, its environment, and how its episodes are scored."""

    settings: Evaluation
    context: int  # rows that the model sees before it imagines the rest of an episode
    model: Representation[Any]
    behavior: Acting
    make: Callable[[], Environment]
    lineage: Mapping[str, Any]  # of the world model: reference scores and the return in the dataset
    device: torch.device
    decisions: Decisions = field(default_factory=Decisions)  # of the episodes that were played last

    def play(self, episodes: int, *, on_step: Callable[[], None] = lambda: None) -> list[RecordedEpisode]:
        """The first ``episodes`` episodes of the evaluation, without exploration."""
        first = self.settings.seed
        generator = torch.Generator(self.device).manual_seed(first)
        controller = self.behavior.controller(self.model)
        seeds = range(first, first + episodes)
        return play(controller, self.make, seeds=seeds, generator=generator, on_step=on_step, decisions=self.decisions)

    def table(self, episodes: list[RecordedEpisode], *, on_step: Callable[[], None] = lambda: None) -> pd.DataFrame:
        """One row per episode, with its real and its imagined return.

        A planner plans in imagination, too, which takes as long as playing; it calls ``on_step`` after each step.
        """
        imagined = imagined_returns(
            self.model, self.behavior, episodes, context=self.context, device=self.device, on_step=on_step
        )
        return episode_table(episodes, imagined, context=self.context)

    def score(self, table: pd.DataFrame) -> dict[str, float]:
        """Mean and interquartile mean with bootstrap intervals, by the names of all metrics."""
        return summarize(self.settings, table, self.lineage)
