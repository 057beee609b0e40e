"""Plans the jobs of the suite: missing results, their dependencies and settings."""

from collections.abc import Iterable, Mapping, Sequence
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
from dreamset.pipeline.config.compose import Config, composed
from dreamset.pipeline.config.dependencies import ImportPath, with_code
from dreamset.pipeline.files import digest
from dreamset.pipeline.progress import progress
from dreamset.pipeline.stages import table as stages

UNSEEDED = ("recorded", "still")  # baselines without randomness: one row instead of one per seed


@dataclass(frozen=True)
class Plan:
    """The jobs that remain to run in a working folder."""

    suite: Suite
    seeds: Sequence[int]
    work: Path

    def preparations(self) -> list[Job]:
        """One job for each dataset without a store."""
        jobs = {}
        for task in self.suite.tasks.values():
            if not self.is_prepared(task):
                job = preparation(self.compose(task, ()))
                jobs[job.name] = job
        return list(jobs.values())

    def is_prepared(self, task: Task) -> bool:
        """Whether the task's store exists."""
        return is_prepared(self.compose(task, ()))

    def trainings(self, tasks: Sequence[Task], finished: Mapping[Key, str]) -> list[Job]:
        """Jobs for all results that are missing or have other settings, seed by seed."""
        by_seed: dict[int, dict[str, Job]] = {seed: {} for seed in self.seeds}
        for task in progress([TaskPlan(self, task) for task in tasks], description="plan (tasks)"):
            for seed, jobs in by_seed.items():
                for method in self.suite.methods.values():
                    if task.wants(method, seed, finished):
                        jobs |= {job.name: job for job in task.jobs(method, seed)}
        return [job for jobs in by_seed.values() for job in jobs.values()]

    def compose(self, task: Task, overrides: Sequence[str]) -> Config:
        """The configuration of a task with a method's overrides, with all paths in the working folder."""
        return compose_below(self.work, [*task.overrides, *overrides])


def compose_below(work: Path, overrides: Sequence[str]) -> Config:
    """The configuration with all paths in the working folder."""
    paths = [f"paths.{name}={work / name}" for name in ("recordings", "stores", "cards", "runs")]
    return _composed((*overrides, *paths))


@cache
def _composed(overrides: tuple[str, ...]) -> Config:
    return composed(overrides).config  # a task's settings go to all methods, and not each of them reads all


def is_prepared(config: Config) -> bool:
    """Whether the dataset's store exists."""
    return (Path(stages.ingest(config)["output"]) / MANIFEST).exists()


def preparation(config: Config, name: str | None = None) -> Job:
    """A job that records and ingests a dataset; by default it has the dataset's name."""
    work = {"kind": "prepare", "collect": stages.collect(config), "ingest": stages.ingest(config)}
    return Job(f"datasets/{name or config['dataset']['name']}", work)


def world_model_folder(config: Config, store: Store, work: Path) -> Path:
    """A folder named by a digest of everything that the world model depends on, except code and paths."""
    train = stages.train_world_model(config)
    content = {key: value for key, value in train.items() if key not in {"store", "output", "checkpoints"}}
    if content["start"] is not None:
        content["start"] = {key: value for key, value in content["start"].items() if key != "folder"}
    key = digest(yaml.safe_dump(content, sort_keys=True), store.digest)
    return work / "world_models" / f"{train['dataset']}-{key}"


def of_stage(name: str, config: Config) -> dict[str, Any]:
    """What the stage reads, with the digest of its code, so that no checkpoint of other code is continued."""
    return with_code(name, stages.STAGES[name](config), config, _modules())


@cache
def _modules() -> ImportPath:
    """The code as it is while plans are made."""
    return ImportPath()


def preparations(configs: Iterable[Config]) -> list[Job]:
    """Jobs for the datasets of configurations that have no store."""
    return [preparation(config) for config in configs if not is_prepared(config)]


def is_trained(model: Path) -> bool:
    """Whether the world model or the policy in this folder is complete."""
    return (model / COST).exists()


def world_model_job(config: Config, model: Path) -> Job:
    """A job that trains a world model into its folder."""
    stage = of_stage("train_world_model", config)
    stage |= {"output": str(model), "checkpoints": f"{model}.checkpoints"}
    return Job(f"world_models/{model.name}", {"kind": "world_model", "stage": stage})


def policy_jobs(config: Config, model: Path, work: Path) -> tuple[Path, list[Job]]:
    """The folder of a policy that several rows may share, and jobs for it and its world model unless they are trained.

    The folder is named by what the policy depends on, except code and paths.
    """
    stage = of_stage("learn_behavior", config) | {"world_model": f"{model}/model"}
    ignored = {"code", "store", "world_model", "output", "checkpoints"}
    content = {key: value for key, value in stage.items() if key not in ignored}
    folder = work / "policies" / f"{model.name}-{digest(yaml.safe_dump(content, sort_keys=True))}"
    jobs = [] if is_trained(model) else [world_model_job(config, model)]
    if not is_trained(folder):
        stage |= {"output": str(folder), "checkpoints": f"{folder}.checkpoints"}
        needs = frozenset(job.name for job in jobs)
        jobs.append(Job(f"policies/{folder.name}", {"kind": "policy", "stage": stage}, needs=needs))
    return folder, jobs


def own_jobs(name: str, config: Config, row: Mapping[str, Any], *, store: Store, work: Path) -> list[Job]:
    """Jobs for a behaviour with its evaluation, and for its world model unless it is trained."""
    model, own = world_model_folder(config, store, work), work / "jobs" / name
    learn, evaluate = of_stage("learn_behavior", config), stages.evaluate(config)
    learn |= {"world_model": f"{model}/model", "output": f"{own}/behavior", "checkpoints": f"{own}/checkpoints"}
    evaluate |= {"world_model": f"{model}/model", "policy": f"{own}/behavior/model", "output": f"{own}/evaluation"}
    described = {"kind": "ours", "row": {**row, "world_model": model.name}, "learn": learn, "evaluate": evaluate}
    if is_trained(model):
        return [Job(name, described)]
    needed = world_model_job(config, model)
    return [needed, Job(name, described, needs=frozenset({needed.name}))]


def baseline_job(name: str, baseline: str, config: Config, row: Mapping[str, Any], *, store: Store) -> Job:
    """A job for a baseline in the dataset's environment."""
    return Job(name, {"kind": "baseline", "baseline": baseline, **in_environment(config, row, store=store)})


def in_environment(config: Config, row: Mapping[str, Any], *, store: Store) -> dict[str, Any]:
    """Settings of methods that are not stages of the pipeline."""
    return {
        "row": dict(row),
        "seed": row["seed"],
        "store": str(store.path),
        "environment": stages.evaluate(config)["environment"],
        "evaluation": config["evaluation"],
    }


@dataclass(frozen=True)
class TaskPlan:
    """The jobs of one task with a store."""

    plan: Plan
    task: Task

    @cached_property
    def _config(self) -> Config:
        return self.plan.compose(self.task, ())

    @cached_property
    def _store(self) -> Store:
        return Store.open(stages.ingest(self._config)["output"])

    def wants(self, method: Method, seed: int, finished: Mapping[Key, str]) -> bool:
        """Whether this result is missing and the method serves the task."""
        if isinstance(method.kind, Baseline) and method.kind.name in UNSEEDED and seed != self.plan.seeds[0]:
            return False
        if not method.serves(self.task, self._store.spec.action):
            return False  # it may also lack settings for this task
        return finished.get((self.task.name, method.name, str(seed))) != method.settings_digest(self.task)

    def jobs(self, method: Method, seed: int) -> list[Job]:
        """The job of the method and, if needed, the job of its world model."""
        name = f"{self.task.name}/{method.name}-{seed}"
        if isinstance(method.kind, Ours):
            return self._ours(name, method, seed)
        row = self._row(method, seed)
        if isinstance(method.kind, Peer):
            budget = {"budget": self.task.budget, "max_updates": self.task.max_updates}
            common = in_environment(self._config, row, store=self._store)
            return [Job(name, {"kind": "peer", "classes": dict(method.kind.classes), **budget, **common})]
        return [baseline_job(name, method.kind.name, self._config, row, store=self._store)]

    def _ours(self, name: str, method: Method, seed: int) -> list[Job]:
        overrides = method.overrides(self.task)
        config = {**self.plan.compose(self.task, overrides), "seed": seed}
        row = self._row(method, seed) | {"overrides": " ".join([*self.task.overrides, *overrides])}
        return own_jobs(name, config, row, store=self._store, work=self.plan.work)

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
