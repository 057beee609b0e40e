"""Progress in a log file and in a terminal, and what a stage announces."""

import io
import re
import sys
import time
from pathlib import Path

import pytest

from dreamset.pipeline import progress as module
from dreamset.pipeline.commands.announcement import announced
from dreamset.pipeline.progress import QUIET, counter, placed, progress, show_figures
from dreamset.pipeline.report.words import duration
from dreamset.pipeline.stages.resolve import read_place, run
from dreamset.pipeline.stages.table import STAGES
from dreamset.pipeline.tracking.labels import Labels

SETTINGS = {
    "dataset": "robot",
    "seed": 3,
    "store": "data/stores/robot",
    "world_model": {"_target_": "x"},
    "output": "runs/world_model/reconstruction-3",
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_log_file_gets_whole_lines_and_no_more_than_one_per_interval(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "LOG_SECONDS", 0.05)
    began = time.monotonic()
    with progress(range(0), description="train", total=2000, unit="update") as bar:
        for _ in range(2000):
            bar.update()
            time.sleep(0.0001)
    output, intervals = capsys.readouterr().err, (time.monotonic() - began) / 0.05
    lines = output.splitlines()
    assert "\r" not in output
    assert 2 <= len(lines) <= intervals + 1
    assert all(re.fullmatch(r"train: \d+ of 2000 updates \(\d+%\), [\d:?]+ left, .*update/s", line) for line in lines)
    assert lines[-1].startswith("train: 2000 of 2000 updates (100%)")


def test_loop_without_total_shows_count_and_speed(capsys: pytest.CaptureFixture[str]) -> None:
    with counter(description="evaluate", unit="step") as count:
        for _ in range(3):
            count()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("evaluate: 3 steps, 00:00 so far, ")


def test_figures_have_the_labels_and_digits_of_the_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(range(0), description="train", total=1) as bar:
        bar.update()
        show_figures(bar, {"validation/kl": 1.23456, "validation/reward_error_h0": 0.5})
    assert capsys.readouterr().err.rstrip().endswith("KL 1.23; reward error, filtered 0.5000")


def test_place_in_the_pipeline_precedes_each_description(capsys: pytest.CaptureFixture[str]) -> None:
    with placed("[2/9] "), progress(range(0), description="train", total=1) as bar:
        bar.update()
    assert capsys.readouterr().err.startswith("[2/9] train: 1 of 1 ")


def test_quiet_command_shows_neither_progress_nor_announcement(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(QUIET, "1")
    with announced(STAGES["train_world_model"], SETTINGS, Labels(), (1, 2)), counter(description="train") as count:
        count()
    assert capsys.readouterr().err == ""


def test_log_announces_a_stage_in_one_line_and_its_end_in_another(capsys: pytest.CaptureFixture[str]) -> None:
    labels = Labels({"dataset": "robot", "preset": "tiny", "objective": "mine"}, ["behavior.horizon=3", "seed=3"])
    with announced(STAGES["train_world_model"], SETTINGS, labels, (3, 11)):
        pass
    first, last = capsys.readouterr().err.splitlines()
    assert first == (
        "[3/11] train-world-model: robot, tiny, mine, seed 3, behavior.horizon=3; reads data/stores/robot, "
        "writes runs/world_model/reconstruction-3"
    )
    assert last == "[3/11] train-world-model: finished in 0 s; results: runs/world_model/reconstruction-3"


def test_failed_stage_is_not_reported_as_finished(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError), announced(STAGES["train_world_model"], SETTINGS, Labels(), None):
        raise RuntimeError
    assert "finished" not in capsys.readouterr().err


@pytest.mark.parametrize("columns", [60, 120])
def test_announcement_in_a_terminal_fits_its_width(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with announced(STAGES["train_world_model"], {**SETTINGS, "store": "data/" + "x" * 100}, Labels(), (3, 11)):
        pass
    lines = re.sub(r"\x1b\[[\d;]*m", "", terminal.getvalue()).splitlines()[:-1]
    assert lines[0].startswith("[3/11] train-world-model ─")
    assert max(map(len, lines)) <= columns
    assert "x" * 100 in "".join(line.strip() for line in lines)


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (7260, "2 h 1 min")])
def test_duration_has_two_units_at_most(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_places_of_resolved_files_are_in_the_order_of_the_stages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(
        "{preset: tiny, dataset: pendulum_state, objectives: [reward_only, reconstruction], seeds: [0, 1], "
        "finetune: [], overrides: []}"
    )
    run(Path("params.yaml"), Path("resolved"))
    places = {name: read_place(Path("resolved") / name) for name in ("collect.yaml", "ingest.yaml", "compare.yaml")}
    assert places == {"collect.yaml": (1, 15), "ingest.yaml": (2, 15), "compare.yaml": (15, 15)}
    keys = ("reward_only-0", "reward_only-1", "reconstruction-0", "reconstruction-1")
    trained = [read_place(Path(f"resolved/train_world_model/{key}.yaml")) for key in keys]
    assert trained == [(number, 15) for number in (3, 4, 5, 6)]
    assert read_place(Path("elsewhere.yaml")) is None
