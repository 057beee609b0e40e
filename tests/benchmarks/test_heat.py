"""The heat map of the offline suite shows the committed numbers, in colours of normalised scores."""

import re
import sys
from pathlib import Path

import imageio.v3 as iio
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are not installed

from benchmarks.offline_suite import heat, scores
from benchmarks.offline_suite.report import FOLDER, TABLES
from benchmarks.offline_suite.run import RESULTS
from benchmarks.offline_suite.suite import SUITE, Suite
from dreamset.pipeline.report.style import SCHEMES

COLUMNS = ("task", "method", "group", "reference_low", "reference_high", "dataset_digest", "seed", "cpu_seconds")


def results(*returns: tuple[str, str, float]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables of one task with methods (name, group, return of both episodes)."""
    runs = [("hopper", name, group, 10.0, 60.0, "digest", 0, 1.0) for name, group, _ in returns]
    episodes = [("hopper", name, 0, number, value) for name, _, value in returns for number in range(2)]
    return (
        pd.DataFrame(runs, columns=list(COLUMNS)),
        pd.DataFrame(episodes, columns=["task", "method", "seed", "episode", "return"]),
    )


def drawn(runs: pd.DataFrame, episodes: pd.DataFrame, order: list[str]) -> Figure:
    shown = heat.contenders(runs, episodes, order)
    of_shown = heat.only(runs, shown)
    board = scores.board(of_shown, episodes, tasks=["hopper"], methods=order, confidence=0.95, resamples=5)
    return heat.plot(board, shown, heat.references(runs))


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_cells_have_the_best_method_of_each_group_with_its_colour() -> None:
    methods = [("v1", "dreamset", 35.0), ("v2", "dreamset", 22.5), ("iql", "d3rlpy", 70.0), ("dataset", "baseline", 10)]
    figure = drawn(*results(*methods), ["v1", "v2", "iql", "dataset"])
    assert texts(figure) == ["35.0", "35.0 to 35.0\nv1", "70.0", "70.0 to 70.0\niql", "10.0", "10.0 to 10.0"]
    colors = np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)
    np.testing.assert_allclose(colors, [[50, 120, np.nan, 0]])


def test_other_baselines_than_the_data_are_not_shown() -> None:
    methods = [("still", "baseline", 99.0), ("dataset", "baseline", 20.0), ("random", "baseline", 98.0)]
    assert texts(drawn(*results(*methods), ["still", "random"])) == ["20.0", "20.0 to 20.0"]


@pytest.mark.parametrize("order", [["v2", "v1"], ["v1", "v2"]])
def test_the_first_of_equal_methods_is_shown(order: list[str]) -> None:
    figure = drawn(*results(("v1", "dreamset", 35.0), ("v2", "dreamset", 35.0)), order)
    assert texts(figure)[1].endswith(order[0])


def test_texts_are_readable_on_every_colour() -> None:
    """The contrast of WCAG is at least 4.5."""
    for value in np.linspace(0, 80, 41):
        axes = drawn(*results(("v1", "dreamset", value)), ["v1"]).axes[0]
        background = luminance(axes.images[0].to_rgba(axes.images[0].get_array())[0, 0, :3])
        inks = {luminance(mpl.colors.to_rgb(text.get_color())) for text in axes.texts}
        assert all((max(ink, background) + 0.05) / (min(ink, background) + 0.05) >= 4.5 for ink in inks)


def luminance(color: np.ndarray | tuple[float, ...]) -> float:
    linear = np.power((np.asarray(color) + 0.055) / 1.055, 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_heat_map_shows_the_methods_of_the_recorded_verdicts() -> None:
    runs, episodes = scores.read(RESULTS)
    shown = heat.contenders(runs, episodes, list(Suite.read(SUITE).methods))
    verdicts = (FOLDER / TABLES).read_text().partition("| task | best of dreamset")[2]
    rows = re.findall(r"^\| (\w+) \| (\w+) [^|]+\| \w+: (\w+) ", verdicts, re.MULTILINE)
    assert len(rows) == 9
    assert shown == {task: [ours, rival, "cloning", "dataset"] for task, ours, rival in rows}


def test_both_images_are_written_and_differ_in_paper(tmp_path: Path) -> None:
    heat.main(["--output", str(tmp_path), "--resamples", "2"])
    for scheme, name in (("light", heat.FIGURE), ("dark", heat.FIGURE.replace(".png", "_dark.png"))):
        paper = mpl.colors.to_rgb(SCHEMES[scheme].get("figure.facecolor", "white"))
        image = iio.imread(tmp_path / name)
        np.testing.assert_allclose(image[0, 0, :3], np.array(paper) * 255, atol=1)
        assert image.shape == iio.imread(heat.OUTPUT / name).shape
