"""Plans the jobs: stores for every number of trajectories, models and policies that rows share, and measurements."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.goals.benchmark import BASELINE, Benchmark, Row
from benchmarks.offline_suite import plan as suite
from benchmarks.offline_suite.jobs import Job
from benchmarks.offline_suite.results import Key
from dreamset.datasets import Store
from dreamset.pipeline.config.compose import Config
from dreamset.pipeline.progress import progress
from dreamset.pipeline.stages import table as stages

UNSEEDED = ("straight_line", "expert")  # baselines without randomness: one row instead of one per seed


@dataclass(frozen=True)
class Plan:
    """The jobs that remain to run in a working folder."""

    benchmark: Benchmark
    seeds: Sequence[int]
    work: Path

    def preparations(self) -> list[Job]:
        """Jobs for stores that do not exist: the recordings first, then the data that read them."""
        jobs: dict[str, Job] = {}
        for task in self.benchmark.tasks:
            for count in self._counts():
                source = self._config(self.benchmark.source(task, count), count)
                self._prepare(source, count, jobs)
                for data in dict.fromkeys(method.data for method in self.benchmark.methods.values()):
                    needed = f"datasets/{count}/{source['dataset']['name']}"
                    self._prepare(self._config(self.benchmark.store(task, data, count), count), count, jobs, needed)
        return list(jobs.values())

    def remaining(self, finished: Mapping[Key, str]) -> list[Job]:
        """Jobs for all rows that are missing or have other settings, seed by seed."""
        rows = [
            (row, seed) for seed in self.seeds for task in self.benchmark.tasks for row in self.benchmark.rows(task)
        ]
        jobs: dict[str, Job] = {}
        for row, seed in progress(rows, description="plan", unit="row"):
            if row.method in UNSEEDED and seed != self.seeds[0]:
                continue
            if finished.get((row.task, row.name, str(seed))) != self.benchmark.settings_digest(row):
                jobs |= {job.name: job for job in self._jobs(row, seed)}
        return list(jobs.values())

    def _counts(self) -> tuple[int, ...]:
        """Baselines alone need one recording, for its environment and references."""
        return self.benchmark.trajectories if self.benchmark.methods else (max(self.benchmark.trajectories),)

    def _prepare(self, config: Config, count: int, jobs: dict[str, Job], *needs: str) -> None:
        if not suite.is_prepared(config):
            job = suite.preparation(config, f"{count}/{config['dataset']['name']}")
            jobs[job.name] = replace(job, needs=frozenset(needs) & jobs.keys())

    def _jobs(self, row: Row, seed: int) -> list[Job]:
        """The row's own job, after those of its models that are not trained."""
        count = row.trajectories or max(self.benchmark.trajectories)
        config = {**self._config(self.benchmark.overrides(row), count), "seed": seed}
        store = _opened(stages.ingest(config)["output"])
        described = self._row(row, seed, config, store)
        name = f"{row.task}/{row.name}-{seed}"
        if row.method in self.benchmark.baselines:
            work = suite.in_environment(config, described, store=store)
            return [Job(name, {"kind": "goal_baseline", "policy": self.benchmark.baseline(row), **work})]
        model = suite.world_model_folder(config, store, self.work)
        policy, jobs = suite.policy_jobs(config, model, self.work)
        described |= {"world_model": model.name, "policy": policy.name}
        evaluate = stages.evaluate(config) | {"world_model": f"{model}/model", "policy": f"{policy}/model"}
        needs = frozenset(job.name for job in jobs)
        return [*jobs, Job(name, {"kind": "goals", "row": described, "evaluate": evaluate}, needs=needs)]

    def _row(self, row: Row, seed: int, config: Config, store: Store) -> dict[str, Any]:
        source = store.info["source"]
        return {
            "task": row.task,
            "method": row.name,
            "model": row.method,
            "trajectories": row.trajectories,
            "severity": row.severity,
            "group": BASELINE if row.method in self.benchmark.baselines else row.method,
            "seed": seed,
            "settings": self.benchmark.settings_digest(row),
            "overrides": " ".join(self.benchmark.overrides(row)),
            "dataset": config["dataset"]["name"],
            "dataset_digest": store.digest[:16],
            "reference_low": source.get("ref_min_score"),
            "reference_high": source.get("ref_max_score"),
        }

    def _config(self, overrides: Sequence[str], count: int) -> Config:
        """Recordings and stores of different numbers of trajectories lie in folders of their own."""
        return suite.compose_below(self.work / "data" / str(count), overrides)


@cache
def _opened(path: str) -> Store:
    return Store.open(path)
