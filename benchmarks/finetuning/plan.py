"""Plans the jobs: offline training once per seed, then fine-tuning with every variant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from benchmarks.offline_suite import plan as suite
from benchmarks.offline_suite.jobs import Job
from benchmarks.offline_suite.results import Key
from benchmarks.offline_suite.suite import selected
from dreamset.core.errors import UserError
from dreamset.datasets import Store
from dreamset.pipeline.config.compose import Config
from dreamset.pipeline.files import digest
from dreamset.pipeline.stages import table as stages

BENCHMARK = Path(__file__).parent / "finetuning.yaml"
OFFLINE = "offline"  # the method whose row marks the offline models as complete

Overrides = Sequence[str]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """The contents of the yaml file."""

    common: Overrides
    tasks: Mapping[str, Overrides]
    variants: Mapping[str, Overrides]

    @classmethod
    def read(cls, path: Path = BENCHMARK) -> "Benchmark":
        """The benchmark in a yaml file.

        Raises:
            UserError: if a key is missing or unknown.
        """
        try:
            return cls(**yaml.safe_load(path.read_text()))
        except TypeError as error:
            raise UserError(f"{path} has a missing or unknown key ({error}); fix it") from None

    def choose(self, tasks: Sequence[str] | None) -> "Benchmark":
        """Selects tasks by name; ``None`` selects all.

        Raises:
            UserError: if a name is unknown.
        """
        return replace(self, tasks=selected("tasks", self.tasks, tasks))


@dataclass(frozen=True)
class Plan:
    """The jobs that remain to run in a working folder."""

    benchmark: Benchmark
    seeds: Sequence[int]
    work: Path

    def preparations(self) -> list[Job]:
        """Jobs for datasets without a store."""
        return suite.preparations(self._compose(task, ()) for task in self.benchmark.tasks)

    def offline(self, finished: Mapping[Key, str]) -> list[Job]:
        """Jobs for world models and policies that are missing or have other settings."""
        jobs: dict[str, Job] = {}
        for seed in self.seeds:
            for task in self.benchmark.tasks:
                row = self._row(task, OFFLINE, (), seed)
                if finished.get((task, OFFLINE, str(seed))) != row["settings"] or not self._policy(task, seed).exists():
                    name, config = f"{task}/{OFFLINE}-{seed}", self._seeded(task, (), seed)
                    own = suite.own_jobs(name, config, row, store=self._stores[task], work=self.work)
                    jobs |= {job.name: job for job in own}
        return list(jobs.values())

    def online(self, finished: Mapping[Key, str]) -> list[Job]:
        """Fine-tuning jobs that are missing or have other settings, if the offline policy exists."""
        return [
            self._finetuning(task, variant, seed)
            for seed in self.seeds
            for task in self.benchmark.tasks
            for variant, overrides in self.benchmark.variants.items()
            if self._policy(task, seed).exists()
            and finished.get((task, variant, str(seed))) != self._row(task, variant, overrides, seed)["settings"]
        ]

    def _finetuning(self, task: str, variant: str, seed: int) -> Job:
        overrides = self.benchmark.variants[variant]
        name, config = f"{task}/{variant}-{seed}", self._seeded(task, overrides, seed)
        model = suite.world_model_folder(self._seeded(task, (), seed), self._stores[task], self.work)
        stage = finetuning(config, model=model, policy=self._policy(task, seed), checkpoints=self.work / "jobs" / name)
        return Job(name, {"kind": "finetune", "row": self._row(task, variant, overrides, seed), "stage": stage})

    def _policy(self, task: str, seed: int) -> Path:
        return self.work / "jobs" / task / f"{OFFLINE}-{seed}" / "behavior" / "model"

    def _row(self, task: str, variant: str, overrides: Overrides, seed: int) -> dict[str, Any]:
        used = self._overrides(task, overrides)
        store = self._stores[task]
        return {
            "task": task,
            "method": variant,
            "group": variant,
            "seed": seed,
            "settings": digest(*used),
            "overrides": " ".join(used),
            "dataset": self._compose(task, ())["dataset"]["name"],
            "dataset_digest": store.digest[:16],
        }

    def _seeded(self, task: str, overrides: Overrides, seed: int) -> Config:
        return {**self._compose(task, overrides), "seed": seed}

    @cached_property
    def _stores(self) -> dict[str, Store]:
        return {task: Store.open(stages.ingest(self._compose(task, ()))["output"]) for task in self.benchmark.tasks}

    def _overrides(self, task: str, overrides: Overrides) -> list[str]:
        return [*self.benchmark.common, *self.benchmark.tasks[task], *overrides]

    def _compose(self, task: str, overrides: Overrides) -> Config:
        return suite.compose_below(self.work, self._overrides(task, overrides))


def finetuning(config: Config, *, model: Path, policy: Path, checkpoints: Path) -> dict[str, Any]:
    """What the stage ``finetune`` reads, for trained models.

    Args:
        config: the composed configuration.
        model: folder of the world model with its objective.
        policy: folder of the saved policy.
        checkpoints: folder for the state of the fine-tuning.
    """
    folders = {"world_model": str(model), "policy": str(policy), "checkpoints": f"{checkpoints}/state"}
    return suite.of_stage("finetune", config) | folders
