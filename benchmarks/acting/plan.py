"""Plans the jobs: a world model once per objective and seed, its policies, and then every way of acting in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.acting.benchmark import EXACT, Benchmark, Method, settings_digest
from benchmarks.offline_suite import plan as suite
from benchmarks.offline_suite.jobs import Job
from benchmarks.offline_suite.results import Key
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
        return suite.preparations(self._data(task) for task in self.benchmark.tasks)

    def remaining(self, finished: Mapping[Key, str]) -> list[Job]:
        """Jobs for all rows that are missing or have other settings, task by task and seed by seed."""
        jobs: dict[str, Job] = {}
        ordered = ((task, seed) for task in self.benchmark.tasks for seed in self.seeds)
        rows = [(task, seed, method) for task, seed in ordered for method in self.benchmark.methods(task)]
        for task, seed, method in progress(rows, description="plan", unit="row"):
            if method.model == EXACT and seed != self.seeds[0]:
                continue  # nothing is trained, so all seeds would play the same episodes
            if finished.get((task, method.name, str(seed))) != settings_digest(method):
                jobs |= {job.name: job for job in self._jobs(task, method, seed)}
        return list(jobs.values())

    def _jobs(self, task: str, method: Method, seed: int) -> list[Job]:
        """The row's own job, after those of its models that are not trained."""
        config = self._compose((*method.learning, *method.acting), seed)
        store, row = self._stores[task], self._row(task, method, seed)
        evaluate, name = stages.evaluate(config), f"{task}/{method.name}-{seed}"
        if method.model == EXACT:
            return [Job(name, {"kind": "simulator", "row": row, "evaluate": evaluate, "store": str(store.path)})]
        model = suite.world_model_folder(config, store, self.work)
        policy, jobs = suite.policy_jobs(config, model, self.work)
        row |= {"world_model": model.name, "policy": policy.name}
        evaluate |= {"world_model": f"{model}/model", "policy": f"{policy}/model"}
        needs = frozenset(job.name for job in jobs)
        return [*jobs, Job(name, {"kind": "acting", "row": row, "evaluate": evaluate}, needs=needs)]

    def _row(self, task: str, method: Method, seed: int) -> dict[str, Any]:
        source = self._stores[task].info["source"]
        return {
            "task": task,
            "method": method.name,
            "model": method.model,
            "reward": method.reward,
            "way": method.way,
            "group": method.model,
            "seed": seed,
            "settings": settings_digest(method),
            "overrides": " ".join((*method.learning, *method.acting)),
            "dataset": self._data(task)["dataset"]["name"],
            "dataset_digest": self._stores[task].digest[:16],
            "reference_low": source.get("ref_min_score"),
            "reference_high": source.get("ref_max_score"),
        }

    @cached_property
    def _stores(self) -> dict[str, Store]:
        return {task: Store.open(stages.ingest(self._data(task))["output"]) for task in self.benchmark.tasks}

    def _data(self, task: str) -> Config:
        return suite.compose_below(self.work, [*self.benchmark.common, *self.benchmark.tasks[task].data])

    def _compose(self, overrides: Sequence[str], seed: int) -> Config:
        return {**suite.compose_below(self.work, overrides), "seed": seed}
