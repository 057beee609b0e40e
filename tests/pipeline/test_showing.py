"""What only shows results never costs them: a stage whose drawing fails still ends well, with all its results."""

import json
import logging
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pandas as pd
import pytest

from dreamset.core.files import write_text
from dreamset.pipeline import cli
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.evaluation.open_loop import OpenLoopPrediction
from dreamset.pipeline.report import comparison_figure, dataset_figures, online_figure, open_loop_figures, videos
from dreamset.pipeline.report.showing import shown, write_blank
from dreamset.pipeline.stages import compare
from dreamset.pipeline.stages import table as stages
from dreamset.pipeline.tracking import reporting
from tests.pipeline.conftest import TINY

KEY = "reconstruction-0"


@dataclass(frozen=True, slots=True)
class Project:
    """A folder in which every stage has run although nothing could be drawn, and the warnings of each stage."""

    folder: Path
    warnings: dict[str, list[str]]


def broken(*_: object, **__: object) -> None:
    raise RuntimeError("planted")


@pytest.fixture(scope="module")
def project(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("undrawn")
    shutil.copytree(tiny_data / "data/recordings", folder / "data/recordings")
    records: list[logging.LogRecord] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = records.append  # type: ignore[method-assign]
    logging.getLogger("dreamset").addHandler(handler)
    done = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DREAMSET_TRACKING", "off")
        for module in (comparison_figure, dataset_figures, online_figure, open_loop_figures):
            patch.setattr(module, "save_figure", broken)
        patch.setattr(videos, "write_video", broken)
        for stage in ("ingest", "train_world_model", "learn_behavior", "evaluate", "finetune"):
            cli.main([stage.replace("_", "-"), *TINY])
            done[stage] = [record.getMessage() for record in records]
            records.clear()
        compare.run(stages.compare(compose(TINY), ["reconstruction"], [0]))
        done["compare"] = [record.getMessage() for record in records]
    logging.getLogger("dreamset").removeHandler(handler)
    return Project(folder, done)


@pytest.mark.parametrize(
    ("stage", "results", "undrawn"),
    [
        (
            "ingest",
            ["data/stores/pendulum_state", "data/cards/pendulum_state/card.md", "data/cards/pendulum_state/card.html"],
            ["returns.png", "lengths.png", "rewards.png", "actions.png"],
        ),
        (
            "train_world_model",
            [f"runs/world_model/{KEY}/{name}" for name in ("model/model.json", "metrics.json", "media")],
            ["media/open_loop_state.png"],
        ),
        ("evaluate", [f"runs/evaluation/{KEY}/{name}" for name in ("metrics.json", "media")], ["media/episodes.mp4"]),
        (
            "finetune",
            [f"runs/finetune/{KEY}/{name}" for name in ("policy/model.json", "metrics.json", "curve.png", "media")],
            ["curve.png", "media/episodes.mp4"],
        ),
        (
            "compare",
            ["runs/comparison/comparison.md", "runs/comparison/comparison.png"],
            ["comparison.png", "comparison_dark.png"],
        ),
    ],
)
def test_a_stage_that_cannot_draw_has_its_results_and_warns(
    project: Project, stage: str, results: list[str], undrawn: list[str]
) -> None:
    assert [name for name in results if not (project.folder / name).exists()] == []
    warned = [text for text in project.warnings[stage] if "RuntimeError: planted" in text]
    assert len(warned) == len(undrawn)
    assert all(name in text for name, text in zip(undrawn, warned, strict=True))
    assert not any("\n" in text for text in warned)
    assert not list(project.folder.glob(".checkpoints/*"))


def test_an_image_that_cannot_be_drawn_leaves_a_readable_blank(tmp_path: Path) -> None:
    write_blank(tmp_path / "curve.png")
    assert iio.imread(tmp_path / "curve.png").shape[:2] == (1, 1)


def test_an_open_loop_video_that_fails_costs_no_other_drawing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    frames, vectors = np.zeros((2, 8, 16, 16, 3), np.float32), np.zeros((2, 8, 3), np.float32)
    recorded = {"image": frames, "state": vectors}
    monkeypatch.setattr(videos, "write_video", broken)
    OpenLoopPrediction(recorded, recorded, context=3).save(tmp_path, title="any", episodes=["episode 0"])
    assert {path.name for path in tmp_path.iterdir()} == {"open_loop_image.png", "open_loop_state.png"}
    assert [record.getMessage().partition(" ")[0] for record in caplog.records] == [
        str(tmp_path / "open_loop_image.mp4")
    ]


def test_a_prediction_that_fails_after_the_training_costs_no_model(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("dreamset.pipeline.stages.train_world_model.open_loop_prediction", broken)
    cli.main(["train-world-model", *TINY])
    output = workspace / f"runs/world_model/{KEY}"
    assert (output / "model/model.safetensors").exists()
    metrics = json.loads((output / "metrics.json").read_text())
    assert "validation/open_loop_mse" not in metrics
    assert "validation/kl" in metrics
    assert "the open-loop prediction is left out" in caplog.text


def test_an_interruption_ends_a_drawing_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), shown("a video"):
        raise KeyboardInterrupt


def test_the_traceback_of_a_failed_drawing_is_in_the_debug_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), shown("a video"):
        broken()
    assert [(record.levelname, record.exc_info is not None) for record in caplog.records] == [
        ("WARNING", False),
        ("DEBUG", True),
    ]


def test_a_folder_that_cannot_be_copied_for_tracking_costs_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DREAMSET_TRACKING", "background")
    monkeypatch.setattr(reporting, "send_in_background", lambda: Path("gone").stat())
    write_text(tmp_path / "kept.txt", "kept")
    with reporting.stage_run("any") as run:
        run.artifacts(tmp_path / "missing", tmp_path / "kept.txt")
        run.metrics({"loss": float("nan"), "error": 1.0})
    assert "missing is not recorded" in caplog.text
    assert "the reports stay in tracking/outbox, because it cannot be sent" in caplog.text
    (log_file,) = Path("tracking/outbox").glob("*.jsonl")
    lines = [json.loads(line) for line in log_file.read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["open", "artifact", "metrics", "finish"]
    assert lines[2]["values"] == {"error": 1.0}


def test_comparison_shows_a_missing_figure_as_a_dash(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.folder)
    path = Path(f"runs/world_model/{KEY}/metrics.json")
    metrics = json.loads(path.read_text())
    assert metrics["validation/probe_r2"] is not None
    path.write_text(json.dumps(metrics | {"validation/probe_r2": None, "validation/reward_error_h1": None}))
    compare.run(stages.compare(compose(TINY), ["reconstruction"], [0]))
    lines = Path("runs/comparison/comparison.md").read_text().splitlines()
    heads, cells = ([cell.strip() for cell in lines[row].strip("|").split("|")] for row in (2, 4))
    row = dict(zip(heads, cells, strict=True))
    assert row["objective"] == "reconstruction"
    assert row["probe $R^2$"] == "-"
    # the tiny preset has no horizon of 15, and that of 1 was measured for no objective
    assert re.fullmatch(r"\d+\.\d{4}", row["reward error +5"])
    assert np.isnan(pd.read_csv("runs/comparison/runs.csv")["validation/probe_r2"]).all()
    assert iio.imread("runs/comparison/comparison.png").shape[0] > 100
