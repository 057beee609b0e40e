"""The benchmark in ``replay.yaml``, and its jobs: a world model once per task and seed, then every method on it."""

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

BENCHMARK = Path(__file__).parent / "replay.yaml"
BUDGETS = ("updates", "seconds")

Overrides = Sequence[str]


@dataclass(frozen=True, slots=True)
class Claim:
    """A statement to test: the method ``more`` returns more than the method ``less``."""

    text: str
    more: str
    less: str


@dataclass(frozen=True, slots=True)
class Benchmark:
    """The contents of the yaml file."""

    common: Overrides
    tasks: Mapping[str, Overrides]
    methods: Mapping[str, Overrides]
    budgets: Mapping[str, Sequence[float]]  # of ``BUDGETS``, ascending
    claims: Sequence[Claim]

    @classmethod
    def read(cls, path: Path = BENCHMARK) -> "Benchmark":
        """The benchmark in a yaml file.

        Raises:
            UserError: if a key is missing or unknown, or a claim names an unknown method.
        """
        content = yaml.safe_load(path.read_text())
        try:
            claims = [Claim(**entry) for entry in content.pop("claims")]
            benchmark = cls(claims=claims, **content)
        except (KeyError, TypeError) as error:
            raise UserError(f"{path} has a missing or unknown key ({error}); fix it") from None
        if set(benchmark.budgets) != set(BUDGETS):
            raise UserError(
                f"{path}: budgets are {', '.join(benchmark.budgets)}; allowed: {', '.join(BUDGETS)}; fix it"
            )
        for name in (name for claim in claims for name in (claim.more, claim.less)):
            if name not in benchmark.methods:
                raise UserError(f"{path}: a claim names {name}; available: {', '.join(benchmark.methods)}; fix it")
        return benchmark

    def choose(self, tasks: Sequence[str] | None, methods: Sequence[str] | None) -> "Benchmark":
        """Selects tasks and methods by name; ``None`` selects all.

        Raises:
            UserError: if a name is unknown.
        """
        kept = selected("methods", self.methods, methods)
        claims = [claim for claim in self.claims if {claim.more, claim.less} <= kept.keys()]
        return replace(self, tasks=selected("tasks", self.tasks, tasks), methods=kept, claims=claims)


@dataclass(frozen=True)
class Plan:
    """The jobs that remain to run in a working folder."""

    benchmark: Benchmark
    seeds: Sequence[int]
    work: Path

    def preparations(self) -> list[Job]:
        """Jobs for datasets without a store."""
        return suite.preparations(self._compose(task, ()) for task in self.benchmark.tasks)

    def remaining(self, finished: Mapping[Key, str]) -> list[Job]:
        """Jobs for all methods that are missing or have other settings, seed by seed."""
        jobs: dict[str, Job] = {}
        for seed in self.seeds:
            for task in self.benchmark.tasks:
                for method in self.benchmark.methods:
                    row = self._row(task, method, seed)
                    if finished.get((task, method, str(seed))) != row["settings"]:
                        jobs |= {job.name: job for job in self._jobs(task, method, seed, row)}
        return list(jobs.values())

    def _jobs(self, task: str, method: str, seed: int, row: dict[str, Any]) -> list[Job]:
        """The method's own job, after that of the world model unless it is trained."""
        shared = {**self._compose(task, ()), "seed": seed}
        config, store = {**self._compose(task, self.benchmark.methods[method]), "seed": seed}, self._stores[task]
        model = suite.world_model_folder(shared, store, self.work)
        before = [] if suite.is_trained(model) else [suite.world_model_job(shared, model)]
        learn = suite.of_stage("learn_behavior", config) | {"world_model": f"{model}/model"}
        work = {
            "kind": "replay",
            "row": row | {"world_model": model.name},
            "learn": learn,
            "evaluate": stages.evaluate(config) | {"world_model": f"{model}/model"},
            "budgets": dict(self.benchmark.budgets),
        }
        return [*before, Job(f"{task}/{method}-{seed}", work, needs=frozenset(job.name for job in before))]

    def _row(self, task: str, method: str, seed: int) -> dict[str, Any]:
        used = [*self.benchmark.common, *self.benchmark.tasks[task], *self.benchmark.methods[method]]
        source = self._stores[task].info["source"]
        return {
            "task": task,
            "method": method,
            "group": method,
            "seed": seed,
            "settings": digest(*used, *(f"{kind}={list(self.benchmark.budgets[kind])}" for kind in BUDGETS)),
            "overrides": " ".join(used),
            "dataset": self._compose(task, ())["dataset"]["name"],
            "dataset_digest": self._stores[task].digest[:16],
            "reference_low": source.get("ref_min_score"),
            "reference_high": source.get("ref_max_score"),
        }

    @cached_property
    def _stores(self) -> dict[str, Store]:
        return {task: Store.open(stages.ingest(self._compose(task, ()))["output"]) for task in self.benchmark.tasks}

    def _compose(self, task: str, overrides: Overrides) -> Config:
        benchmark = self.benchmark
        return suite.compose_below(self.work, [*benchmark.common, *benchmark.tasks[task], *overrides])
