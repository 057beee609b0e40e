"""Tasks, data, methods and rows of the benchmark, as listed in ``goals.yaml``."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from benchmarks.offline_suite.suite import as_tuples, selected
from dreamset.core.errors import UserError
from dreamset.pipeline.files import digest

BENCHMARK = Path(__file__).parent / "goals.yaml"
TASK = "TASK"  # stands for the name of a task in overrides
ANCHORS = ("planner", "dino_wm", "rssm", "reconstruction", "hindsight")  # lists that only other lists name
BASELINE = "baseline"

Overrides = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Method:
    """How a policy is learned, and from which data."""

    data: str
    learning: Overrides


@dataclass(frozen=True, slots=True)
class Row:
    """What is measured once per training seed."""

    task: str
    method: str  # or a baseline
    trajectories: int = 0  # of its data; 0: nothing is learned
    severity: float = 0.0  # of the looks while acting

    @property
    def name(self) -> str:
        """Identifies the row of a task and seed; the baselines do not see looks."""
        return f"{self.method}-{self.trajectories}-{self.severity:g}" if self.trajectories else self.method


@dataclass(frozen=True, slots=True)
class Benchmark:
    """The contents of the yaml file."""

    common: Overrides
    tasks: tuple[str, ...]
    trajectories: tuple[int, ...]
    severities: tuple[float, ...]
    recorded: Overrides
    data: Mapping[str, Overrides]
    severity: str
    methods: Mapping[str, Method]
    baselines: Mapping[str, str]  # targets of policies

    @classmethod
    def read(cls, path: Path = BENCHMARK) -> "Benchmark":
        """The benchmark in a yaml file.

        Raises:
            UserError: if a key is missing or unknown, or a method names unknown data.
        """
        content = as_tuples(yaml.safe_load(path.read_text()))
        content = {name: value for name, value in content.items() if name not in ANCHORS}
        try:
            methods = {name: Method(**entry) for name, entry in content.pop("methods").items()}
            benchmark = cls(methods=methods, **content)
        except (KeyError, TypeError) as error:
            raise UserError(f"{path} has a missing or unknown key ({error}); fix it") from None
        for name, method in methods.items():
            if method.data not in benchmark.data:
                raise UserError(
                    f"{path}: {name} has the data {method.data}; available: {', '.join(benchmark.data)}; fix it"
                )
        return benchmark

    def choose(
        self, tasks: Sequence[str] | None, methods: Sequence[str] | None, trajectories: Sequence[int] | None
    ) -> "Benchmark":
        """Selects tasks, methods (baselines among them) and numbers of trajectories; ``None`` selects all.

        Raises:
            UserError: if a name is unknown.
        """
        kept = selected("methods", {**self.methods, **self.baselines}, methods)
        counts = {str(count): count for count in self.trajectories}
        chosen = selected("trajectories", counts, None if trajectories is None else [str(one) for one in trajectories])
        return replace(
            self,
            tasks=tuple(selected("tasks", dict.fromkeys(self.tasks), tasks)),
            methods={name: method for name, method in self.methods.items() if name in kept},
            baselines={name: target for name, target in self.baselines.items() if name in kept},
            trajectories=tuple(chosen.values()),
        )

    def rows(self, task: str) -> Iterator[Row]:
        """The rows of a task: every number of trajectories with the plain look, other looks with the most."""
        for method in self.methods:
            for count in self.trajectories:
                yield Row(task, method, count)
            for severity in self.severities:
                if severity > 0:
                    yield Row(task, method, max(self.trajectories), severity)
        for baseline in self.baselines:
            yield Row(task, baseline)

    def source(self, task: str, count: int) -> list[str]:
        """The overrides of the recorded dataset, which the stores of all data read."""
        return _of_task(task, [*self.common, *self.recorded, f"collection.episodes={count}"])

    def store(self, task: str, data: str, count: int) -> list[str]:
        """The overrides of a store."""
        return _of_task(task, [*self.common, *self.data[data], f"collection.episodes={count}"])

    def overrides(self, row: Row) -> list[str]:
        """All overrides of a row."""
        if row.method in self.baselines:
            return self.source(row.task, max(self.trajectories))
        method = self.methods[row.method]
        store = self.store(row.task, method.data, row.trajectories)
        return [*store, *_of_task(row.task, method.learning), f"{self.severity}={row.severity}"]

    def baseline(self, row: Row) -> dict[str, Any]:
        """The node of a baseline's policy."""
        return {"_target_": self.baselines[row.method].replace(TASK, row.task), "_partial_": True}

    def settings_digest(self, row: Row) -> str:
        """Identifies results with other settings."""
        return digest(*self.overrides(row), self.baselines.get(row.method, ""))


def _of_task(task: str, overrides: Sequence[str]) -> list[str]:
    return [override.replace(TASK, task) for override in overrides]
