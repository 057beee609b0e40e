"""The benchmark of imitation: which data each row learns from, mistakes, and the report."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are not installed

from benchmarks.imitation import figure, report
from benchmarks.imitation.plan import Benchmark, Plan, Row
from benchmarks.imitation.run import COLUMNS
from benchmarks.offline_suite.results import Results
from dreamset.core.errors import UserError
from dreamset.pipeline.stages import table as stages

SMALL: dict[str, Any] = {
    "common": ["device=cpu", "preset=tiny", "evaluation.episodes=2"],
    "tasks": {
        "pendulum_state": {
            "data": ["dataset=pendulum_state"],
            "learning": ["world_model=observations", "objective=reward_only"],
            "expert": "dreamset.environments.pendulum.scripted",
            "stack": 1,
        }
    },
    "demonstrations": [2, 5],
    "recorded": {"demonstrations": 8, "videos": 3, "failures": 3},
    "randomness": 0.8,
    "methods": {
        "cloning": {"learning": ["behavior=cloning"], "data": []},
        "ldp": {"learning": ["behavior=latent_diffusion_planning"], "data": []},
        "ldp_both": {"learning": ["behavior=latent_diffusion_planning"], "data": ["videos", "failures"]},
    },
}


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "imitation.yaml"
    path.write_text(json.dumps(SMALL | changes))
    return path


def planned(folder: Path) -> Plan:
    return Plan(Benchmark.read(written(folder)), [0, 1], folder)


def test_every_row_of_the_benchmark_composes_with_the_parts_of_its_method(tmp_path: Path) -> None:
    benchmark = Benchmark.read()
    plan = Plan(benchmark, [0], tmp_path)
    for task in benchmark.tasks.values():
        for method in benchmark.methods:
            config = plan._config(Row(task, 10, method, 0))
            parts = stages.ingest(config)["source"]["parts"]
            assert set(parts) == {"demonstrations", *benchmark.methods[method].data}
            kinds = {"cloning": "BehaviorCloning", "ldp": "LatentDiffusionPlanning"}
            assert config["behavior"]["_target_"].endswith(kinds[method.partition("_")[0]])
            assert stages.learn_behavior(config)["training"]["updates"] > 100
            assert (config["dataset"]["transforms"] != []) == (task.stack > 1)


def test_videos_have_no_actions_failures_are_no_demonstrations_and_seeds_draw_others(tmp_path: Path) -> None:
    plan, task = planned(tmp_path), Benchmark.read(written(tmp_path)).tasks["pendulum_state"]
    parts = [plan._config(Row(task, 2, "ldp_both", seed))["dataset"]["source"]["parts"] for seed in (0, 1)]
    assert parts[0]["videos"]["acted"] is False
    assert parts[0]["failures"]["demonstration"] is False
    assert parts[0]["demonstrations"]["transforms"][0] != parts[1]["demonstrations"]["transforms"][0]
    assert parts[0]["demonstrations"]["transforms"][0]["episodes"] == 2
    paths = {part["source"]["path"] for part in parts[0].values()}
    assert len(paths) == 3  # no episode is in two recordings


def test_recordings_differ_in_seed_and_only_failures_are_random(tmp_path: Path) -> None:
    plan, task = planned(tmp_path), Benchmark.read(written(tmp_path)).tasks["pendulum_state"]
    recordings = {name: plan._recording(task, name)["dataset"]["recording"] for name in SMALL["recorded"]}
    assert len({recording["seed"] for recording in recordings.values()}) == 3
    assert {name: recording["episodes"] for name, recording in recordings.items()} == SMALL["recorded"]
    assert recordings["demonstrations"]["policy"] == recordings["videos"]["policy"]
    assert recordings["failures"]["policy"]["randomness"] == 0.8


def test_stores_wait_for_the_recordings_and_rows_of_equal_data_share_one(tmp_path: Path) -> None:
    jobs = {job.name: job for job in planned(tmp_path).preparations()}
    recorded = {f"datasets/pendulum_state-{name}" for name in SMALL["recorded"]}
    assert recorded <= jobs.keys()
    others = jobs.keys() - recorded
    assert len(others) == 2 * 2 * 2  # seeds, numbers of demonstrations, with and without other data
    assert all(jobs[name].needs == recorded for name in others)
    assert all(not jobs[name].needs for name in recorded)


def test_mistakes_in_the_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing or unknown key"):
        Benchmark.read(written(tmp_path, task={}))
    with pytest.raises(UserError, match="videos are not recorded; allowed: demonstrations, videos, failures"):
        Benchmark.read(written(tmp_path, recorded={"demonstrations": 8, "failures": 3}))
    chosen = Benchmark.read(written(tmp_path)).choose(None, ["ldp"], [5])
    assert (list(chosen.methods), chosen.demonstrations) == (["ldp"], [5])


def hand_made(folder: Path) -> report.Scores:
    """Latent diffusion planning returns more than cloning with 2 demonstrations, and as much with 5."""
    results, totals = Results(folder, COLUMNS), {("cloning", 2): 20, ("ldp", 2): 60, ("cloning", 5): 80, ("ldp", 5): 80}
    for (method, count), total in totals.items():
        for seed in (0, 1):
            names = {"task": "pendulum_state", "method": f"{method}@{count}", "group": method, "seed": seed}
            known = {"demonstrations": count, "settings": "s", "reference_low": 10.0, "reference_high": 90.0}
            results.add(names | known, [(total + 0.1 * seed + 0.01 * episode, 100) for episode in range(3)])
    return report.read(folder, Benchmark.read(written(folder)), 0.95, 50)


def test_methods_are_compared_at_each_number_of_demonstrations(tmp_path: Path) -> None:
    scores = hand_made(tmp_path)
    rows = report.comparisons(scores).splitlines()
    assert rows[2] == "| pendulum_state | ldp against cloning | above: 60.1 and 20.1 | overlaps: 80.1 and 80.1 |"
    assert rows[-1] == "| pendulum_state | ldp_both against ldp | not measured | not measured |"
    assert "at least 2 of 5 seeds: 4 of 6 of `pendulum_state`" in report.coverage(scores)
    assert "Random actions return 10.0, the expert 90.0." in report.markdown(scores)


def test_figure_has_a_line_per_measured_method_and_both_references(tmp_path: Path) -> None:
    scores = hand_made(tmp_path)
    (axes,) = figure.plot(scores.benchmark, scores.of, scores.references).axes
    assert [text for text in axes.get_legend_handles_labels()[1] if not text.startswith("_")] == ["cloning", "ldp"]
    dotted = [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == ":" and len(line.get_xdata()) == 2]
    assert {10.0, 90.0} <= set(dotted)


def test_report_replaces_the_results_of_its_page(tmp_path: Path) -> None:
    hand_made(tmp_path)
    (tmp_path / "README.md").write_text(f"before\n{report.BEGIN}\nold\n<!-- end -->\nafter\n")
    places = ["--results", str(tmp_path), "--output", str(tmp_path), "--benchmark", str(written(tmp_path))]
    report.main([*places, "--resamples", "20"])
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("before")
    assert "old" not in text
    assert "ldp against cloning" in text
    assert (tmp_path / "returns.png").exists()
    assert (tmp_path / "returns_dark.png").exists()
