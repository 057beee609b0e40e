"""Tasks and collectors of the benchmark, as listed in ``exploration.yaml``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from benchmarks.exploration.cells import Axis
from benchmarks.offline_suite.suite import as_tuples, selected
from dreamset.core.errors import UserError
from dreamset.pipeline.files import digest

BENCHMARK = Path(__file__).parent / "exploration.yaml"
RANDOM, RECORDED = "random", "recorded"  # collectors that do not learn
COLLECTION, ZERO_SHOT, FEW_SHOT, BASELINE = "collection", "zero_shot", "few_shot", "baseline"  # phases of a row

Overrides = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Episodes:
    """Numbers of episodes."""

    all: int  # of every collector's data
    first: int  # of random actions, with which a learner's data begin
    task: int  # of the few-shot fine-tuning

    def __post_init__(self) -> None:
        if not 0 < self.first < self.all:
            raise UserError(f"episodes: first is {self.first}; allowed: from 1 to below all, which is {self.all}")


@dataclass(frozen=True, slots=True)
class Task:
    """An environment with a recorded dataset, a grid over its states, and two rewards or more."""

    episodes: Episodes
    steps: int  # of an episode; no episode ends earlier
    cells: tuple[Axis, ...]
    data: Overrides
    random: Overrides  # makes the recorded actions random
    rewards: Mapping[str, Overrides]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the results: a collection, or what a policy earns that was learned from it."""

    task: str
    collector: str
    seed: int
    phase: str
    reward: str = ""  # of the policy

    @property
    def method(self) -> str:
        """Unique for a task and seed."""
        phase = self.phase if self.phase == FEW_SHOT else ""
        return "-".join(filter(None, [self.collector, self.reward, phase]))

    @property
    def key(self) -> tuple[str, str, str]:
        """As in the results."""
        return self.task, self.method, str(self.seed)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """The contents of the yaml file."""

    common: Overrides
    tasks: Mapping[str, Task]
    learners: Mapping[str, Overrides]
    zero_shot: Overrides
    few_shot: Overrides

    @classmethod
    def read(cls, path: Path = BENCHMARK) -> "Benchmark":
        """The benchmark in a yaml file.

        Raises:
            UserError: if a key is missing or unknown, or a number of episodes is impossible.
        """
        content = as_tuples(yaml.safe_load(path.read_text()))
        try:
            return cls(**content | {"tasks": {name: _task(entry) for name, entry in content["tasks"].items()}})
        except (KeyError, TypeError) as error:
            raise UserError(f"{path} has a missing or unknown key ({error}); fix it") from None

    def choose(self, tasks: Sequence[str] | None, collectors: Sequence[str] | None) -> "Benchmark":
        """Selects tasks and learners by name; ``None`` selects all. Random and recorded data are always compared.

        Raises:
            UserError: if a name is unknown.
        """
        learners = selected("learners", self.learners, collectors)
        return replace(self, tasks=selected("tasks", self.tasks, tasks), learners=learners)

    @property
    def collectors(self) -> list[str]:
        """All names."""
        return [*self.learners, RANDOM, RECORDED]

    def recording(self, task: str, collector: str) -> Overrides:
        """The recorded episodes of a collector: all of them, or those with which a learner begins."""
        chosen = self.tasks[task]
        count = chosen.episodes.first if collector in self.learners else chosen.episodes.all
        policy = () if collector == RECORDED else chosen.random
        return (*self.common, *chosen.data, *policy, f"collection.episodes={count}")

    def learning(self, task: str, collector: str) -> Overrides:
        """A learner's loop of collecting and training."""
        chosen = self.tasks[task]
        steps = chosen.steps * (chosen.episodes.all - chosen.episodes.first)
        return (*self.learners[collector], f"finetuning.environment_steps={steps}")

    def overrides(self, row: Row) -> Overrides:
        """All settings of a row but those of the collection before it."""
        if row.phase == COLLECTION:
            learning = self.learning(row.task, row.collector) if row.collector in self.learners else ()
            return (*self.recording(row.task, row.collector), *learning)
        chosen = self.tasks[row.task]
        common = (*self.common, *chosen.rewards[row.reward])
        if row.phase == BASELINE:
            return common
        steps = f"finetuning.environment_steps={chosen.steps * chosen.episodes.task}"
        return (*common, *self.zero_shot, *((*self.few_shot, steps) if row.phase == FEW_SHOT else ()))

    def settings_digest(self, row: Row) -> str:
        """Identifies results with other settings, those of the collection included."""
        grid = map(repr, self.tasks[row.task].cells) if row.phase == COLLECTION else ()
        before = self.settings_digest(replace(row, phase=COLLECTION, reward="")) if row.phase in LEARNED else ""
        return digest(*self.overrides(row), *grid, "after", before)

    def rows(self, task: str, seed: int, phase: str) -> list[Row]:
        """All rows of a phase that follows the collections."""
        return [
            Row(task, collector, seed, phase, reward)
            for reward in self.tasks[task].rewards
            for collector in self.collectors
        ]


LEARNED = (ZERO_SHOT, FEW_SHOT)


def _task(entry: Mapping[str, Any]) -> Task:
    cells = tuple(Axis(**axis | {"elements": tuple(axis["elements"])}) for axis in entry["cells"])
    return Task(**entry | {"episodes": Episodes(**entry["episodes"]), "cells": cells})
