"""The coverage of intervals in ``benchmarks/coverage.py``."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are not installed

from benchmarks import coverage


def test_nominal_interval_of_three_seeds_covers_less_than_one_of_ten() -> None:
    settings = {"episodes": 10, "repeats": 150, "resamples": 100, "confidence": 0.95}
    three, ten = (coverage.coverage(seeds, 2.0, **settings) for seeds in (3, 10))
    assert 0.6 < three < 0.82 < ten


def test_table_has_a_row_for_each_number_of_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    coverage.main(["--episodes", "4", "--repeats", "2", "--resamples", "4"])
    rows = [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines() if line.endswith("% |")]
    assert rows == [str(seeds) for seeds in coverage.SEEDS]
