"""The tables of results: what all benchmarks record, once, and what their pages say of it."""

import csv
import sys
from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are not installed

from benchmarks.offline_suite.results import RUN_COLUMNS, VERSIONS

ROOT = Path(__file__).parents[2] / "benchmarks"
COLUMNS = {
    name: import_module(f"benchmarks.{name}.run").COLUMNS
    for name in ("acting", "exploration", "finetuning", "goals", "imitation", "replay", "reversibility", "transfer")
} | {"offline_suite": RUN_COLUMNS}
WRITTEN = sorted(path for path in ROOT.glob("*/results/runs.csv"))


@pytest.mark.parametrize("name", COLUMNS)
def test_every_column_is_recorded_once_and_the_versions_with_it(name: str) -> None:
    columns = COLUMNS[name]
    assert len(set(columns)) == len(columns)
    assert {"task", "method", "seed", "return_mean", "settings", *VERSIONS} <= set(columns)


@pytest.mark.parametrize("name", ["acting", "exploration", "reversibility"])
def test_readme_counts_the_rows_that_are_planned_and_written_now(name: str) -> None:
    report, plan = (import_module(f"benchmarks.{name}.{module}") for module in ("report", "benchmark"))
    runs = pd.read_csv(ROOT / name / "results/runs.csv")
    assert report.coverage(runs, plan.Benchmark.read()) in (ROOT / name / "README.md").read_text()


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.parts[-3])
def test_written_tables_have_no_column_twice(path: Path) -> None:
    with path.open() as file:
        header = next(csv.reader(file))
    assert len(set(header)) == len(header)
