"""The figures of the comparison page show the numbers that they are given."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dreamset.pipeline.report.comparison import Comparison
from dreamset.pipeline.report.page import charts, figures
from dreamset.pipeline.report.page.drawing import Axis
from dreamset.pipeline.stages.compare import comparison_of, read_runs
from dreamset.pipeline.stages.settings import Compare
from tests.pipeline.comparisons import Case


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    settings = Compare.of(**Case().write(tmp_path))
    return comparison_of(settings, read_runs(settings))


@pytest.mark.parametrize(("scale", "middle"), [("linear", 50.5), ("log", 10.0)])
def test_the_middle_of_an_axis_is_the_arithmetic_or_the_geometric_mean(scale: Any, middle: float) -> None:
    axis = Axis(1.0, 100.0, scale, 40.0, 240.0)
    assert [axis(value) for value in (1.0, middle, 100.0)] == pytest.approx([40.0, 140.0, 240.0])
    assert axis.at(1e6) == pytest.approx(240.0)


def test_numbers_behind_the_returns_are_the_quartiles_of_every_episode(comparison: Comparison) -> None:
    html = figures.returns(comparison)
    for objective in ("good", "bad"):
        returns = np.sort(pd.read_csv(f"runs/evaluation/{objective}-0/episodes.csv")["return"].to_numpy())
        lower, upper = (returns[1] + (returns[2] - returns[1]) / 4, returns[4] - (returns[4] - returns[3]) / 4)
        quartiles = (returns[0], lower, (returns[2] + returns[3]) / 2, upper, returns[5])  # of six episodes
        assert "".join(f"<td>{value:.1f}</td>" for value in quartiles) in html


def test_band_of_a_calibrated_model_is_twice_the_standard_error_of_a_share(
    comparison: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[charts.Series] = []
    draw = charts.line_chart

    def watched(series: Any, *, guide: charts.Series, **settings: Any) -> str:
        drawn.append(guide)
        return draw(series, guide=guide, **settings)

    monkeypatch.setattr(charts, "line_chart", watched)
    figures.coverage(comparison)
    (band,) = drawn
    assert band.low is not None
    assert band.high is not None
    for level, low, high in zip(band.x, band.low, band.high, strict=True):
        error = math.sqrt(level * (1 - level) / 80)  # of 80 predictions
        assert (low, high) == pytest.approx((level - 2 * error, level + 2 * error))
