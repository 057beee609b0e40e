"""Plans the jobs in three rounds: datasets, pretraining, and experiments.

Composing a configuration that reuses a world model fixes the model by its digest, so that model must exist.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.offline_suite import plan as suite
from benchmarks.offline_suite.jobs import Job
from benchmarks.offline_suite.ours import COST
from benchmarks.offline_suite.results import Key
from benchmarks.transfer.experiments import Benchmark, Experiment
from dreamset.datasets import Store
from dreamset.pipeline.config.compose import Config
from dreamset.pipeline.files import digest, read_json
from dreamset.pipeline.progress import progress
from dreamset.pipeline.stages import table as stages

BASELINE = "baseline"  # group of baselines without learning


@dataclass(frozen=True)
class Plan:
    """The jobs that remain to run in a working folder."""

    benchmark: Benchmark
    seeds: Sequence[int]
    work: Path

    def preparations(self) -> list[Job]:
        """Jobs for datasets without a store, the source first, because another dataset may derive from it."""
        jobs: list[Job] = []
        for overrides in (self.benchmark.source, *self.benchmark.pairs.values()):
            config = self._compose([*self.benchmark.common, *overrides])
            if not suite.is_prepared(config):
                job = suite.preparation(config)
                jobs.append(Job(job.name, job.work, needs=frozenset(earlier.name for earlier in jobs[:1])))
        return jobs

    def pretrainings(self, finished: Mapping[Key, str]) -> list[Job]:
        """Jobs for untrained world models that missing experiments reuse."""
        jobs: dict[str, Job] = {}
        for seed, experiment in self._missing(finished):
            if self.benchmark.starts[experiment.start].reuses:
                config, model = self._source(experiment, seed)
                if not suite.is_trained(model):
                    job = suite.world_model_job(config, model)
                    jobs[job.name] = job
        return list(jobs.values())

    def experiments(self, finished: Mapping[Key, str]) -> list[Job]:
        """Jobs for all results that are missing or have other settings, seed by seed.

        Skips experiments whose reused world model failed to train.
        """
        jobs = {job.name: job for job in self._baselines(finished)}
        for seed, experiment in progress(list(self._missing(finished)), description="plan (experiments)"):
            if self._is_ready(experiment, seed):
                jobs |= {job.name: job for job in self._jobs(experiment, seed)}
        return list(jobs.values())

    def _missing(self, finished: Mapping[Key, str]) -> Iterator[tuple[int, Experiment]]:
        for seed in self.seeds:
            for experiment in self.benchmark.experiments:
                settings = self.benchmark.settings_digest(experiment)
                if finished.get((experiment.pair, experiment.name, str(seed))) != settings:
                    yield seed, experiment

    def _is_ready(self, experiment: Experiment, seed: int) -> bool:
        reuses = self.benchmark.starts[experiment.start].reuses
        return not reuses or suite.is_trained(self._source(experiment, seed)[1])

    def _jobs(self, experiment: Experiment, seed: int) -> list[Job]:
        overrides = self.benchmark.overrides(experiment)
        row = {
            **self._row(experiment.pair, experiment.name, seed),
            **asdict(experiment),
            "group": experiment.start,
            "settings": self.benchmark.settings_digest(experiment),
            "overrides": " ".join(overrides),
        }
        del row["pair"], row["updates"]  # duplicated by the task and by the job's count of updates
        if self.benchmark.starts[experiment.start].reuses:
            _, model = self._source(experiment, seed)
            overrides = [*overrides, f"world_model.folder={model}/model"]
            seconds = read_json(model / COST, made_by="the job of the world model")["cpu_seconds"]
            row |= {"reused": model.name, "pretraining_cpu_seconds": round(seconds, 1)}
        config = {**self._compose(overrides), "seed": seed}
        name = f"{experiment.pair}/{experiment.name}-{seed}"
        return suite.own_jobs(name, config, row, store=self._stores[experiment.pair], work=self.work)

    def _source(self, experiment: Experiment, seed: int) -> tuple[Config, Path]:
        """Configuration and folder of the reused world model."""
        config = {**self._compose(self.benchmark.on_source(experiment.objective)), "seed": seed}
        return config, suite.world_model_folder(config, self._source_store, self.work)

    def _baselines(self, finished: Mapping[Key, str]) -> Iterator[Job]:
        seed = self.seeds[0]
        for pair in self.benchmark.pairs:
            overrides = self.benchmark.on_pair(pair)
            for baseline in self.benchmark.baselines:
                settings = digest(*overrides, baseline)
                if finished.get((pair, baseline, str(seed))) != settings:
                    row = self._row(pair, baseline, seed)
                    row |= {"group": BASELINE, "settings": settings, "overrides": " ".join(overrides)}
                    name, config = f"{pair}/{baseline}-{seed}", self._compose(overrides)
                    yield suite.baseline_job(name, baseline, config, row, store=self._stores[pair])

    def _row(self, pair: str, method: str, seed: int) -> dict[str, Any]:
        store = self._stores[pair]
        return {
            "task": pair,
            "method": method,
            "seed": seed,
            "dataset": self._compose(self.benchmark.on_pair(pair))["dataset"]["name"],
            "dataset_digest": store.digest[:16],
        }

    @cached_property
    def _source_store(self) -> Store:
        return self._store(self.benchmark.source)

    @cached_property
    def _stores(self) -> dict[str, Store]:
        return {pair: self._store(overrides) for pair, overrides in self.benchmark.pairs.items()}

    def _store(self, overrides: Sequence[str]) -> Store:
        return Store.open(stages.ingest(self._compose([*self.benchmark.common, *overrides]))["output"])

    def _compose(self, overrides: Sequence[str]) -> Config:
        return suite.compose_below(self.work, overrides)
