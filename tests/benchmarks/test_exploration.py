"""The benchmark of exploration: visited cells, planning of jobs, results and report."""

import json
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are not installed

from benchmarks.exploration import figure, report, run
from benchmarks.exploration.benchmark import (
    BASELINE,
    COLLECTION,
    FEW_SHOT,
    RANDOM,
    RECORDED,
    ZERO_SHOT,
    Benchmark,
    Episodes,
    Row,
    Task,
)
from benchmarks.exploration.cells import Axis, coverage
from benchmarks.exploration.plan import UNTRAINED, Plan
from benchmarks.exploration.rewards import corner
from benchmarks.exploration.run import COLUMNS, RESULTS
from benchmarks.exploration.scores import VISITED, Scores, scores
from benchmarks.offline_suite.job import perform
from benchmarks.offline_suite.jobs import Job, Scheduler
from benchmarks.offline_suite.results import Results
from benchmarks.offline_suite.scores import read_files
from benchmarks.reports import END
from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec, ArraySpec
from dreamset.datasets import RawEpisode, write_store
from dreamset.datasets.sources import SourceDescription

GRID = (Axis("state", (0, 1), bins=6), Axis("state", (2,), bins=4, low=-8.0, high=8.0))
SHORT = "dataset.environment.episode_steps=20"
TASK = Task(
    episodes=Episodes(all=4, first=2, task=1),
    steps=20,
    cells=GRID,
    data=("dataset=pendulum_state", SHORT),
    random=("dataset.recording.policy._target_=dreamset.environments.pendulum.random",),
    rewards={
        "swing_up": ("dataset=pendulum_state", SHORT),
        "spinning": ("dataset=pendulum_spin", "dataset.environment.environment.episode_steps=20"),
    },
)
SMALL = Benchmark(
    common=("device=cpu", "finetuning.environments=1", "finetuning.evaluate_every=100000"),
    tasks={"pendulum": TASK},
    learners={"curious": ("preset=tiny",)},
    zero_shot=("preset=tiny",),
    few_shot=(),
)
WRITTEN = ["README.md", "exploration.png", "exploration_dark.png", "tables.md"]


def pendulum(angles: Any, speeds: Any) -> dict[str, Any]:
    return {"state": np.stack([np.cos(angles), np.sin(angles), speeds], axis=1).astype(np.float32)}


def test_coverage_is_the_number_of_different_cells_visited_so_far() -> None:
    generator = np.random.default_rng(0)
    walks = [(generator.uniform(-9, 9, 5), generator.uniform(-10, 10, 5)) for _ in range(6)]  # some speeds are outside
    visited: set[tuple[int, int]] = set()
    expected = []
    for angles, speeds in walks:
        for angle, speed in zip(angles.tolist(), speeds.tolist(), strict=True):
            turned = math.fmod(math.fmod(angle + math.pi, 2 * math.pi) + 2 * math.pi, 2 * math.pi)  # from 0
            visited.add((int(turned / (2 * math.pi / 6)), min(max(int((speed + 8) // 4), 0), 3)))
        expected.append(len(visited) / 24)
    assert coverage([pendulum(*walk) for walk in walks], GRID) == pytest.approx(expected)
    assert 0.3 < expected[-1] < 1


def test_ends_of_the_grid_belong_to_its_outer_cells() -> None:
    axis = Axis("state", (0,), bins=4, low=0.0, high=2.0)
    values = np.array([[-1.0], [0.0], [0.49], [0.5], [1.99], [2.0], [7.0]])
    assert axis.cells({"state": values}).tolist() == [0, 0, 0, 1, 3, 3, 3]


def test_second_reward_of_the_point_mass_falls_from_the_corner_to_nothing() -> None:
    positions = np.array([[0.2, 0.2], [0.2, 0.2], [0.2, 0.1], [0.14, 0.12], [-0.2, -0.2]])
    state = np.concatenate([positions, np.ones((5, 2))], axis=1)
    np.testing.assert_allclose(corner(privileged={"state": state}), [1, 0.5, 0.5, 0])  # on arrival: rows 1 to 4


class Zeros:
    """Episodes of 20 steps at rest."""

    def __init__(self, count: int) -> None:
        self.episode_count = count

    def describe(self) -> SourceDescription:
        column = {"state": ArraySpec((3,), "float32")}
        action = ActionSpec(1, discrete=False, low=(-2.0,), high=(2.0,))
        return SourceDescription(column, column, action, {"format": "zeros"})

    def read(self, number: int) -> RawEpisode:
        rows, steps = np.zeros((21, 3), np.float32), np.zeros((20, 1), np.float32)
        rows[:, 2] = number
        return RawEpisode("zeros", {"state": rows}, steps, steps[:, 0], terminated=False, privileged={"state": rows})


def pretend(jobs: list[Job], count: int = 4) -> None:
    """Writes the stores of preparations and collections."""
    for job in jobs:
        if "ingest" in job.work:
            write_store(Zeros(count), job.work["ingest"]["output"])


def by_name(jobs: list[Job]) -> dict[str, Job]:
    named = {job.name.removeprefix("datasets/").removeprefix("pendulum/"): job for job in jobs}
    assert len(named) == len(jobs)
    return named


def test_learners_begin_with_the_first_random_episodes_and_the_others_record_all(tmp_path: Path) -> None:
    recordings = by_name(Plan(SMALL, [2], tmp_path).recordings())
    settings = {name: job.work["collect"]["recording"] for name, job in recordings.items()}
    assert {name: (each["episodes"], each["seed"]) for name, each in settings.items()} == {
        "curious-2": (2, 2000),
        f"{RANDOM}-2": (4, 2000),
        f"{RECORDED}-2": (4, 2000),
    }
    policies = {name: each["policy"]["_target_"].rpartition(".")[2] for name, each in settings.items()}
    assert policies == {"curious-2": "random", f"{RANDOM}-2": "random", f"{RECORDED}-2": "mixture"}


def test_learner_collects_the_remaining_steps_after_its_trainings(tmp_path: Path) -> None:
    plan = Plan(SMALL, [0], tmp_path)
    assert plan.collections({}) == []  # nothing is recorded yet
    pretend(plan.recordings())
    jobs = by_name(plan.collections({}))
    job, recorded = jobs["curious-0"], jobs[f"{RANDOM}-0"]
    assert (job.work["kind"], recorded.work["kind"]) == ("collection", "recorded")
    assert job.work["stage"]["finetuning"]["environment_steps"] == 40
    assert job.needs == {name for name in jobs if name.startswith(("world_models/", "policies/"))}
    assert len(job.needs) == 2
    first, all_ = Path(job.work["stage"]["store"]), Path(job.work["ingest"]["output"])
    assert first.parts[:-3] == all_.parts[:-2]
    assert first != all_
    assert (first.exists(), all_.exists(), Path(recorded.work["ingest"]["output"]).exists()) == (True, False, True)


def test_every_policy_is_learned_from_the_episodes_of_its_collector(tmp_path: Path) -> None:
    plan = Plan(SMALL, [0], tmp_path)
    pretend(plan.recordings())
    assert {job.name for job in plan.relabellings()} == {
        f"datasets/pendulum/{name}-spinning-0" for name in (RANDOM, RECORDED)
    }
    pretend(plan.collections({}))
    pretend(plan.relabellings())
    jobs = plan.zero_shot({})
    policies = {job.name: job for job in jobs if job.work["kind"] == "ours"}
    assert len(policies) == 2 * 3
    for job in policies.values():
        row = job.work["row"]
        folder = f"/collections/pendulum/{row['collector']}-0-"
        dataset = {"swing_up": "pendulum_state", "spinning": "pendulum_spin"}[row["reward"]]
        assert folder in job.work["learn"]["store"]
        assert Path(job.work["learn"]["store"]).name == dataset
    baselines = {job.work["row"]["method"] for job in jobs if job.work["kind"] == "baseline"}
    assert baselines == {f"{UNTRAINED}-swing_up", f"{UNTRAINED}-spinning"}


def test_few_shot_goes_on_with_the_zero_shot_models(tmp_path: Path) -> None:
    plan = Plan(SMALL.choose(None, []), [0], tmp_path)
    pretend(plan.recordings())
    pretend(plan.relabellings())
    assert plan.few_shot({}) == []  # without a policy
    job = by_name([job for job in plan.zero_shot({}) if job.work["kind"] == "ours"])[f"{RANDOM}-spinning-0"]
    (Path(job.work["learn"]["output"]) / "model").mkdir(parents=True)
    (later,) = plan.few_shot({})
    assert later.name == f"pendulum/{RANDOM}-spinning-few_shot-0"
    stage = later.work["stage"]
    assert f"{stage['world_model']}/model" == job.work["learn"]["world_model"]
    assert stage["policy"] == f"{job.work['learn']['output']}/model"
    assert (stage["finetuning"]["environment_steps"], stage["store"]) == (20, job.work["learn"]["store"])


def test_finished_rows_are_repeated_only_with_other_settings(tmp_path: Path) -> None:
    small = SMALL.choose(None, [])
    plan = Plan(small, [0], tmp_path)
    pretend(plan.recordings())
    pretend(plan.relabellings())
    rows = [Row("pendulum", name, 0, COLLECTION) for name in small.collectors]
    rows += [row for phase in (ZERO_SHOT, FEW_SHOT) for row in small.rows("pendulum", 0, phase)]
    rows += [Row("pendulum", UNTRAINED, 0, BASELINE, reward) for reward in TASK.rewards]
    finished = {row.key: small.settings_digest(row) for row in rows}
    assert plan.recordings() == plan.collections(finished) == plan.zero_shot(finished) == plan.few_shot(finished) == []
    other = replace(small, zero_shot=("preset=tiny", "behavior_training.updates=3"))
    assert len(Plan(other, [0], tmp_path).zero_shot(finished)) == 2 + 4  # equal episodes share a world model
    more = replace(small, tasks={"pendulum": replace(TASK, episodes=Episodes(all=5, first=2, task=1))})
    assert len(Plan(more, [0], tmp_path).recordings()) == 2


def test_settings_of_a_collection_count_for_what_is_learned_from_it() -> None:
    changed = replace(SMALL, learners={"curious": ("preset=tiny", "finetuning.train_ratio=1.0")})
    for phase, reward in ((COLLECTION, ""), (ZERO_SHOT, "spinning"), (FEW_SHOT, "spinning")):
        curious, random = (Row("pendulum", name, 0, phase, reward) for name in ("curious", RANDOM))
        assert SMALL.settings_digest(curious) != changed.settings_digest(curious)
        assert SMALL.settings_digest(random) == changed.settings_digest(random)
    finer = replace(SMALL, tasks={"pendulum": replace(TASK, cells=GRID[:1])})
    visited = Row("pendulum", RANDOM, 0, COLLECTION)
    assert finer.settings_digest(visited) != SMALL.settings_digest(visited)


def test_every_entry_of_the_benchmark_composes(tmp_path: Path) -> None:
    plan = Plan(Benchmark.read(), [0], tmp_path)
    rows = [Row("pendulum", name, 0, COLLECTION) for name in plan.benchmark.learners]
    for task, chosen in plan.benchmark.tasks.items():
        rows += [Row(task, RANDOM, 0, FEW_SHOT, reward) for reward in chosen.rewards]
        recording = plan._recording(Row(task, RANDOM, 0, COLLECTION))["dataset"]["recording"]
        assert recording["episodes"] == chosen.episodes.all
    for row in rows:
        assert plan._compose(tmp_path, plan.benchmark.overrides(row), seed=1)["seed"] == 1


def test_unknown_names_keys_and_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no learners random; available: curious"):
        SMALL.choose(None, ["random"])
    broken = tmp_path / "exploration.yaml"
    broken.write_text("{tasks: {}, learner: {}}")
    with pytest.raises(UserError, match="missing or unknown key"):
        Benchmark.read(broken)
    with pytest.raises(UserError, match="first is 5; allowed: from 1 to below all, which is 5"):
        Episodes(all=5, first=5, task=1)


def row(collector: str, seed: int, phase: str, reward: str = "", **figures: Any) -> dict[str, Any]:
    named = Row("pendulum", collector, seed, phase, reward)
    known = {"task": "pendulum", "method": named.method, "group": collector, "collector": collector, "phase": phase}
    return {**known, "reward": reward, "seed": seed, "settings": "s", **figures}


def hand_made(folder: Path) -> Scores:
    """The learner visits more than random actions; with one of two rewards its policies earn more."""
    results = Results(folder, COLUMNS)
    earned = {"curious": (80.0, 50.0), RANDOM: (20.0, 50.0), RECORDED: (85.0, 90.0)}
    for number, (collector, of_rewards) in enumerate(earned.items()):
        for seed in (0, 1):
            shares = " ".join(f"{(episode + 1) * (3 - number) / 20 + seed / 50:.4f}" for episode in range(4))
            figures = {"coverages": shares, "cpu_seconds": 10.0 + seed, "return_mean": 5.0}
            results.add(row(collector, seed, COLLECTION, **figures), [(5.0, 20)] * 4)
            for reward, total in zip(TASK.rewards, of_rewards, strict=True):
                learned = row(collector, seed, ZERO_SHOT, reward, probe_r2=0.25 + seed / 2, cpu_seconds=7.0)
                results.add(learned, [(total + seed, 20)] * 2)
                if collector != RECORDED:
                    results.add(row(collector, seed, FEW_SHOT, reward), [(total + 5, 20)] * 2)
    results.add(row(UNTRAINED, 0, BASELINE, "swing_up"), [(11.0, 20)])
    (made,) = scores(*read_files(folder, made_by="benchmarks.exploration.run"), SMALL, confidence=0.95, resamples=200)
    return made


def test_scores_are_taken_over_seeds(tmp_path: Path) -> None:
    task = hand_made(tmp_path)
    measures = task.measures()
    assert list(measures) == [VISITED, *(f"{name}, {shot}-shot" for name in TASK.rewards for shot in ("zero", "few"))]
    visited = measures[VISITED]("curious")
    assert visited is not None
    assert (visited.value, visited.low, visited.high) == pytest.approx((61, 60, 62))
    assert task.curves["curious"].steps == [20, 40, 60, 80]
    earned = measures["swing_up, zero-shot"]("curious")
    assert earned is not None
    assert (earned.value, earned.low, earned.high) == (80.5, 80, 81)
    assert measures["swing_up, few-shot"](RECORDED) is None
    assert task.seeds == 2


def test_verdict_compares_the_explorer_with_every_other_collector(tmp_path: Path) -> None:
    head, _, *rows = report.verdict_table([hand_made(tmp_path)], SMALL).splitlines()
    assert head == "| task | measure | curious | against random | against recorded |"
    assert rows[0] == f"| pendulum | {VISITED} | 61.0 (60.0 to 62.0) | above: 41.0 (40.0 to 42.0) | " + (
        "above: 21.0 (20.0 to 22.0) |"
    )
    assert rows[1].endswith("| 80.5 (80.0 to 81.0) | above: 20.5 (20.0 to 21.0) | below: 85.5 (85.0 to 86.0) |")
    assert rows[3].endswith("| 50.5 (50.0 to 51.0) | overlaps: 50.5 (50.0 to 51.0) | below: 90.5 (90.0 to 91.0) |")
    assert rows[4].endswith("| 55.0 (55.0 to 55.0) | overlaps: 55.0 (55.0 to 55.0) |  |")


def test_one_seed_has_no_interval_of_visited_cells_and_no_verdict(tmp_path: Path) -> None:
    hand_made(tmp_path)
    runs, episodes = read_files(tmp_path, made_by="benchmarks.exploration.run")
    first = runs[(runs["seed"] == 0) | (runs["collector"] != "curious")]
    tasks = scores(first, episodes, SMALL, confidence=0.95, resamples=20)
    row = report.verdict_table(tasks, SMALL).splitlines()[2]
    assert row == f"| pendulum | {VISITED} | 60.0 (one seed) | 41.0 (40.0 to 42.0) | 21.0 (20.0 to 22.0) |"


def test_tables_have_a_row_for_each_collector(tmp_path: Path) -> None:
    task = hand_made(tmp_path)
    runs, _ = read_files(tmp_path, made_by="benchmarks.exploration.run")
    assert "| curious | 16.0 (15.0 to 17.0) | 31.0 (30.0 to 32.0) |" in report.coverage_table(task)
    assert report.return_table(task).splitlines()[-1] == "| random policy | 11.0 (11.0 to 11.0) |  |  |  |"
    assert "| random | spinning | 0.5 |  |  |  | 7 |" in report.model_table(task, runs)
    assert "| recorded | 5 |  | 10.5 |" in report.collection_table(task, runs)


def test_figure_shows_curves_and_every_return_with_its_interval(tmp_path: Path) -> None:
    task = hand_made(tmp_path)
    visited, swing_up, _ = figure.plot([task]).axes
    for line, collector in zip(visited.lines, task.curves, strict=True):
        np.testing.assert_allclose(line.get_xdata(), [20, 40, 60, 80])
        np.testing.assert_allclose(line.get_ydata(), [share.value for share in task.curves[collector].shares])
    level, *marks = swing_up.lines
    assert level.get_ydata()[0] == 11
    shown = [(tuple(bar.get_ydata()), mark.get_ydata()[0]) for bar, mark in zip(marks[::2], marks[1::2], strict=True)]
    estimates = [task.returns(c, "swing_up", phase) for phase in (ZERO_SHOT, FEW_SHOT) for c in SMALL.collectors]
    assert shown == [((each.low, each.high), each.value) for each in estimates if each is not None]
    assert len({mark.get_xdata()[0] for mark in marks[1::2]}) == 5


def as_json(benchmark: Benchmark, **changes: Any) -> str:
    """The benchmark as its yaml file would have it."""
    cells = [{name: getattr(axis, name) for name in Axis.__slots__} for axis in GRID]
    task = {"episodes": {"all": 4, "first": 2, "task": 1}, "steps": 20, "cells": cells}
    task |= {"data": TASK.data, "random": TASK.random, "rewards": TASK.rewards}
    entries = {"common": benchmark.common, "learners": benchmark.learners, "few_shot": benchmark.few_shot}
    return json.dumps({**entries, "zero_shot": benchmark.zero_shot, "tasks": {"pendulum": task}, **changes})


def test_report_is_written_for_light_and_dark_paper(tmp_path: Path) -> None:
    hand_made(tmp_path)
    benchmark = tmp_path / "exploration.yaml"
    benchmark.write_text(as_json(SMALL))
    assert Benchmark.read(benchmark) == SMALL
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "README.md").write_text(f"before\n{report.BEGIN}\nold\n{END}\nafter\n")
    report.main(["--results", str(tmp_path), "--output", str(docs), "--benchmark", str(benchmark), "--resamples", "20"])
    assert sorted(path.name for path in docs.iterdir()) == WRITTEN
    text = (docs / "README.md").read_text()
    assert "27 of 77 rows of `pendulum`" in text
    assert "| pendulum | cells visited, % | 61.0" in text
    assert "With 2 training seeds" in text
    assert (text[:6], "old" in text, text[-6:]) == ("before", False, "after\n")


def run_here(scheduler: Scheduler, jobs: Sequence[Job], *, description: str) -> None:  # noqa: ARG001
    """Runs the jobs, which stand in the order of their dependencies, in this process: starting one takes seconds."""
    for job in jobs:
        result = perform(dict(job.work))
        if result is not None:
            scheduler.on_result(result)


@pytest.mark.slow
def test_runs_from_recording_to_results_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = tmp_path / "exploration.yaml"
    common = [*SMALL.common, "evaluation.episodes=2", "evaluation.resamples=10", "collection.reference_episodes=1"]
    content = json.loads(as_json(SMALL, common=common))
    content["tasks"]["pendulum"]["rewards"] = {"spinning": TASK.rewards["spinning"]}
    benchmark.write_text(json.dumps(content))
    folders = ["--benchmark", str(benchmark), "--work", str(tmp_path / "w"), "--results", str(tmp_path / "results")]
    options = run.parser().parse_args([*folders, "--seeds", "0"])
    monkeypatch.setattr(Scheduler, "run", run_here)
    assert run.run(options) == {}
    monkeypatch.setattr(Scheduler, "run", None)  # at last, nothing is left to do
    assert run.run(options) == {}
    runs, episodes = read_files(tmp_path / "results", made_by="benchmarks.exploration.run")
    names = ["curious", RANDOM, RECORDED]
    learned = [f"{name}-spinning{phase}" for name in names for phase in ("", "-few_shot")]
    assert sorted(runs["method"]) == sorted([*names, *learned, f"{UNTRAINED}-spinning"])
    collections = runs[runs["phase"] == COLLECTION].set_index("collector")
    assert (collections["environment_steps"] == 80).all()
    assert collections["coverages"].str.split().map(len).tolist() == [4, 4, 4]
    assert (episodes.groupby("method").size()[names] == 4).all()
    both = episodes[episodes["method"].isin(["curious", RANDOM])].pivot(index="episode", columns="method")
    assert (both["return"]["curious"] == both["return"][RANDOM]).tolist()[:3] == [True, True, False]
    assert runs["code"].notna().all()


def test_tables_show_the_committed_numbers() -> None:
    """Compares every score that does not depend on the bootstrap's random draws."""
    tables = without_intervals((report.FOLDER / report.TABLES).read_text())
    read = read_files(RESULTS, made_by="benchmarks.exploration.run")
    for task in scores(*read, Benchmark.read(), confidence=0.95, resamples=2):
        for table in (report.coverage_table(task), report.return_table(task), report.model_table(task, read[0])):
            assert without_intervals(table) in tables


def without_intervals(text: str) -> str:
    return re.sub(r" \([^)]*\)", "", text)
