"""Tasks, world models and ways of acting of the benchmark, as listed in ``acting.yaml``."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from benchmarks.offline_suite.suite import selected
from dreamset.core.errors import UserError
from dreamset.pipeline.files import digest

BENCHMARK = Path(__file__).parent / "acting.yaml"
PREDICTED = "predicted"  # the reward without pessimism
WHOLE = "whole"  # the way of a system, whose preset says how it acts
EXACT = "exact_dynamics"  # the "world model" of simulator.py

Overrides = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """Overrides of a recorded dataset and of what learns from it."""

    data: Overrides
    learning: Overrides
    planning: Overrides = ()  # only for ways that plan
    simulated: tuple[str, ...] = ()  # ways that also plan in the exact dynamics, see simulator.py


@dataclass(frozen=True, slots=True)
class Method:
    """One row of the table: a world model, the reward that the policy was learned with, and a way of acting."""

    model: str  # an objective or a system
    reward: str
    way: str
    learning: Overrides  # of world model and policy
    acting: Overrides = ()  # nothing but evaluation reads them

    @property
    def name(self) -> str:
        """Identifies the row of a task and seed."""
        return "-".join([self.model, self.way] + ([] if self.reward == PREDICTED else [self.reward]))


@dataclass(frozen=True, slots=True)
class Benchmark:
    """The contents of the yaml file."""

    common: Overrides
    tasks: Mapping[str, Task]
    objectives: Mapping[str, Overrides]
    rewards: Mapping[str, Overrides]
    ways: Mapping[str, Overrides]
    only_ways: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by reward; all ways if it is not named
    systems: Mapping[str, Mapping[str, Overrides]] = field(default_factory=dict)  # name -> task -> overrides

    @classmethod
    def read(cls, path: Path = BENCHMARK) -> "Benchmark":
        """The benchmark in a yaml file.

        Raises:
            UserError: if a key is missing or unknown, or settings name an unknown task or way.
        """
        content = _tuples(yaml.safe_load(path.read_text()))
        try:
            tasks = {name: Task(**entry) for name, entry in content.pop("tasks").items()}
            benchmark = cls(tasks=tasks, **content)
        except (KeyError, TypeError) as error:
            raise UserError(f"{path} has a missing or unknown key ({error}); fix it") from None
        for system, entries in benchmark.systems.items():
            _require_known(f"{path}: system {system} names the task", entries, tasks)
        _require_known(f"{path}: 'only_ways' names the reward", benchmark.only_ways, benchmark.rewards)
        for reward, ways in benchmark.only_ways.items():
            _require_known(f"{path}: 'only_ways' of {reward} names the way", ways, benchmark.ways)
        for name, task in tasks.items():
            _require_known(f"{path}: 'simulated' of {name} names the way", task.simulated, benchmark.ways)
        return benchmark

    def choose(self, tasks: Sequence[str] | None, models: Sequence[str] | None) -> "Benchmark":
        """Selects tasks and models (objectives, systems, the exact dynamics) by name; ``None`` selects all.

        Raises:
            UserError: if a name is unknown.
        """
        kept = selected("models", {**self.objectives, **self.systems, EXACT: ()}, models)
        chosen = selected("tasks", self.tasks, tasks)
        if EXACT not in kept:
            chosen = {name: replace(task, simulated=()) for name, task in chosen.items()}
        return replace(
            self,
            tasks=chosen,
            objectives={name: entry for name, entry in self.objectives.items() if name in kept},
            systems={name: entry for name, entry in self.systems.items() if name in kept},
        )

    def methods(self, task: str) -> list[Method]:
        """All rows of a task: those of the objectives, the systems with settings for it, and the exact dynamics."""
        chosen = self.tasks[task]
        base = (*self.common, *chosen.data)
        rows = [
            Method(
                model,
                reward,
                way,
                learning=(*base, *chosen.learning, *objective, *terms),
                acting=self._planning(chosen, way),
            )
            for reward, terms in self.rewards.items()
            for model, objective in self.objectives.items()
            for way in self.only_ways.get(reward, tuple(self.ways))
        ]
        whole = [
            Method(name, PREDICTED, WHOLE, learning=(*base, *entries[task]))
            for name, entries in self.systems.items()
            if task in entries
        ]
        exact = [
            Method(EXACT, PREDICTED, way, learning=(*base, *chosen.learning), acting=self._planning(chosen, way))
            for way in chosen.simulated
        ]
        return rows + whole + exact

    def _planning(self, task: Task, way: str) -> Overrides:
        """The overrides of a way of acting on a task."""
        return (*self.ways[way], *task.planning) if self.ways[way] else ()


def settings_digest(method: Method) -> str:
    """Identifies results with other settings."""
    return digest(*method.learning, "acting", *method.acting)


def _require_known(place: str, names: Iterable[str], known: Iterable[str]) -> None:
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise UserError(f"{place} {unknown[0]}; available: {', '.join(known)}; fix it")


def _tuples(value: Any) -> Any:
    """Lists become tuples."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(value) if isinstance(value, list) else value
