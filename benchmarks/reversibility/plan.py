"""Plans the jobs: world models, policies that several ways of acting may share, and the measurements."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.offline_suite import plan as suite
from benchmarks.offline_suite.jobs import Job
from benchmarks.offline_suite.results import Key
from benchmarks.reversibility.benchmark import Benchmark, Method, Task
from dreamset.datasets import Store
from dreamset.pipeline.config.compose import Config
from dreamset.pipeline.progress import progress
from dreamset.pipeline.stages import table as stages


@dataclass(frozen=True)
class Plan:
    """The jobs that remain to run in a working folder."""

    benchmark: Benchmark
    seeds: Sequence[int]
    work: Path

    def preparations(self) -> list[Job]:
        """Jobs for datasets without a store."""
        return suite.preparations(self._compose(self.benchmark.data(task), 0) for task in self.benchmark.tasks.values())

    def remaining(self, finished: Mapping[Key, str]) -> list[Job]:
        """Jobs for all rows that are missing or have other settings, seed by seed."""
        rows = [
            (task, seed, name)
            for seed in self.seeds
            for task in self.benchmark.tasks.values()
            for name in self.benchmark.methods
        ]
        jobs: dict[str, Job] = {}
        for task, seed, name in progress(rows, description="plan", unit="row"):
            settings = self.benchmark.settings_digest(task, self.benchmark.methods[name])
            if finished.get((task.name, name, str(seed))) != settings:
                jobs |= {job.name: job for job in self._jobs(task, name, seed)}
        return list(jobs.values())

    def _jobs(self, task: Task, name: str, seed: int) -> list[Job]:
        """The row's own job, after those of its models that are not trained."""
        method = self.benchmark.methods[name]
        config = self._compose([*self.benchmark.data(task), *method.learning, *method.acting], seed)
        model = suite.world_model_folder(config, self._stores[task.name], self.work)
        policy, jobs = suite.policy_jobs(config, model, self.work)
        evaluate = stages.evaluate(config) | {"world_model": f"{model}/model", "policy": f"{policy}/model"}
        work = {
            "kind": "reversibility",
            "row": self._row(task, name, method, seed) | {"world_model": model.name, "policy": policy.name},
            "evaluate": evaluate,
            "store": str(self._stores[task.name].path),
            "harm": task.harm,
        }
        needs = frozenset(job.name for job in jobs)
        return [*jobs, Job(f"{task.name}/{name}-{seed}", work, needs=needs)]

    def _row(self, task: Task, name: str, method: Method, seed: int) -> dict[str, Any]:
        source = self._stores[task.name].info["source"]
        return {
            "task": task.name,
            "world": task.world,
            "quality": task.quality,
            "method": name,
            "group": task.world,
            "seed": seed,
            "settings": self.benchmark.settings_digest(task, method),
            "overrides": " ".join([*self.benchmark.data(task), *method.learning, *method.acting]),
            "dataset": task.name,
            "dataset_digest": self._stores[task.name].digest[:16],
            "reference_low": source.get("ref_min_score"),
            "reference_high": source.get("ref_max_score"),
        }

    @cached_property
    def _stores(self) -> dict[str, Store]:
        configs = {name: self._compose(self.benchmark.data(task), 0) for name, task in self.benchmark.tasks.items()}
        return {name: Store.open(stages.ingest(config)["output"]) for name, config in configs.items()}

    def _compose(self, overrides: Sequence[str], seed: int) -> Config:
        return {**suite.compose_below(self.work, overrides), "seed": seed}
