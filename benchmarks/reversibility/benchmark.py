"""Worlds, qualities of data and methods of the benchmark, as listed in ``reversibility.yaml``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from benchmarks.offline_suite.suite import selected
from dreamset.core.errors import UserError
from dreamset.pipeline.files import digest

BENCHMARK = Path(__file__).parent / "reversibility.yaml"
OBSERVATIONS = "observations"  # the method whose estimators read observations instead of features


@dataclass(frozen=True, slots=True)
class Method:
    """How a policy is learned and how it acts."""

    learning: tuple[str, ...]
    acting: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """One dataset."""

    world: str
    quality: str
    harm: str  # the info that counts what cannot be undone

    @property
    def name(self) -> str:
        """That of the dataset, too."""
        return f"{self.world}_{self.quality}"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """The contents of the yaml file."""

    common: tuple[str, ...]
    tasks: Mapping[str, Task]
    methods: Mapping[str, Method]

    @classmethod
    def read(cls, path: Path = BENCHMARK) -> "Benchmark":
        """The benchmark in a yaml file.

        Raises:
            UserError: if a key is missing or unknown.
        """
        content = yaml.safe_load(path.read_text())
        try:
            worlds, qualities = content.pop("worlds"), content.pop("qualities")
            tasks = [Task(world, quality, harm) for world, harm in worlds.items() for quality in qualities]
            methods = {name: Method(**_tuples(entry)) for name, entry in content.pop("methods").items()}
            return cls(tasks={task.name: task for task in tasks}, methods=methods, **_tuples(content))
        except (KeyError, TypeError) as error:
            raise UserError(f"{path} has a missing or unknown key ({error}); fix it") from None

    def choose(self, tasks: Sequence[str] | None, methods: Sequence[str] | None) -> "Benchmark":
        """Selects tasks and methods by name; ``None`` selects all.

        Raises:
            UserError: if a name is unknown.
        """
        chosen = selected("tasks", self.tasks, tasks), selected("methods", self.methods, methods)
        return replace(self, tasks=chosen[0], methods=chosen[1])

    def data(self, task: Task) -> list[str]:
        """The overrides of a dataset."""
        return [*self.common, f"dataset={task.name}"]

    def settings_digest(self, task: Task, method: Method) -> str:
        """Identifies results with other settings."""
        return digest(*self.data(task), *method.learning, "acting", *method.acting)


def _tuples(entries: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(values) for name, values in entries.items()}
