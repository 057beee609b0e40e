"""From the suite's entries to jobs: what is missing, what it needs and what it reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import yaml

from benchmarks.offline_suite.jobs import Job
from benchmarks.offline_suite.ours import COST
from benchmarks.offline_suite.results import Key
from benchmarks.offline_suite.suite import Baseline, Method, Ours, Peer, Suite, Task
from dreamset.datasets import Store
from dreamset.datasets.layout import MANIFEST
from dreamset.pipeline import stages
from dreamset.pipeline.compose import Config, compose
from dreamset.pipeline.files import digest
from dreamset.pipeline.runtime import progress

UNSEEDED = "recorded"  # a baseline without randomness: one row instead of one per seed


@dataclass(frozen=True)
class Plan:
    """What there is to do below a working folder."""

    suite: Suite
    seeds: Sequence[int]
    work: Path

    def preparations(self) -> list[Job]:
        """One job for each dataset that has no store yet."""
        jobs = {}
        for task in self.suite.tasks.values():
            config = self.compose(task, ())
            if not self.is_prepared(task):
                name = f"datasets/{config['dataset']['name']}"
                work = {"kind": "prepare", "collect": stages.collect(config), "ingest": stages.ingest(config)}
                jobs[name] = Job(name, work)
        return list(jobs.values())

    def is_prepared(self, task: Task) -> bool:
        """Whether the task's store is there."""
        return (Path(stages.ingest(self.compose(task, ()))["output"]) / MANIFEST).exists()

    def trainings(self, tasks: Sequence[Task], finished: Mapping[Key, str]) -> list[Job]:
        """Jobs for all results that are missing or were made with other settings; the first seed's come first."""
        by_seed: dict[int, dict[str, Job]] = {seed: {} for seed in self.seeds}
        for task in progress([TaskPlan(self, task) for task in tasks], description="plan (tasks)"):
            for seed, jobs in by_seed.items():
                for method in self.suite.methods.values():
                    if task.wants(method, seed, finished):
                        jobs |= {job.name: job for job in task.jobs(method, seed)}
        return [job for jobs in by_seed.values() for job in jobs.values()]

    def compose(self, task: Task, overrides: Sequence[str]) -> Config:
        """The configuration of a task with a method's overrides, every path below the working folder."""
        paths = [f"paths.{name}={self.work / name}" for name in ("recordings", "stores", "cards", "runs")]
        return _composed((*task.overrides, *overrides, *paths))


@cache
def _composed(overrides: tuple[str, ...]) -> Config:
    return compose(overrides)


@dataclass(frozen=True)
class TaskPlan:
    """The jobs of one task, whose store is there."""

    plan: Plan
    task: Task

    @cached_property
    def _config(self) -> Config:
        return self.plan.compose(self.task, ())

    @cached_property
    def _store(self) -> Store:
        return Store.open(stages.ingest(self._config)["output"])

    def wants(self, method: Method, seed: int, finished: Mapping[Key, str]) -> bool:
        """Whether this result is missing and makes sense."""
        if method.kind == Baseline(UNSEEDED) and seed != self.plan.seeds[0]:
            return False
        there = finished.get((self.task.name, method.name, str(seed))) == method.settings_digest(self.task)
        return method.serves(self._store.spec.action) and not there

    def jobs(self, method: Method, seed: int) -> list[Job]:
        """The method's own job and, if it has one that is not trained yet, its world model's."""
        name = f"{self.task.name}/{method.name}-{seed}"
        if isinstance(method.kind, Ours):
            return self._ours(name, method, method.kind, seed)
        common = {
            "row": self._row(method, seed),
            "seed": seed,
            "store": str(self._store.path),
            "environment": stages.evaluate(self._config)["environment"],
            "evaluation": self._config["evaluation"],
        }
        if isinstance(method.kind, Peer):
            budget = {"budget": self.task.budget, "max_updates": self.task.max_updates}
            return [Job(name, {"kind": "peer", "classes": dict(method.kind.classes), **budget, **common})]
        return [Job(name, {"kind": "baseline", "baseline": method.kind.name, **common})]

    def _ours(self, name: str, method: Method, kind: Ours, seed: int) -> list[Job]:
        chosen = [*kind.world_model, *kind.behavior, *self.task.ours]
        config = {**self.plan.compose(self.task, chosen), "seed": seed}
        train, learn, evaluate = (stage(config) for stage in stages.PER_OBJECTIVE.values())
        model = self._model_folder(train)
        own = self.plan.work / "jobs" / name
        train |= {"output": str(model), "checkpoints": f"{model}.checkpoints"}
        learn |= {"world_model": f"{model}/model", "output": f"{own}/behavior", "checkpoints": f"{own}/checkpoints"}
        evaluate |= {"world_model": f"{model}/model", "policy": f"{own}/behavior/model", "output": f"{own}/evaluation"}
        row = self._row(method, seed) | {"world_model": model.name, "overrides": " ".join(_overrides(self.task, kind))}
        work = {"kind": "ours", "row": row, "learn": learn, "evaluate": evaluate}
        if (model / COST).exists():
            return [Job(name, work)]
        needed = Job(f"world_models/{model.name}", {"kind": "world_model", "stage": train})
        return [needed, Job(name, work, needs=frozenset({needed.name}))]

    def _model_folder(self, train: Config) -> Path:
        """Named by everything that a world model depends on, apart from the code and the places of things."""
        content = {key: value for key, value in train.items() if key not in {"store", "output", "checkpoints"}}
        key = digest(yaml.safe_dump(content, sort_keys=True), self._store.digest)
        return self.plan.work / "world_models" / f"{train['dataset']}-{key}"

    def _row(self, method: Method, seed: int) -> dict[str, Any]:
        source = self._store.info["source"]
        return {
            "task": self.task.name,
            "method": method.name,
            "group": method.group,
            "seed": seed,
            "settings": method.settings_digest(self.task),
            "overrides": " ".join(self.task.overrides),
            "budget_cpu_seconds": self.task.budget if isinstance(method.kind, Peer) else None,
            "dataset": self._config["dataset"]["name"],
            "dataset_digest": self._store.digest[:16],
            "reference_low": source.get("ref_min_score"),
            "reference_high": source.get("ref_max_score"),
        }


def _overrides(task: Task, kind: Ours) -> list[str]:
    return [*task.overrides, *kind.world_model, *kind.behavior, *task.ours]
