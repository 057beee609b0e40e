"""Plans the jobs in rounds, each of which needs the data or the models of the one before."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.exploration.benchmark import BASELINE, COLLECTION, FEW_SHOT, ZERO_SHOT, Benchmark, Row
from benchmarks.finetuning.plan import finetuning
from benchmarks.offline_suite import plan as suite
from benchmarks.offline_suite.jobs import Job
from benchmarks.offline_suite.results import Key
from dreamset.datasets import Store
from dreamset.pipeline.config.compose import Config
from dreamset.pipeline.stages import table as stages

SEED_DISTANCE = 1000  # between the recordings of two seeds, whose episode k has the seed of the recording plus k
UNTRAINED = "random_policy"  # name of the baseline


@dataclass(frozen=True)
class Plan:
    """The jobs that remain to run in a working folder."""

    benchmark: Benchmark
    seeds: Sequence[int]
    work: Path

    def recordings(self) -> list[Job]:
        """Jobs for recorded episodes: all those of the collectors that do not learn, the first ones of the others."""
        jobs = []
        for row in self.collections_of():
            config = self._recording(row)
            if not suite.is_prepared(config):
                jobs.append(suite.preparation(config, f"{row.task}/{row.method}-{row.seed}"))
        return jobs

    def collections(self, finished: Mapping[Key, str]) -> list[Job]:
        """Jobs for collections that are missing or have other settings, with the trainings before them."""
        jobs: dict[str, Job] = {}
        for row in self.collections_of():
            recorded = suite.is_prepared(self._recording(row))
            if recorded and not (self._is_finished(row, finished) and self._is_collected(row)):
                jobs |= {job.name: job for job in self._collection(row)}
        return list(jobs.values())

    def relabellings(self) -> list[Job]:
        """Jobs for collected episodes with another reward."""
        jobs = []
        for row in self._of_phase(ZERO_SHOT):
            config = self._on_collected(row)
            if self._is_collected(row) and not suite.is_prepared(config):
                jobs.append(suite.preparation(config, f"{row.task}/{row.method}-{row.seed}"))
        return jobs

    def zero_shot(self, finished: Mapping[Key, str]) -> list[Job]:
        """Jobs for policies that are learned from collected episodes alone, and for random actions."""
        jobs: dict[str, Job] = {}
        for row in self._of_phase(ZERO_SHOT):
            config = self._on_collected(row)
            if suite.is_prepared(config) and not self._is_finished(row, finished):
                store = Store.open(stages.ingest(config)["output"])
                described = self._described(row) | {"collected": store.digest[:16]}
                own = suite.own_jobs(_name(row), config, described, store=store, work=self.work)
                jobs |= {job.name: job for job in own}
        return [*jobs.values(), *self._baselines(finished)]

    def few_shot(self, finished: Mapping[Key, str]) -> list[Job]:
        """Jobs for policies that are trained further with a few episodes of the task."""
        jobs = []
        for row in self._of_phase(FEW_SHOT):
            policy = self.work / "jobs" / _name(replace(row, phase=ZERO_SHOT)) / "behavior" / "model"
            if policy.exists() and not self._is_finished(row, finished):
                config = self._on_collected(row)
                store = Store.open(stages.ingest(config)["output"])
                model = suite.world_model_folder(self._on_collected(replace(row, phase=ZERO_SHOT)), store, self.work)
                state = self.work / "jobs" / _name(row)
                stage = finetuning(config, model=model, policy=policy, checkpoints=state)
                jobs.append(Job(_name(row), {"kind": "few_shot", "row": self._described(row), "stage": stage}))
        return jobs

    def collections_of(self) -> Iterator[Row]:
        """A row for each task, seed and collector."""
        for task in self.benchmark.tasks:
            for seed in self.seeds:
                for collector in self.benchmark.collectors:
                    yield Row(task, collector, seed, COLLECTION)

    def _of_phase(self, phase: str) -> Iterator[Row]:
        for task in self.benchmark.tasks:
            for seed in self.seeds:
                yield from self.benchmark.rows(task, seed, phase)

    def _collection(self, row: Row) -> list[Job]:
        cells = [asdict(axis) for axis in self.benchmark.tasks[row.task].cells]
        recording = self.benchmark.recording(row.task, row.collector)
        ingest = stages.ingest(suite.compose_below(self._folder(row), recording))
        work = {"row": self._described(row), "ingest": ingest, "cells": cells}
        if row.collector not in self.benchmark.learners:
            return [Job(_name(row), {"kind": "recorded", **work})]
        config = self._compose(self._folder(row) / "first", self.benchmark.overrides(row), row.seed)
        model = suite.world_model_folder(config, Store.open(stages.ingest(config)["output"]), self.work)
        policy, before = suite.policy_jobs(config, model, self.work)
        state = self.work / "jobs" / _name(row)
        stage = finetuning(config, model=model, policy=policy / "model", checkpoints=state)
        needs = frozenset(job.name for job in before)
        return [*before, Job(_name(row), {"kind": "collection", "stage": stage, **work}, needs=needs)]

    def _baselines(self, finished: Mapping[Key, str]) -> Iterator[Job]:
        """Random actions, once for every reward."""
        for task, chosen in self.benchmark.tasks.items():
            for reward in chosen.rewards:
                row = Row(task, UNTRAINED, self.seeds[0], BASELINE, reward)
                if not self._is_finished(row, finished):
                    config = self._compose(self.work, self.benchmark.overrides(row), row.seed)
                    played = {"seed": row.seed, "environment": stages.evaluate(config)["environment"]}
                    played |= {"evaluation": config["evaluation"], "baseline": "random"}
                    yield Job(_name(row), {"kind": "baseline", "row": self._described(row), **played})

    def _described(self, row: Row) -> dict[str, Any]:
        return {
            **asdict(row),
            "method": row.method,
            "group": row.collector,
            "settings": self.benchmark.settings_digest(row),
            "overrides": " ".join(self.benchmark.overrides(row)),
        }

    def _is_finished(self, row: Row, finished: Mapping[Key, str]) -> bool:
        return finished.get(row.key) == self.benchmark.settings_digest(row)

    def _is_collected(self, row: Row) -> bool:
        """Whether the store of the row's collector exists."""
        recording = self.benchmark.recording(row.task, row.collector)
        return suite.is_prepared(suite.compose_below(self._folder(row), recording))

    def _recording(self, row: Row) -> Config:
        """The recorded episodes of a collector; the first ones of a learner lie apart from all of its episodes."""
        overrides = self.benchmark.recording(row.task, row.collector)
        folder = self._folder(row) / ("first" if row.collector in self.benchmark.learners else "")
        seed = f"dataset.recording.seed={SEED_DISTANCE * row.seed}"
        return suite.compose_below(folder, [*overrides, seed])

    def _on_collected(self, row: Row) -> Config:
        """The configuration of a row that learns from collected episodes, which take the place of recorded ones."""
        return self._compose(self._folder(row), self.benchmark.overrides(row), row.seed)

    def _folder(self, row: Row) -> Path:
        """The folder of a collector's data, named by everything that they depend on, except code."""
        collection = replace(row, phase=COLLECTION, reward="")
        name = f"{row.collector}-{row.seed}-{self.benchmark.settings_digest(collection)}"
        return self.work / "collections" / row.task / name

    def _compose(self, folder: Path, overrides: Sequence[str], seed: int) -> Config:
        return {**suite.compose_below(folder, overrides), "seed": seed}


def _name(row: Row) -> str:
    return f"{row.task}/{row.method}-{row.seed}"
