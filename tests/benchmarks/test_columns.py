"""The tables of results: what all benchmarks record, once."""

import csv
import sys
from importlib import import_module
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are not installed

from benchmarks.offline_suite.results import RUN_COLUMNS, VERSIONS

ROOT = Path(__file__).parents[2] / "benchmarks"
COLUMNS = {
    name: import_module(f"benchmarks.{name}.run").COLUMNS
    for name in ("acting", "exploration", "finetuning", "replay", "reversibility", "transfer")
} | {"offline_suite": RUN_COLUMNS}
WRITTEN = sorted(path for path in ROOT.glob("*/results/runs.csv"))


@pytest.mark.parametrize("name", COLUMNS)
def test_every_column_is_recorded_once_and_the_versions_with_it(name: str) -> None:
    columns = COLUMNS[name]
    assert len(set(columns)) == len(columns)
    assert {"task", "method", "seed", "return_mean", "settings", *VERSIONS} <= set(columns)


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.parts[-3])
def test_written_tables_have_no_column_twice(path: Path) -> None:
    with path.open() as file:
        header = next(csv.reader(file))
    assert len(set(header)) == len(header)
