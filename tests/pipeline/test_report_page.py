"""The comparison's page, its advice and the result in the terminal."""

import json
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dreamset.core.errors import UserError
from dreamset.pipeline.config.settings import Evaluation
from dreamset.pipeline.files import write_json
from dreamset.pipeline.report import advice, comparison_figure
from dreamset.pipeline.report.comparison import Comparison
from dreamset.pipeline.report.headline import tied
from dreamset.pipeline.report.page import charts, drawing
from dreamset.pipeline.report.page.html import Cell, listing, table
from dreamset.pipeline.report.page.report import comparison_page
from dreamset.pipeline.report.result import RESULT, result_lines, short_lines
from dreamset.pipeline.report.style import series_marks, series_style
from dreamset.pipeline.stages.compare import headlines, result_of

EVALUATION = Evaluation(episodes=4, seed=0, confidence=0.95, resamples=50, video_episodes=1)
NAN = float("nan")
VOID = {"meta", "img", "br", "path", "line", "circle"}


def rows(**changes: dict[str, float]) -> pd.DataFrame:
    """Two objectives: ``good`` is far ahead of ``bad``; changes by objective."""
    good = {"return_iqm": 90.0, "return_iqm_low": 85.0, "return_iqm_high": 95.0, "imagined_return": 91.0}
    bad = {"return_iqm": 20.0, "return_iqm_low": 15.0, "return_iqm_high": 25.0, "imagined_return": 22.0}
    shared = {"kl": 2.0, "probe_r2": 0.9, "reward_error_h15": 0.1, "return_mean": 50.0, "seeds": 1}
    table = {"good": {**shared, **good, "real_return": 90.0}, "bad": {**shared, **bad, "real_return": 20.0}}
    return pd.DataFrame([{"objective": name, **row, **changes.get(name, {})} for name, row in table.items()])


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    horizons = pd.DataFrame(
        [(name, 0, h, 0.1 * h + 0.01, 0.9 - 0.1 * h) for name in ("good", "bad") for h in (0, 1, 5)],
        columns=["objective", "seed", "horizon", "reward_error", "probe_r2"],
    )
    return Comparison(
        dataset="task",
        preset="small",
        seeds=[0],
        evaluation=EVALUATION,
        summary=rows(),
        horizons=horizons,
        returns={"good": [np.array([88.0, 92.0])], "bad": [np.array([18.0, 22.0])]},
        references={"dataset mean": 50.0, "low reference": 0.0, "high reference": 100.0},
        runs=tmp_path / "runs",
    )


def test_winner_is_named_with_its_interval_when_no_other_interval_reaches_it(comparison: Comparison) -> None:
    assert (
        advice.winner(comparison)
        == "good earned most: 90.0 (85.0 to 95.0). Its interval lies above those of all others."
    )


def test_overlapping_intervals_are_a_tie(comparison: Comparison) -> None:
    near = replace(comparison, summary=rows(bad={"return_iqm_high": 86.0}))
    assert advice.winner(near).endswith("its interval overlaps that of bad: a tie so far.")
    assert [row["objective"] for row in tied(near.rows())] == ["good", "bad"]


@pytest.mark.parametrize(
    ("rewarded", "figures", "said"),
    [
        (True, {"reward_error_h15": 0.5}, "bad predicts rewards best (reward error +15 0.1000)."),
        (False, {"open_loop_mse": 0.5}, "good predicts observations best, as the data have no rewards ("),
        (True, {"open_loop_mse": 0.5}, "Neither a return nor an error of the predictions was measured"),
    ],
)
def test_without_returns_the_best_prediction_is_named(
    comparison: Comparison, *, rewarded: bool, figures: dict[str, float], said: str
) -> None:
    (name,) = figures
    other = 0.1 if rewarded else 0.9
    untried = pd.DataFrame(
        [{"objective": "good", "return_iqm": NAN, **figures}, {"objective": "bad", "return_iqm": NAN, name: other}]
    )
    compared = replace(comparison, summary=untried, rewarded=rewarded)
    assert said in advice.winner(compared)
    assert tied(compared.rows()) == []
    assert not any("interval" in line for line in advice.caveats(compared))  # there is none


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({"imagined_return": 41.0}, "bad: imagined 41.0, real 20.0. The policy exploits errors of the model."),
        ({"imagined_return": 39.0}, None),  # within a fifth of the distance between the references
        ({"imagined_return": -1.0}, "bad: imagined -1.0, real 20.0. The model predicts too little reward"),
        ({"kl": 0.05}, "bad: observations add only 0.05 nats per step, so the posterior has collapsed."),
        ({"probe_r2": 0.3}, "bad: a linear probe recovers 30 % of the true state's variance."),
        ({"return_iqm_high": 60.0}, None),
        ({"return_iqm_high": 101.0}, "bad: its interval reaches the high reference policy (100.0)."),
    ],
)
def test_hint_follows_from_the_figures(comparison: Comparison, figures: dict[str, float], said: str | None) -> None:
    changed = replace(comparison, summary=rows(bad={"return_iqm_high": 60.0, **figures}))
    hints = [line for line in advice.hints(changed) if line.startswith("bad:")]
    assert [line[: len(said or "")] for line in hints] == ([said] if said else [])


def test_policy_below_the_data_suggests_cloning(comparison: Comparison) -> None:
    assert any("bad: the policy earns less than the recorded episodes" in line for line in advice.hints(comparison))
    assert advice.exploited(replace(comparison, summary=rows(good={"imagined_return": 200.0}))) == ["good"]


def test_horizon_without_prediction_is_named(comparison: Comparison) -> None:
    lost = comparison.horizons.assign(probe_r2=[0.9, 0.5, -0.1, 0.8, 0.0, -0.2])
    hints = advice.hints(replace(comparison, horizons=lost))
    assert any(line.startswith("From 5 steps on, no model predicts the true state") for line in hints)


class Checker(HTMLParser):
    """Collects unclosed and wrongly closed elements, and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        addresses = [str(value) for name, value in attrs if name in ("src", "href", "poster")]
        self.addresses += [address for address in addresses if not address.startswith("#")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def check(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    return checker


def media(comparison: Comparison, size: int = 10) -> None:
    for stage, name in (("world_model", "open_loop_image.mp4"), ("evaluation", "episodes.mp4")):
        folder = comparison.runs / stage / "good-0" / "media"
        folder.mkdir(parents=True)
        (folder / name).write_bytes(b"v" * size)


def test_page_is_well_formed_and_loads_nothing(comparison: Comparison, tmp_path: Path) -> None:
    media(comparison)
    page = comparison_page(comparison, tmp_path / "runs/comparison/report.html")
    checked = check(page)
    assert checked.wrong == []
    assert checked.open == []
    assert len(checked.addresses) == 2
    assert all(address.startswith("data:video/mp4;base64,") for address in checked.addresses)
    assert not re.search(r"https?://", page)
    assert page == comparison_page(comparison, tmp_path / "runs/comparison/report.html")


def test_names_of_users_are_escaped(comparison: Comparison, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    renamed = replace(
        comparison,
        dataset=evil,
        summary=comparison.summary.replace("good", evil),
        horizons=comparison.horizons.replace("good", evil),
        returns={evil: comparison.returns["good"], "bad": comparison.returns["bad"]},
        different_settings={evil: {evil: evil}},
    )
    page = comparison_page(renamed, tmp_path / "runs/comparison/report.html")
    assert evil not in page
    assert check(page).wrong == []


def test_large_media_are_links_beside_the_page(
    comparison: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    media(comparison, size=100)
    monkeypatch.setattr("dreamset.pipeline.report.page.media.LARGEST_PAGE", 150)
    first, second = check(comparison_page(comparison, tmp_path / "runs/comparison/report.html")).addresses
    assert first.startswith("data:")
    assert second == "../evaluation/good-0/media/episodes.mp4"
    assert (tmp_path / "runs/comparison" / second).resolve() == (
        comparison.runs / "evaluation/good-0/media/episodes.mp4"
    )


def test_missing_figures_leave_their_parts_out(comparison: Comparison, tmp_path: Path) -> None:
    bare = replace(
        comparison,
        summary=rows()[["objective", "return_iqm", "return_iqm_low", "return_iqm_high", "seeds"]],
        horizons=comparison.horizons.iloc[:0],
        references={},
    )
    page = comparison_page(bare, tmp_path / "runs/comparison/report.html")
    assert "<h2>Returns</h2>" in page
    assert "How far ahead" not in page
    assert "What the states know" not in page
    assert check(page).wrong == []


def test_best_of_a_column_is_marked(comparison: Comparison, tmp_path: Path) -> None:
    page = comparison_page(comparison, tmp_path / "runs/comparison/report.html")
    assert re.search(r"<strong>90\.0</strong>", page)
    assert not re.search(r"<strong>20\.0</strong>", page)
    assert table(["a"], [[Cell("x", best=True)]]).count("★") == 1


def stops(chart: str) -> list[tuple[float, float | None, str]]:
    """What the chart shows at which place."""
    data = re.search(r'data-stops="([^"]*)"', chart)
    assert data
    return [tuple(stop) for stop in json.loads(unescape(data[1]))]


def test_curve_stands_where_its_values_are() -> None:
    chart = charts.line_chart(
        [charts.Series("one", 0, [0, 10], [0.0, 1.0])], title="t", x_label="x", y_label="y", limits=(0.0, 1.0)
    )
    path = re.search(r'class="curve"[^>]* d="M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)"', chart)
    assert path
    left, floor, right, top = map(float, path.groups())
    frame = drawing.Frame()
    assert (left, floor) == (frame.left, frame.floor)
    assert (right, top) == (frame.right, frame.top)


def test_steps_are_spaced_by_the_logarithm_of_one_more() -> None:
    series = [charts.Series("one", 0, [0, 1, 3, 7], [1.0, 2.0, 3.0, 4.0])]
    chart = charts.line_chart(series, title="t", x_label="x", y_label="y", x_places="logarithmic", x_ticks=[0, 1, 3, 7])
    assert np.diff([x for x, _, _ in stops(chart)]) == pytest.approx([(drawing.Frame().right - 58) / 3] * 3, abs=0.11)


def test_chart_shows_the_values_of_all_series_at_each_place() -> None:
    series = [
        charts.Series("one", 0, [0, 5], [0.1, 0.25], [0.1, 0.2], [0.1, 0.3]),
        charts.Series("two <b>", 1, [5], [7.0]),
    ]
    first, second = stops(charts.line_chart(series, title="t", x_label="step", y_label="y"))
    assert first[2] == "step: 0\none: 0.1"
    assert second[2] == "step: 5\none: 0.25 (0.2 to 0.3)\ntwo <b>: 7"


def test_value_beyond_the_axis_is_an_arrow_at_its_border() -> None:
    series = [charts.Series("one", 0, [0, 1], [0.5, -3.0])]
    chart = charts.line_chart(series, title="t", x_label="x", y_label="y", limits=(0.0, 1.0))
    assert f"{float(drawing.Frame().floor):.1f}h10l-5 7z" in chart
    assert stops(chart)[-1][2] == "x: 1\none: -3"  # the value itself


def test_log_axis_leaves_out_what_it_cannot_show() -> None:
    series = [charts.Series("one", 0, [0, 1, 2], [0.0, NAN, 0.1])]
    chart = charts.line_chart(series, title="t", x_label="x", y_label="y", scale="log")
    assert [text for _, _, text in stops(chart)] == ["x: 2\none: 0.1"]
    assert charts.line_chart([charts.Series("none", 0, [0], [NAN])], title="t", x_label="x", y_label="y") == ""


@pytest.mark.parametrize("places", [[5.0, 5.0, 5.0], [0.0, 50.0, 100.0], [99.0, 99.5, 100.0], [0.0, 1.0, 99.0]])
def test_labels_keep_their_distance_and_stay_in_the_chart(places: list[float]) -> None:
    moved = drawing.spread(places, 15, 0, 100)
    assert np.diff(moved).min() >= 15
    assert moved[0] >= 0
    assert moved[-1] <= 100


def test_labels_with_room_stay_where_they_are() -> None:
    assert drawing.spread([10.0, 30.0, 80.0], 15, 0, 100) == [10.0, 30.0, 80.0]


@pytest.mark.parametrize("count", [1, 3, 12, 40])
def test_no_name_of_a_chart_is_outside_or_over_another(count: int) -> None:
    series = [charts.Series(f"objective {n}", n, [0, 1], [0.0, 1.0]) for n in range(count)]
    chart = charts.line_chart(series, title="t", x_label="x", y_label="y")
    places = sorted(float(y) for y in re.findall(r'class="series" x="[\d.]+" y="([\d.]+)"', chart))
    height = float(re.search(r'viewBox="0 0 \d+ (\d+)"', chart)[1])
    assert len(places) == count
    assert all(after - before > drawing.LABEL_HEIGHT - 0.2 for before, after in pairwise(places))  # rounded
    assert places[0] > 20
    assert places[-1] < height


def test_long_name_is_shortened_to_the_room_beside_a_chart() -> None:
    name = "a_name_of_an_objective_that_nobody_would_choose"
    chart = charts.line_chart([charts.Series(name, 0, [0, 1], [0.0, 1.0])], title="t", x_label="x", y_label="y")
    place, shown = re.search(r'class="series" x="([\d.]+)"[^>]*>([^<]+)<', chart).groups()
    assert shown.endswith("…")
    assert name.startswith(shown[:-1])
    assert float(place) + 7.8 * len(shown) <= drawing.WIDTH  # pixels of a wide letter
    assert name in stops(chart)[0][2]


def test_forty_objectives_differ_in_colour_marker_or_line() -> None:
    assert len({series_marks(index) for index in range(40)}) == 40
    assert [series_marks(index) for index in range(7)] == [(index, index, index) for index in range(7)]
    styles = [series_style(index) for index in range(40)]
    assert len({(style.color, style.marker, style.line) for style in styles}) == 40


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]), (-20.0, 100.0, [0.0, 25.0, 50.0, 75.0, 100.0])],
)
def test_ticks_are_round_values(low: float, high: float, expected: list[float]) -> None:
    assert drawing.ticks(drawing.Axis(low, high, "linear", 0, 1)) == pytest.approx(expected)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_figure_is_drawn_on_its_paper(comparison: Comparison, tmp_path: Path, scheme: str) -> None:
    import imageio.v3 as iio

    comparison_figure.draw(comparison, tmp_path / "figure.png", scheme=scheme)
    corner = iio.imread(tmp_path / "figure.png")[2, 2, :3]
    assert tuple(corner) == ((255, 255, 255) if scheme == "light" else (13, 17, 23))


def test_headlines_are_few_and_rounded(comparison: Comparison) -> None:
    assert headlines(comparison)["good"] == {"return_iqm": 90.0, "reward_error_h15": 0.1, "probe_r2": 0.9}
    short = comparison.summary.rename(columns={"reward_error_h15": "reward_error_h5"}).assign(probe_r2=[NAN, 0.12345])
    assert headlines(replace(comparison, summary=short))["bad"] == {
        "return_iqm": 20.0,
        "reward_error_h5": 0.1,
        "probe_r2": 0.1235,
    }
    assert headlines(replace(comparison, summary=short))["good"]["probe_r2"] is None


def written(comparison: Comparison, folder: Path) -> Path:
    folder.mkdir()
    comparison.summary.to_csv(folder / "summary.csv", index=False)
    write_json(folder / RESULT, result_of(comparison))
    return folder


def test_result_names_the_winner_and_what_to_do_next(comparison: Comparison, tmp_path: Path) -> None:
    lines = "\n".join(result_lines(written(comparison, tmp_path / "comparison")))
    assert "task · small · seed 0" in lines
    assert re.search(r"good +90\.0\* +85\.0 to 95\.0 +91\.0 +90\.0 +0\.1000\* +0\.900", lines)
    assert "good earned most" in lines
    assert "dreamset finetune objective=good" in lines
    assert "report.html" in lines


def test_exploited_model_is_answered_with_pessimism(comparison: Comparison, tmp_path: Path) -> None:
    exploited = replace(comparison, summary=rows(good={"imagined_return": 200.0}))
    lines = "\n".join(result_lines(written(exploited, tmp_path / "comparison")))
    assert "reward=mean_disagreement" in lines
    assert "dreamset finetune" not in lines


def test_missing_comparison_says_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no result yet; run `dvc repro` first"):
        result_lines(tmp_path)


def test_text_between_backticks_is_code() -> None:
    assert listing(["try `a=<b>` now"]) == "<ul><li>try <code>a=&lt;b&gt;</code> now</li></ul>"


def test_reward_error_is_that_of_the_longest_usual_horizon(comparison: Comparison, tmp_path: Path) -> None:
    assert comparison.reward_error == "reward_error_h15"
    short = rows().rename(columns={"reward_error_h15": "reward_error_h5"})
    tiny = replace(comparison, summary=short.assign(reward_error_h15=NAN))
    assert tiny.reward_error == "reward_error_h5"
    assert "reward error +5" in comparison_page(tiny, tmp_path / "runs/comparison/report.html")
    assert "reward error +5" in "\n".join(result_lines(written(tiny, tmp_path / "comparison")))


def test_facts_about_the_data_are_on_the_page(comparison: Comparison, tmp_path: Path) -> None:
    page = comparison_page(replace(comparison, data=[("episodes", "7 <b>")]), tmp_path / "runs/comparison/report.html")
    assert '<th scope="row">episodes</th><td>7 &lt;b&gt;</td>' in page


def test_stage_ends_with_the_winner_and_where_to_look(comparison: Comparison, tmp_path: Path) -> None:
    first, second = short_lines(written(comparison, tmp_path / "comparison"))
    assert first.startswith("task · small · seed 0: good earned most: 90.0")
    assert str(tmp_path / "comparison/report.html") in second


def test_loser_that_is_exploited_does_not_change_what_to_do_with_the_winner(
    comparison: Comparison, tmp_path: Path
) -> None:
    exploited = replace(comparison, summary=rows(bad={"imagined_return": 90.0}))
    assert "dreamset finetune objective=good" in "\n".join(result_lines(written(exploited, tmp_path / "comparison")))
