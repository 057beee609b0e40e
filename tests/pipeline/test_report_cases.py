"""The stage compare over results of many kinds: equal bytes, missing parts, many objectives, and readable colours."""

import base64
import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pandas as pd
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from rich.console import Console

from dreamset.pipeline import cli
from dreamset.pipeline.evaluation.calibration import NO_ENDS, NO_SPREAD
from dreamset.pipeline.files import read_json
from dreamset.pipeline.report import comparison_figure, origin, videos
from dreamset.pipeline.report.calibration import NOT_MEASURED, Calibration, Coverage, Ends
from dreamset.pipeline.report.comparison import error_horizons, reward_error_of
from dreamset.pipeline.report.result import result_shown
from dreamset.pipeline.stages import compare
from dreamset.pipeline.stages.compare import comparison_of, read_runs
from dreamset.pipeline.stages.settings import Compare
from dreamset.pipeline.tracking.labels import Labels
from tests.pipeline.comparisons import Case
from tests.pipeline.test_report_page import check

DRAW = comparison_figure.draw
PAGE = Path(__file__).parents[2] / "pipeline/report/page"
MANY = [f"objective_{number}" for number in range(12)]


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DREAMSET_TRACKING", "off")
    monkeypatch.setattr("dreamset.pipeline.report.comparison_figure.draw", lambda *_, **__: None)  # has its own tests


def page_of(case: Case, folder: Path) -> str:
    return (case.compare(folder) / "report.html").read_text(encoding="utf-8")


class PageText(HTMLParser):
    """The text of a page, a line for each piece."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self.feed(re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL))

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)


def text_of(page: str) -> str:
    return "\n".join(PageText(page).pieces)


RUN = """\
import sys
from pathlib import Path
from dreamset.pipeline.stages import compare
from tests.pipeline.comparisons import Case
Case(objectives=["one", "two", "three"], seeds=[0, 1], ends=True).compare(Path.cwd())
"""


@pytest.mark.slow
def test_equal_results_give_equal_bytes_whatever_the_order_of_hashes(tmp_path: Path, root: Path) -> None:
    contents = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        folder.mkdir()
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": str(root), "DREAMSET_TRACKING": "off", "PATH": "/usr/bin"}
        subprocess.run([sys.executable, "-c", RUN], cwd=folder, env=environment, check=True, capture_output=True)
        files = sorted(path for path in (folder / "runs/comparison").rglob("*") if path.is_file())
        contents.append({path.relative_to(folder): path.read_bytes() for path in files})
    assert len(contents[0]) >= 11
    assert contents[0] == contents[1]


def test_page_is_the_same_on_another_day_and_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = []
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        monkeypatch.setattr("time.time", lambda number=number: 1e9 * number)
        pages.append(page_of(Case(ends=True), folder))
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    "case",
    [
        Case(objectives=["alone"]),
        Case(seeds=[0, 1, 2], horizons=[2, 4, 8, 16, 32]),
        Case(without_policy=["bad"], privileged=False),
        Case(without_policy=["good", "bad"], calibration=False, references={"low": None, "high": None}),
        Case(objectives=MANY, seeds=[0, 1], ends=True),
    ],
    ids=["alone", "seeds", "one policy", "no policy", "twelve"],
)
def test_page_has_every_objective_and_no_empty_or_infinite_figure(case: Case, tmp_path: Path) -> None:
    page = page_of(case, tmp_path)
    checked = check(page)
    assert (checked.wrong, checked.open) == ([], [])
    text = text_of(page)
    assert all(objective in text for objective in case.objectives)
    assert not re.search(r"\b(nan|inf|None)\b", text)
    assert not re.search(r'="[^"]*(nan|inf)[ ,"]', page)


def test_objective_without_a_policy_is_compared_by_its_model_and_named(tmp_path: Path) -> None:
    folder = Case(without_policy=["bad"], seeds=[0, 1]).compare(tmp_path)
    summary = pd.read_csv(folder / "summary.csv").set_index("objective")
    assert np.isnan(summary.loc["bad", "return_iqm"])
    assert summary.loc["bad", "reward_error_h5"] > 0
    result = read_json(folder / "result.json", made_by="the test")
    assert "bad: no policy was evaluated" in " ".join(result["caveats"])
    assert result["winner"].startswith("good earned")
    assert json.loads((folder / "metrics/bad.json").read_text())["return_iqm"] is None


def test_seed_without_an_evaluation_is_told(tmp_path: Path) -> None:
    Case(seeds=[0, 1]).write(tmp_path)
    case = Case(seeds=[0, 1], without_policy=["bad"])
    shutil.rmtree(tmp_path / "runs/evaluation/bad-1")
    settings = case.write(tmp_path)
    compare.run(settings)
    result = read_json(tmp_path / "runs/comparison/result.json", made_by="the test")
    assert "bad: fewer than 2 seeds were evaluated" in " ".join(result["caveats"])


def test_every_recorded_horizon_is_in_the_tables(tmp_path: Path) -> None:
    folder = Case(horizons=[2, 4, 8, 16, 32]).compare(tmp_path)
    summary = pd.read_csv(folder / "summary.csv")
    assert error_horizons(summary) == [2, 4, 8, 16, 32]
    assert reward_error_of(summary) == "reward_error_h8"  # the longest that a policy looks ahead
    assert "reward error +2 / +4 / +8 / +16 / +32" in (folder / "comparison.md").read_text()
    assert "reward error +8" in (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("horizons", "expected"), [([1, 5, 15, 45], 15), ([3], 3), ([20, 40], 20), ([], 15), ([1, 14, 16], 14)]
)
def test_objectives_are_compared_at_the_longest_horizon_that_policies_use(horizons: list[int], expected: int) -> None:
    summary = pd.DataFrame({f"reward_error_h{horizon}": [0.1] for horizon in horizons} | {"objective": ["one"]})
    assert reward_error_of(summary) == f"reward_error_h{expected}"


def test_rules_say_their_thresholds_and_to_whom_they_apply(tmp_path: Path) -> None:
    text = text_of(page_of(Case(), tmp_path))  # the second objective imagines 60 more than it earns, of 100
    rule = re.search(r"exploited model\n(.+)\n(.+)\n", text)
    assert rule
    assert rule.groups() == (
        "imagined return more than 20 % of the distance of the two reference policies (20) above the real one",
        "bad",
    )
    assert "KL below 0.1 nats per step" in text
    assert "fewer than 60 % of the true rewards in the interval that should hold 80 %, 15 steps ahead" in text


def test_advice_for_several_objectives_is_given_once(tmp_path: Path) -> None:
    hints = read_json(Case(objectives=MANY).compare(tmp_path) / "result.json", made_by="the test")["hints"]
    (overconfident,) = (hint for hint in hints if "should hold 80 %" in hint)
    assert overconfident.count("objective_") > 1
    assert overconfident.count("An ensemble measures") == 1


def test_model_that_cannot_say_has_a_dash_and_a_reason(tmp_path: Path) -> None:
    text = text_of(page_of(Case(objectives=["a", "b", "c", "d", "deterministic"]), tmp_path))
    assert re.search(r"deterministic\n-\n-\n-\n", text)
    assert f"deterministic: {NO_SPREAD}." in text
    assert f"a, b, c, d, deterministic: {NO_ENDS}." in text


def test_data_without_true_ends_have_no_curve_of_ends_and_a_reason(tmp_path: Path) -> None:
    case = Case(objectives=["good"], ends=True)
    assert "Do episodes end as predicted?" in page_of(case, tmp_path)
    settings = case.write(tmp_path)
    path = tmp_path / "runs/world_model/good-0/calibration.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"ends": record["ends"] | {"ends": 0}}))
    compare.run(settings)
    page = (tmp_path / "runs/comparison/report.html").read_text(encoding="utf-8")
    assert "Do episodes end as predicted?" not in page
    assert "good: no held-out episode truly ends" in text_of(page)


def test_calibration_of_seeds_is_averaged(tmp_path: Path) -> None:
    def record(covered: float, brier: float, bins: list[tuple[float, float, int]]) -> dict[str, object]:
        rows = sum(count for *_, count in bins)
        listed = [{"predicted": p, "seen": s, "rows": n} for p, s, n in bins]
        ends = {"rows": rows, "ends": 3, "brier": brier, "brier_of_rate": 0.2, "bins": listed}
        return {"reward": {"levels": [0.5], "rows": 10, "covered": {"15": [covered]}}, "ends": ends}

    records = [record(0.4, 0.1, [(0.02, 0.0, 30)]), record(0.6, 0.3, [(0.06, 0.1, 10), (0.95, 1.0, 50)])]
    folders = [tmp_path / str(number) for number in range(3)]  # the last one has no record
    for folder, content in zip(folders, records, strict=False):
        folder.mkdir()
        (folder / "calibration.json").write_text(json.dumps(content))
    read = Calibration.read(folders)
    assert isinstance(read.reward, Coverage)
    assert (read.reward.at(15, 0.5), read.reward.rows, read.reward.at(5, 0.5)) == (pytest.approx(0.5), 20, None)
    assert isinstance(read.ends, Ends)
    assert (read.ends.brier, read.ends.ends) == (pytest.approx((30 * 0.1 + 60 * 0.3) / 90), 6)
    assert read.ends.bins == [(pytest.approx(0.03), pytest.approx(0.025), 40), (0.95, 1.0, 50)]
    assert Calibration.read(folders[2:]) == Calibration(NOT_MEASURED, NOT_MEASURED)


def test_page_says_how_to_make_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origin.place, "commit", lambda: {"commit": "a1b2c3", "dirty": "true"})
    labels = Labels({"preset": "small"}, ["imagination.horizon=10", "seed=it's"])
    *_, repeat, results = origin.commands("task", labels, ["one", "two"], [0, 1])
    assert (
        repeat == "dvc exp run -S preset=small -S dataset=task -S 'objectives=[one,two]' -S 'seeds=[0,1]' "
        """-S 'overrides=["imagination.horizon=10", "seed=it'"'"'s"]'"""
    )
    assert results == "dreamset results"
    Path("params.yaml").write_text("overrides: {imagination.horizon: 10}")  # DVC refuses a list then
    repeat = origin.commands("task", Labels({}, ["imagination.horizon=10"]), ["one"], [0])[-2]
    assert repeat.endswith("-S '+overrides={imagination.horizon: 10}'")
    text = text_of(page_of(Case(), tmp_path))
    assert "git checkout a1b2c3" in text
    assert "c0dec0dec0de: digest of the code" in text
    assert "d1e5d1e5d1e5: digest of the store" in text
    assert "good-0 (key-good-0)" in text


def test_commands_of_the_page_are_overrides_that_dvc_reads() -> None:
    command = origin.commands("task", Labels({}, ["a.b=[1,2]"]), ["one", "two"], [0, 1])[-2]
    chosen = [word for word in shlex.split(command) if "=" in word]
    values = {one.key_or_group: one.value() for one in OverridesParser.create().parse_overrides(chosen)}
    assert values["objectives"] == ["one", "two"]
    assert values["seeds"] == [0, 1]
    assert [str(value).strip('"') for value in values["overrides"]] == ["a.b=[1,2]"]


def test_video_has_a_still_for_print(tmp_path: Path) -> None:
    case = Case(objectives=["good"])
    case.write(tmp_path)
    frames = np.zeros((6, 32, 32, 3), np.uint8)
    frames[3] = 255
    (tmp_path / "runs/evaluation/good-0/media").mkdir()
    videos.write_video(tmp_path / "runs/evaluation/good-0/media/episodes.mp4", frames)
    page = page_of(case, tmp_path)
    (still,) = re.findall(r'<img class="print" src="data:image/png;base64,([^"]+)"', page)
    assert iio.imread(base64.b64decode(still)).mean() > 200  # the frame in the middle


def test_results_for_programs_have_plain_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Case(without_policy=["bad"]).compare(tmp_path)
    cli.main(["results", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result["best"] == "good"
    good, bad = result["objectives"]
    assert good["return_iqm_low"] <= good["return_iqm"] <= good["return_iqm_high"]
    assert (bad["objective"], bad["return_iqm"]) == ("bad", None)
    assert result["report"] == "runs/comparison/report.html"


def test_results_in_a_terminal_and_on_the_page_have_the_same_words(tmp_path: Path) -> None:
    folder = Case().compare(tmp_path)
    console = Console(width=90, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(result_shown(folder))
    lines = console.export_text()
    shown = " ".join(lines.split())
    text = text_of((folder / "report.html").read_text(encoding="utf-8"))
    for label in ("return (IQM)", "95 % interval", "imagined return", "reward error +15", "probe R²"):
        assert label in text
        assert all(word in shown for word in label.split())
    good = next(line for line in lines.splitlines() if line.strip().startswith("good "))
    assert re.fullmatch(r"\s*good +\d+\.\d\* +\d+\.\d to \d+\.\d +\d+\.\d +\d+\.\d +0\.\d{4}\* +0\.900\* *", good)
    winner = read_json(folder / "result.json", made_by="the test")["winner"]
    assert winner in text
    assert winner.split(":")[0] in shown
    assert shown.count("*") >= 3


def test_numbers_of_results_are_aligned_to_the_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Case(objectives=["good", "bad"]).compare(tmp_path)
    cli.main(["results"])
    lines = capsys.readouterr().out.splitlines()
    good, bad = (next(line for line in lines if line.startswith(f"  {name}")) for name in ("good", "bad"))
    ends = [[match.end() for match in re.finditer(r"\d\.\d{4}", line)] for line in (good, bad)]
    assert ends[0] == ends[1] != []


def ticks_out_of_view(figure: Figure) -> set[Text]:
    """The labels of ticks that Matplotlib keeps beyond the ends of an axis and does not draw."""
    axes = [axis for one in figure.axes for axis in (one.xaxis, one.yaxis)]
    every = {tick.label1 for axis in axes for tick in (*axis.majorTicks, *axis.minorTicks)}
    return every - {tick.label1 for axis in axes for tick in axis._update_ticks()}


@pytest.mark.parametrize(
    "case",
    [
        Case(),
        Case(objectives=MANY[:8], seeds=[0, 1, 2]),
        Case(objectives=MANY, horizons=[1, 2, 3, 5, 8, 10, 20, 45, 50]),
    ],
    ids=["two", "eight", "twelve"],
)
def test_no_text_of_the_figure_is_cut_off_or_over_another(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(comparison_figure, "save_figure", lambda figure, _: drawn.append(figure))
    long = Case(**vars(case) | {"objectives": [f"{name}_with_a_long_name_of_mine" for name in case.objectives]})
    settings = Compare.of(**long.write(tmp_path))
    DRAW(comparison_of(settings, read_runs(settings)), tmp_path / "figure.png")
    (figure,) = drawn
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    hidden = ticks_out_of_view(figure)
    found = [text for text in figure.findobj(Text) if text.get_text().strip() and text not in hidden]
    texts = [text for text in found if text.get_window_extent(renderer).width > 1]  # others are never drawn
    boxes = [text.get_window_extent(renderer) for text in texts]
    width, height = figure.bbox.width, figure.bbox.height
    assert len(boxes) > 25
    for text, box in zip(texts, boxes, strict=True):
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
        assert inside, text.get_text()
    for number, box in enumerate(boxes):
        covered = [texts[other].get_text() for other in range(number) if box.shrunk(0.9, 0.7).overlaps(boxes[other])]
        assert covered == [], texts[number].get_text()


def variables(theme: str) -> dict[str, str]:
    """The colours of a theme; those that the dark theme does not set are the light ones."""
    css = (PAGE / "page.css").read_text()
    light, dark = (
        dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", part)) for part in re.findall(r":root \{(.*?)\}", css, re.S)
    )
    return light if theme == "light" else light | dark


def contrast(one: str, other: str) -> float:
    """The ratio of the Web Content Accessibility Guidelines 2.2."""

    def luminance(color: str) -> float:
        channels = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


GRAPHICS = re.compile(r"\.s\d|\.guide|\.key|\.band|\.curve|\.mark|\.point|\.here|\.axis|\.reference")


def colors_of_text() -> set[str]:
    """The variables that page.css uses as colours of text."""
    css = re.sub(r":root \{.*?\}", "", (PAGE / "page.css").read_text(), flags=re.S)
    rules = re.findall(r"([^{}]+)\{([^{}]*)\}", css)
    declared = [value for selector, body in rules if not GRAPHICS.search(selector) for value in COLOR.findall(body)]
    assert all(value.startswith("var(--") for value in declared)
    return {value.removeprefix("var(--").rstrip(")") for value in declared}


COLOR = re.compile(r"(?:^|[;\s])(?:color|fill):\s*([^;\s]+)")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_the_contrast_that_readers_need(theme: str) -> None:
    colors = variables(theme)
    used = colors_of_text()
    assert {"ink", "soft", "link"} <= used
    ratios = {(text, paper): contrast(colors[text], colors[paper]) for text in used for paper in ("paper", "panel")}
    assert {pair: ratio for pair, ratio in ratios.items() if ratio < 4.5} == {}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_series_have_the_contrast_that_marks_need(theme: str) -> None:
    colors = variables(theme)
    ratios = {f"s{n}": contrast(colors[f"s{n}"], colors["paper"]) for n in range(7)}
    assert {name: ratio for name, ratio in ratios.items() if ratio < 3} == {}


def test_contrast_of_black_on_white_is_21() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


def test_print_hides_what_paper_cannot_do() -> None:
    css = (PAGE / "page.css").read_text()
    printed = css[css.index("@media print") :]
    assert re.search(r"video, button[^{]*\{ display: none; \}", printed)
    assert "img.print { display: block; }" in printed


def test_charts_can_be_read_without_a_mouse_and_without_a_script(tmp_path: Path) -> None:
    page = page_of(Case(), tmp_path)
    charts = re.findall(r"<svg viewBox[^>]*role=\"img\"[^>]*>", page)
    assert len(charts) >= 6
    assert all('tabindex="0"' in chart and "aria-label=" in chart for chart in charts)
    assert page.count("<summary>Numbers</summary>") == len(charts)


def test_case_of_two_commits_differs_only_in_the_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = []
    for commit in ("1111111", "2222222"):
        monkeypatch.setattr(origin.place, "commit", lambda commit=commit: {"commit": commit})
        pages.append(page_of(replace(Case(), seeds=[0]), tmp_path))
    assert pages[0] != pages[1]
    assert pages[0].replace("1111111", "2222222") == pages[1]


def test_every_term_of_the_reward_has_a_line_a_column_and_a_curve(tmp_path: Path) -> None:
    case = Case(seeds=(0, 1), terms={"reward": 0.5, "irreversibility": -0.0125, "of_the_user": 0.25})
    page = page_of(case, tmp_path)
    text = PageText(page).pieces
    for words in ("imagined reward", "irreversibility", "imagined of_the_user"):
        assert words in text
    assert "Policy: irreversibility per step" in page
    assert "Policy: imagined of_the_user per step" in page
    markdown = (tmp_path / "runs/comparison/comparison.md").read_text()
    assert "- irreversibility: good -0.0125, bad -0.0250" in markdown
    summary = pd.read_csv(tmp_path / "runs/comparison/summary.csv")
    assert summary["imagination/of_the_user"].tolist() == [0.25, 0.5]


def test_a_reward_of_one_term_has_no_section_of_terms(tmp_path: Path) -> None:
    page = page_of(Case(terms={"reward": 0.5}), tmp_path)
    assert "Terms of the reward" not in page
    assert "Terms of the reward" not in (tmp_path / "runs/comparison/comparison.md").read_text()
