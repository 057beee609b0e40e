"""The fine-tuning benchmark: plan and tables."""

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are not installed

from benchmarks.finetuning import report
from benchmarks.finetuning.plan import BENCHMARK, OFFLINE, Benchmark
from benchmarks.finetuning.run import COLUMNS, RESULTS, add
from benchmarks.offline_suite.plan import compose_below
from benchmarks.offline_suite.results import Results
from benchmarks.reports import END
from dreamset.core.errors import UserError

MARKS = f"before\n{report.BEGIN}\nold\n{END}\nafter\n"


def hand_made(folder: Path, curves: dict[str, dict[int, list[float]]], task: str = "pendulum_random") -> None:
    """``curves``: variant -> steps -> the return of every seed, in all of its episodes."""
    results = Results(folder, COLUMNS)
    for variant, points in curves.items():
        for seed in range(2):
            row = {"task": task, "group": variant, "method": variant, "seed": seed, "settings": "s"}
            row |= {"dataset_digest": "d", "cpu_seconds": 10.0 + seed}
            described = [
                {
                    "run": row | {"due": steps, "environment_steps": steps + seed, "return_mean": returns[seed]},
                    "episodes": [(returns[seed], 1)] * 4,
                }
                for steps, returns in points.items()
            ]
            add(results, {"points": described})


CURVES = {
    "default": {0: [50.0, 60.0], 100: [45.0, 61.0], 200: [80.0, 82.0], 300: [90.0, 92.0]},
    "no_warm_up": {0: [50.0, 60.0], 100: [20.0, 55.0], 200: [60.0, 60.0]},
}


def test_improvement_dip_and_cost_are_computed_from_the_rows(tmp_path: Path) -> None:
    hand_made(tmp_path, CURVES)
    curves = report.Curves.read(tmp_path, resamples=200, confidence=0.95)
    assert (
        "| pendulum_random | 2 | 55.0 (50.0 to 60.0) | 300 | 91.0 (90.0 to 92.0) | apart |"
        in curves.improvement_table()
    )
    dips = curves.dip_table()  # within 200 steps, which both have
    assert "| default | 2.5 (5.0, 0.0) |" in dips
    assert "| no_warm_up | 17.5 (30.0, 5.0) |" in dips
    assert "| default | 10 |" in curves.cost_table()  # 10.5, to even


def test_overlapping_intervals_are_reported(tmp_path: Path) -> None:
    hand_made(tmp_path, {"default": {0: [50.0, 60.0], 100: [55.0, 90.0]}})
    curves = report.Curves.read(tmp_path, resamples=200, confidence=0.95)
    assert curves.improvement_table().endswith("| overlap |")


def test_variant_row_marks_its_evaluations_as_complete(tmp_path: Path) -> None:
    hand_made(tmp_path, CURVES)
    finished = Results(tmp_path, COLUMNS).finished()
    assert {key[1] for key in finished if key[1].startswith("default")} == {
        "default",
        *(f"default@{steps}" for steps in CURVES["default"]),
    }
    assert finished["pendulum_random", "default", "1"] == "s"


def test_variant_names_are_unique() -> None:
    assert OFFLINE not in Benchmark.read(BENCHMARK).variants


@pytest.mark.parametrize("task", Benchmark.read(BENCHMARK).tasks)
def test_every_variant_composes(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.chdir(root)
    benchmark = Benchmark.read(BENCHMARK)
    for overrides in benchmark.variants.values():
        config = compose_below(tmp_path, [*benchmark.common, *benchmark.tasks[task], *overrides])
        assert config["finetuning"]["environment_steps"] in (6000, 20000)


def test_unknown_task_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="no tasks nope"):
        Benchmark.read(BENCHMARK).choose(["nope"])


def test_text_and_figure_are_written(tmp_path: Path) -> None:
    hand_made(tmp_path, CURVES)
    (tmp_path / report.TEXT).write_text(MARKS)
    report.main(["--results", str(tmp_path), "--output", str(tmp_path), "--resamples", "50"])
    text = (tmp_path / report.TEXT).read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert (tmp_path / report.FIGURE).stat().st_size > 5000


def test_report_shows_the_committed_numbers() -> None:
    """Compares every score that does not depend on the bootstrap's random draws."""
    text = (report.FOLDER / report.TEXT).read_text()
    curves = report.Curves.read(RESULTS, resamples=20, confidence=0.95)
    for table in (curves.dip_table(), curves.cost_table()):
        assert table in text
    for line in curves.improvement_table().splitlines()[2:]:
        assert re.sub(r" \([^)]*\)|\| \w+ \|$", "", line) in re.sub(r" \([^)]*\)", "", text)
