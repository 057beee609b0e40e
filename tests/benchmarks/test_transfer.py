"""The transfer benchmark: experiments, planning and a small run."""

import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are not installed

from benchmarks.offline_suite.jobs import Job
from benchmarks.offline_suite.ours import COST
from benchmarks.transfer import run
from benchmarks.transfer.experiments import BENCHMARK, Benchmark, Experiment, Start
from benchmarks.transfer.first_episodes import FirstEpisodes
from benchmarks.transfer.plan import Plan
from dreamset.core.errors import UserError
from dreamset.datasets import Store
from dreamset.datasets.strategies import Candidates
from dreamset.pipeline.artifacts.saved_models import model_digest
from dreamset.pipeline.config.compose import compose
from tests.pipeline import registered
from tests.test_offline_suite import counting_store

EVERYTHING = Benchmark.read()
SCRATCH = Experiment("spin", "scratch", "reconstruction", 100, 2)
REUSED = replace(SCRATCH, start="heads_only", updates=1)
HALF = replace(REUSED, share=50)
CONTRASTIVE = replace(REUSED, objective="contrastive")
FIRST = "benchmarks.transfer.first_episodes.FirstEpisodes"
TINY = Benchmark(
    common=["device=cpu", "preset=tiny"],
    source=["dataset=pendulum_state"],
    pairs={"spin": ["dataset=pendulum_spin"]},
    baselines=["recorded"],
    starts={
        "scratch": Start(reuses=False, overrides=[]),
        "heads_only": Start(reuses=True, overrides=["world_model=from_registry", "adaptation=heads_only"]),
    },
    shares={
        100: [],
        50: [f"{stage}.batch.strategy._target_={FIRST}" for stage in ("world_model_training", "behavior_training")]
        + [f"+{stage}.batch.strategy.share=0.5" for stage in ("world_model_training", "behavior_training")],
    },
    experiments=[SCRATCH, REUSED, HALF, CONTRASTIVE],
    curves=[],
    objectives=[],
)


@pytest.mark.parametrize(("share", "count"), [(0.05, 1), (0.2, 1), (0.4, 2), (0.5, 2), (1.0, 5)])
def test_first_episodes_are_sampled_uniformly_and_later_ones_never(share: float, count: int) -> None:
    windows = np.array([3, 1, 6, 2, 8])
    logs = FirstEpisodes(share).log_weights(Candidates(windows, np.arange(5.0)))
    np.testing.assert_allclose(np.exp(logs), np.where(np.arange(5) < count, windows, 0))


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, float("nan")])
def test_invalid_share_is_refused(share: float) -> None:
    with pytest.raises(UserError, match="FirstEpisodes: share"):
        FirstEpisodes(share)


def test_file_lists_every_combination_once() -> None:
    names = [(experiment.pair, experiment.name) for experiment in EVERYTHING.experiments]
    assert len(names) == len(set(names))
    actual = [e for e in EVERYTHING.experiments if (e.pair, e.start) == ("heavy", "everything")]
    assert sorted((e.share, e.updates) for e in actual) == [(5, 200), (20, 200), (100, 200)]


def representatives() -> list[Experiment]:
    """One experiment for every start and one for every share."""
    decoding = [experiment for experiment in EVERYTHING.experiments if experiment.objective == "reconstruction"]
    starts = {experiment.start: experiment for experiment in decoding}
    shares = {experiment.share: experiment for experiment in decoding}
    return list(dict.fromkeys([*starts.values(), *shares.values()]))


@cache
def composed(*overrides: str) -> dict[str, Any]:
    return compose(overrides)


@pytest.mark.parametrize("experiment", representatives(), ids=lambda experiment: experiment.name)
def test_experiments_compose_and_learn_with_the_same_objective_and_data(experiment: Experiment) -> None:
    config = composed(*EVERYTHING.overrides(experiment))
    scratch = composed(*EVERYTHING.on_pair("heavy"), f"objective={experiment.objective}")
    frozen = config.get("adaptation", {}).get("objective") == 0 or experiment.updates == 0
    if not frozen:  # the networks of a frozen objective change nothing
        assert config["objective"] == scratch["objective"]
    strategies = [config[stage]["batch"]["strategy"] for stage in ("world_model_training", "behavior_training")]
    if experiment.share == 100:
        assert strategies == [scratch["world_model_training"]["batch"]["strategy"]] * 2
    else:
        assert strategies == [{"_target_": FIRST, "share": experiment.share / 100}] * 2
    assert config["world_model_training"]["updates"] == experiment.updates
    assert config["behavior_training"]["updates"] == scratch["behavior_training"]["updates"]


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "benchmark.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(BENCHMARK.read_text()), **changes}))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nonsense": 3}, "'nonsense'"),
        ({"starts": {"scratch": {"overrides": []}}}, "'reuses'"),
        ({"experiments": [{"pair": "spin", "start": "scratch"}]}, "has the keys pair, start, objective"),
        ({"experiments": [{**asdict(SCRATCH), "pair": "none", "share": 7}]}, "pair and share of .* not defined"),
    ],
)
def test_unknown_keys_are_refused(tmp_path: Path, changes: Mapping[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Benchmark.read(written(tmp_path, **changes))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores, and a reusable world model for the first seed and objective only."""
    folder = tmp_path_factory.mktemp("work")
    for name in ("pendulum_state", "pendulum_spin"):
        counting_store(folder / "stores" / name)
    first, *_ = Plan(TINY, [0], folder).pretrainings({})
    model = Path(first.work["stage"]["output"])
    registered.world_model(model / "model")
    (model / COST).write_text('{"cpu_seconds": 12.34}')
    return folder


@pytest.fixture(scope="module")
def jobs(work: Path) -> dict[str, Job]:
    """The plan for seeds 0 and 1, with nothing finished."""
    return {job.name: job for job in Plan(TINY, [0, 1], work).experiments({})}


def results_of(names: Iterable[str]) -> set[str]:
    return {name for name in names if not name.startswith("world_models/")}


def test_derived_datasets_are_prepared_after_their_source(work: Path, tmp_path: Path) -> None:
    source, spin = Plan(TINY, [0], tmp_path).preparations()
    assert (source.name, source.needs) == ("datasets/pendulum_state", frozenset())
    assert (spin.name, spin.needs) == ("datasets/pendulum_spin", {"datasets/pendulum_state"})
    assert Plan(TINY, [0], work).preparations() == []


def test_reused_world_model_is_trained_once(work: Path) -> None:
    stages = [job.work["stage"] for job in Plan(TINY, [0, 1], work).pretrainings({})]
    actual = [(stage["objective_name"], stage["seed"], stage["dataset"]) for stage in stages]
    missing = [("contrastive", 0), ("contrastive", 1), ("reconstruction", 1)]
    assert sorted(actual) == [(objective, seed, "pendulum_state") for objective, seed in missing]
    assert {stage["training"]["updates"] for stage in stages} == {6}  # of the preset, not of the reuse
    assert {stage["start"] for stage in stages} == {None}


def test_experiments_wait_for_the_world_model_that_they_reuse(work: Path, jobs: dict[str, Job]) -> None:
    assert results_of(jobs) == {
        "spin/recorded-0",
        *(f"spin/{SCRATCH.name}-{seed}" for seed in (0, 1)),
        *(f"spin/{experiment.name}-0" for experiment in (REUSED, HALF)),
    }
    (needed,) = jobs[f"spin/{REUSED.name}-0"].needs
    stage, row = jobs[needed].work["stage"], jobs[f"spin/{REUSED.name}-0"].work["row"]
    source = Path(stage["start"]["folder"])
    assert source.is_relative_to(work / "world_models")
    assert stage["start"]["digest"] == model_digest(source)
    assert stage["start"]["adaptation"]["dynamics"] == 0
    assert stage["training"]["updates"] == 1
    assert stage["store"] == str(work / "stores/pendulum_spin")
    assert (row["reused"], row["pretraining_cpu_seconds"]) == (source.parent.name, 12.3)
    (needed,) = jobs[f"spin/{SCRATCH.name}-0"].needs
    assert jobs[needed].work["stage"]["start"] is None
    assert "reused" not in jobs[f"spin/{SCRATCH.name}-0"].work["row"]


def test_rows_contain_no_path_of_this_machine(work: Path, jobs: dict[str, Job]) -> None:
    rows = [job.work["row"] for job in jobs.values() if "row" in job.work]
    assert len(rows) == 5
    assert not [row for row in rows if str(work) in str(row)]
    assert all(row.keys() <= set(run.COLUMNS) for row in rows)


def test_world_model_keeps_its_name_when_the_working_folder_moves(
    work: Path, jobs: dict[str, Job], tmp_path: Path
) -> None:
    there = shutil.copytree(work, tmp_path / "there")
    moved = Plan(replace(TINY, experiments=[REUSED], baselines=[]), [0], there).experiments({})
    assert {job.name for job in moved} == {f"spin/{REUSED.name}-0", *jobs[f"spin/{REUSED.name}-0"].needs}


def test_share_of_the_data_changes_the_world_model_digest(jobs: dict[str, Job]) -> None:
    assert jobs[f"spin/{REUSED.name}-0"].needs.isdisjoint(jobs[f"spin/{HALF.name}-0"].needs)
    strategy = jobs[f"spin/{HALF.name}-0"].work["learn"]["training"]["batch"]["strategy"]
    assert strategy == {"_target_": FIRST, "share": 0.5}


def test_finished_jobs_are_skipped_until_their_settings_change(work: Path) -> None:
    done = {("spin", experiment.name, "0"): TINY.settings_digest(experiment) for experiment in TINY.experiments}
    assert Plan(replace(TINY, baselines=[]), [0], work).experiments(done) == []
    other = {**done, ("spin", SCRATCH.name, "0"): "of other settings"}
    left = Plan(replace(TINY, baselines=[]), [0], work).experiments(other)
    assert results_of(job.name for job in left) == {f"spin/{SCRATCH.name}-0"}
    longer = replace(TINY, source=[*TINY.source, "world_model_training.updates=7"])
    changed = {e for e in TINY.experiments if longer.settings_digest(e) != TINY.settings_digest(e)}
    assert changed == {REUSED, HALF, CONTRASTIVE}


@pytest.mark.slow
@pytest.mark.usefixtures("_warm_jobs")
def test_benchmark_runs_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    value = asdict(replace(TINY, shares={100: []}))
    value["experiments"] = [asdict(SCRATCH), asdict(REUSED)]
    path = tmp_path / "benchmark.yaml"
    path.write_text(yaml.safe_dump(value))
    folders = ["--benchmark", str(path), "--work", str(tmp_path / "work"), "--results", str(tmp_path / "results")]
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            run.main([*folders, "--seeds", "0"])
        assert ended.value.code == 0, capsys.readouterr().err
    assert "transfer" not in capsys.readouterr().err.rpartition("plan (experiments)")[2]  # nothing was left to do
    runs = pd.read_csv(tmp_path / "results/runs.csv").set_index("method")
    assert set(runs.index) == {"recorded", SCRATCH.name, REUSED.name}
    assert runs.loc[REUSED.name, "pretraining_cpu_seconds"] > 0
    assert np.isnan(runs.loc[SCRATCH.name, "pretraining_cpu_seconds"])
    assert runs.loc[[SCRATCH.name, REUSED.name], "world_model_updates"].tolist() == [2, 1]
    store = Store.open(tmp_path / "work/stores/pendulum_spin")
    mean = store.returns[store.split("train")].mean()
    assert runs.loc["recorded", "return_mean"] == pytest.approx(mean)
    assert len(pd.read_csv(tmp_path / "results/episodes.csv")) == 4 + 4 + len(store.split("train"))
