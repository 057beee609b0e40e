"""The benchmark in ``imitation.yaml``, and its jobs: recordings, a store for every row, world models and policies."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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

BENCHMARK = Path(__file__).parent / "imitation.yaml"
DEMONSTRATIONS, VIDEOS, FAILURES = "demonstrations", "videos", "failures"
RECORDINGS = {DEMONSTRATIONS: 0, VIDEOS: 1, FAILURES: 2}  # name -> seed of the recording
SOURCES = "dreamset.datasets.store_source.StoreSource"
PARTS = "dreamset.datasets.sources.parts.Parts"
TRANSFORMS = "dreamset.datasets.transforms"

Overrides = Sequence[str]


@dataclass(frozen=True, slots=True)
class Task:
    """An environment with an expert."""

    name: str
    data: Overrides
    learning: Overrides  # of the world model
    expert: str  # the factory of its policy
    stack: int  # images of a row


@dataclass(frozen=True, slots=True)
class Method:
    """A behaviour and the data that it learns from, beside the demonstrations."""

    learning: Overrides
    data: Sequence[str]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """The contents of the yaml file."""

    common: Overrides
    tasks: Mapping[str, Task]
    demonstrations: Sequence[int]
    recorded: Mapping[str, int]
    randomness: float
    methods: Mapping[str, Method]

    @classmethod
    def read(cls, path: Path = BENCHMARK) -> "Benchmark":
        """The benchmark in a yaml file.

        Raises:
            UserError: if a key is missing or unknown, or data of a method are not recorded.
        """
        content = yaml.safe_load(path.read_text())
        try:
            tasks = {name: Task(name=name, **entry) for name, entry in content.pop("tasks").items()}
            methods = {name: Method(**entry) for name, entry in content.pop("methods").items()}
            benchmark = cls(tasks=tasks, methods=methods, **content)
        except (KeyError, TypeError) as error:
            raise UserError(f"{path} has a missing or unknown key ({error}); fix it") from None
        needed = {DEMONSTRATIONS, *(name for method in methods.values() for name in method.data)}
        for name in sorted(needed - (RECORDINGS.keys() & benchmark.recorded.keys())):
            raise UserError(f"{path}: {name} are not recorded; allowed: {', '.join(RECORDINGS)}; add them to recorded")
        return benchmark

    def choose(
        self, tasks: Sequence[str] | None, methods: Sequence[str] | None, demonstrations: Sequence[int] | None = None
    ) -> "Benchmark":
        """Selects tasks, methods and numbers of demonstrations; ``None`` selects all.

        Raises:
            UserError: if a name is unknown.
        """
        return replace(
            self,
            tasks=selected("tasks", self.tasks, tasks),
            methods=selected("methods", self.methods, methods),
            demonstrations=self.demonstrations if demonstrations is None else demonstrations,
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the results."""

    task: Task
    count: int  # of demonstrations
    method: str
    seed: int

    @property
    def name(self) -> str:
        """The method with its number of demonstrations."""
        return f"{self.method}@{self.count}"


@dataclass(frozen=True)
class Plan:
    """The jobs that remain to run in a working folder."""

    benchmark: Benchmark
    seeds: Sequence[int]
    work: Path

    def preparations(self) -> list[Job]:
        """Jobs for recordings and stores that do not exist."""
        jobs: dict[str, Job] = {}
        for task in self.benchmark.tasks.values():
            for name in self._recorded():
                config = self._recording(task, name)
                if not suite.is_prepared(config):
                    job = suite.preparation(config, f"{task.name}-{name}")
                    jobs[job.name] = job
        recordings = dict(jobs)
        for row in self._rows():
            config = self._config(row)
            if not suite.is_prepared(config):
                needs = {f"datasets/{row.task.name}-{name}" for name in self._recorded()} & recordings.keys()
                name = f"datasets/{config['dataset']['name']}"
                jobs[name] = Job(name, {"kind": "join", "ingest": stages.ingest(config)}, needs=frozenset(needs))
        return list(jobs.values())

    def remaining(self, finished: Mapping[Key, str]) -> list[Job]:
        """Jobs for all rows that are missing or have other settings, seed by seed."""
        jobs: dict[str, Job] = {}
        for row in self._rows():
            described = self._described(row)
            if finished.get((row.task.name, row.name, str(row.seed))) != described["settings"]:
                jobs |= {job.name: job for job in self._jobs(row, described)}
        return list(jobs.values())

    def _rows(self) -> Iterator[Row]:
        for seed in self.seeds:
            for task in self.benchmark.tasks.values():
                for count in self.benchmark.demonstrations:
                    yield from (Row(task, count, method, seed) for method in self.benchmark.methods)

    def _recorded(self) -> list[str]:
        used = {name for method in self.benchmark.methods.values() for name in method.data}
        return [name for name in RECORDINGS if name == DEMONSTRATIONS or name in used]

    def _jobs(self, row: Row, described: Mapping[str, Any]) -> list[Job]:
        config = self._config(row)
        store = Store.open(stages.ingest(config)["output"])
        reference = Store.open(self._store(row.task, DEMONSTRATIONS)).info["source"]
        full = {
            **described,
            "dataset_digest": store.digest[:16],
            "reference_low": reference.get("ref_min_score"),
            "reference_high": reference.get("ref_max_score"),
        }
        return suite.own_jobs(f"{row.task.name}/{row.name}-{row.seed}", config, full, store=store, work=self.work)

    def _described(self, row: Row) -> dict[str, Any]:
        benchmark, method = self.benchmark, self.benchmark.methods[row.method]
        used = [*benchmark.common, *row.task.data, *row.task.learning, *method.learning]
        recorded = [f"{name}={benchmark.recorded[name]}" for name in (DEMONSTRATIONS, *method.data)]
        return {
            "task": row.task.name,
            "method": row.name,
            "group": row.method,
            "demonstrations": row.count,
            "seed": row.seed,
            "settings": digest(*used, *recorded, row.task.expert, str(row.task.stack), str(benchmark.randomness)),
            "overrides": " ".join(used),
            "dataset": f"{row.task.name} with {', '.join([f'{row.count} demonstrations', *method.data])}",
        }

    def _recording(self, task: Task, name: str) -> Config:
        """The configuration of one recording."""
        config = suite.compose_below(self.work / "recorded" / task.name / name, [*self.benchmark.common, *task.data])
        expert: dict[str, Any] = {"_target_": task.expert, "_partial_": True}
        policy = expert
        if name == FAILURES:
            target = "dreamset.environments.policies.interrupted"
            policy = {"_target_": target, "_partial_": True, "policy": expert, "randomness": self.benchmark.randomness}
        episodes, seed = self.benchmark.recorded[name], RECORDINGS[name]
        recording = {**config["dataset"]["recording"], "policy": policy, "episodes": episodes, "seed": seed}
        return {**config, "dataset": {**config["dataset"], "recording": recording}}

    def _store(self, task: Task, name: str) -> str:
        return str(stages.ingest(self._recording(task, name))["output"])

    def _config(self, row: Row) -> Config:
        """The configuration of a row, whose dataset has the parts that its method learns from."""
        benchmark, method = self.benchmark, self.benchmark.methods[row.method]
        overrides = [*benchmark.common, *row.task.data, *row.task.learning, *method.learning]
        config = suite.compose_below(self.work, overrides)
        stacked = [{"_target_": f"{TRANSFORMS}.StackFrames", "count": row.task.stack}] if row.task.stack > 1 else []
        environment = config["dataset"]["environment"]
        if row.task.stack > 1:
            target, count = "dreamset.environments.stacked.make", row.task.stack
            environment = {"_target_": target, "_partial_": True, "count": count, "environment": environment}
        dataset = {
            **config["dataset"],
            "name": "-".join([row.task.name, *method.data, str(row.count), str(row.seed)]),
            "recording": None,
            "source": {"_target_": PARTS, "parts": self._parts(row)},
            "transforms": stacked,
            "environment": environment,
        }
        return {**config, "seed": row.seed, "dataset": dataset}

    def _parts(self, row: Row) -> dict[str, dict[str, Any]]:
        def source(name: str) -> dict[str, Any]:
            return {"_target_": SOURCES, "path": self._store(row.task, name)}

        drawn = {"_target_": f"{TRANSFORMS}.Subsample", "episodes": row.count, "seed": row.seed}
        marks: dict[str, dict[str, Any]] = {VIDEOS: {"acted": False}, FAILURES: {"demonstration": False}}
        others = {name: {"source": source(name), **marks[name]} for name in self.benchmark.methods[row.method].data}
        return {DEMONSTRATIONS: {"source": source(DEMONSTRATIONS), "transforms": [drawn]}, **others}
