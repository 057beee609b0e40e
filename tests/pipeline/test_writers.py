"""TensorBoard and Weights & Biases: what they show, each value once, and no effect of one receiver on another."""

import importlib.util
import logging
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from wandb.proto.wandb_internal_pb2 import Record

from dreamset.core.errors import UserError
from dreamset.pipeline import cli
from dreamset.pipeline.tracking import delivery, outbox, reporting, writers
from dreamset.pipeline.tracking.labels import Labels, labelled
from dreamset.pipeline.tracking.outbox import LogFile
from tests.pipeline.reported import LINEAGE, PRESET

BOTH = ("tensorboard", "wandb")
SECRET = "https://anna:s3cret@host/data"
RUN = "robot · contrastive · small · s3 · horizon=10"
LABELS = Labels(PRESET, ("behavior.horizon=10",))
KILLED_AT_THE_END = """
import os, signal, sys
from pathlib import Path
from dreamset.pipeline.tracking.writers import sending
class Killed(sending.Part):
    def flush_and_die(self, line):
        self.writer.flush()
        os.kill(os.getpid(), signal.SIGKILL)
sending.HANDLERS["finish"] = Killed.flush_and_die
from dreamset.pipeline.tracking import delivery
delivery.main([sys.argv[1], sys.argv[2]])
"""


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Stages write to the outbox only, and nobody has an account."""
    monkeypatch.setenv("DREAMSET_TRACKING", "background")
    monkeypatch.setenv("DREAMSET_SYSTEM_METRICS", "off")
    monkeypatch.setenv(writers.VARIABLE, "tensorboard, wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("WANDB_API_KEY", "WANDB_PROJECT", "WANDB_ENTITY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(reporting, "send_in_background", lambda: None)


def record(
    figures: Mapping[int, float], *, key: str = "k", resumed: bool = False, error: type[BaseException] | None = None
) -> None:
    """Runs a stage that reports a headline figure at some steps."""
    at = reporting.Place("train_world_model", key, LINEAGE, resumed=resumed)
    with suppress(BaseException), labelled(LABELS), reporting.stage_run("train_world_model", at=at) as run:
        run.parameters({"updates": 100, "source": SECRET}, on_row=True)
        for step, value in figures.items():
            run.headline({"validation/probe_r2": value}, step)
        if error is not None:
            raise error


def send(*names: str) -> None:
    for name in names:
        sender = delivery._receiver(name)
        delivery.deliver(reporting.OUTBOX, name, sender, live=False)
        sender.close()


def board(run: str = RUN) -> EventAccumulator:
    sizes = dict.fromkeys(("scalars", "images", "tensors"), 0)
    events = EventAccumulator(str(Path("tracking/tensorboard", run, "train_world_model")), size_guidance=sizes)
    return events.Reload()


def curve(run: str = RUN, name: str = "validation/probe_r2") -> list[tuple[int, float]]:
    return [(event.step, pytest.approx(event.value)) for event in board(run).Scalars(name)]


def wandb_records() -> list[Record]:
    """What the package wrote, in the order of the runs' folders: a log in the format of LevelDB after seven bytes."""

    def pieces(content: bytes) -> Iterator[tuple[int, bytes]]:
        position = 7
        while position + 7 <= len(content):
            if 32768 - position % 32768 < 7:  # no header begins at the end of a block
                position += 32768 - position % 32768
                continue
            length, kind = struct.unpack_from("<HB", content, position + 4)
            if kind == 0:
                return
            yield kind, content[position + 7 : position + 7 + length]
            position += 7 + length

    records, begun = [], b""
    for path in sorted(Path("tracking/wandb").glob("offline-run-*/*.wandb")):
        for kind, piece in pieces(path.read_bytes()):
            begun += piece
            if kind in (1, 4):  # a whole record, or its last piece
                records.append(Record.FromString(begun))
                begun = b""
    return records


def wandb_curve(name: str = "validation/probe_r2") -> list[tuple[int, float]]:
    """Steps and values of a figure, in the order of writing."""
    points = []
    for found in wandb_records():
        items = {"/".join(item.nested_key) or item.key: item.value_json for item in found.history.item}
        if name in items:
            points.append((int(items["step"]), pytest.approx(float(items[name]))))
    return points


def wandb_config(run: Any) -> dict[str, str]:
    return {item.key: item.value_json for item in run.config.update}


def test_tensorboard_shows_curve_headline_parameters_and_note_under_the_names_of_mlflow() -> None:
    record({0: 0.25, 10: 0.5})
    send("tensorboard")
    assert curve() == [(0, 0.25), (10, 0.5)]
    assert curve(name="comparison/probe_r2") == [(0, 0.25), (10, 0.5)]
    events = board()
    (note,) = events.Tensors("note")
    assert "probe R² **0.500**" in note.tensor_proto.string_val[0].decode()
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    session = HParamsPluginData.FromString(content).session_start_info
    assert session.group_name == f"{RUN.replace(' · s3', '')} · train_world_model"
    assert session.hparams["updates"].number_value == 100
    assert session.hparams["objective"].string_value == "contrastive"
    assert session.hparams["preset"].string_value == "small"


def test_wandb_shows_curve_config_and_note_and_groups_seeds() -> None:
    record({0: 0.25, 10: 0.5})
    send("wandb")
    assert wandb_curve() == [(0, 0.25), (10, 0.5)]
    assert wandb_curve("comparison/probe_r2") == wandb_curve()
    runs = [found.run for found in wandb_records() if found.HasField("run")]
    assert {run.display_name for run in runs} == {f"{RUN} · train_world_model"}
    assert {run.run_group for run in runs} == {RUN.replace(" · s3", "")}
    assert {run.job_type for run in runs} == {"train_world_model"}
    assert {run.project for run in runs} == {"dreamset"}
    assert set(runs[0].tags) == {"robot", "contrastive", "small", "dreamer_v2"}
    assert "probe R² **0.500**" in runs[-1].notes
    settings = {item.key: item.value_json for found in wandb_records() for item in found.config.update}
    assert (wandb_config(runs[0]) | settings)["updates"] == '"100"'
    assert (wandb_config(runs[0]) | settings)["seed"] == "3"


def test_images_and_videos_reach_both_writers(tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    imageio.imwrite(media / "plot.png", np.zeros((8, 12, 3), np.uint8))
    frames = np.repeat(np.arange(0, 250, 50, dtype=np.uint8), 32 * 48 * 3).reshape(5, 32, 48, 3)
    imageio.imwrite(media / "dream.mp4", frames, plugin="FFMPEG", fps=10)
    with labelled(LABELS), reporting.stage_run("evaluate", at=reporting.Place("evaluate", "e", LINEAGE)) as run:
        run.artifacts(media, folder="media/evaluation", on_row=True)
    send(*BOTH)
    events = EventAccumulator(str(Path("tracking/tensorboard", RUN, "evaluate"))).Reload()
    (plot,) = events.Images("media/evaluation/plot")
    assert (plot.width, plot.height) == (12, 8)
    (dream,) = events.Images("media/evaluation/dream")
    played = imageio.imread(dream.encoded_image_string, extension=".gif", index=None)
    assert played.shape[:3] == (5, 32, 48)
    kept = {path.suffix for path in Path("tracking/wandb").rglob("files/media/**/*") if path.is_file()}
    assert kept == {".png", ".mp4"}


def test_broken_image_costs_a_warning_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "plot.png").write_bytes(b"no image")
    with reporting.stage_run("broken") as run:
        run.artifacts(tmp_path / "plot.png")
        run.metrics({"after": 1.0})
    send(*BOTH)
    assert len([line for line in caplog.messages if "artifact is not written: plot.png" in line]) == 2
    events = EventAccumulator(str(Path("tracking/tensorboard/dreamset-stages/broken"))).Reload()
    assert [event.value for event in events.Scalars("after")] == [1.0]
    assert [value for _, value in wandb_curve("after")] == [1.0]


@pytest.mark.parametrize("name", BOTH)
def test_killed_delivery_is_repeated_without_doubles(name: str) -> None:
    record({0: 0.25, 10: 0.5, 20: 0.75})
    command = [sys.executable, "-P", "-c", KILLED_AT_THE_END, str(reporting.OUTBOX), name]
    own = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}  # not that of this process
    assert subprocess.run(command, timeout=120, check=False, env=own).returncode == -signal.SIGKILL
    assert list(reporting.OUTBOX.glob("*.jsonl"))
    send(name)
    assert (curve() if name == "tensorboard" else wandb_curve()) == [(0, 0.25), (10, 0.5), (20, 0.75)]
    send(name)
    assert (curve() if name == "tensorboard" else wandb_curve()) == [(0, 0.25), (10, 0.5), (20, 0.75)]


@pytest.mark.parametrize("name", BOTH)
def test_resumed_stage_goes_on_with_the_curve_of_the_interrupted_one(name: str) -> None:
    record({0: 0.25, 10: 0.5}, error=KeyboardInterrupt)
    record({10: 0.5, 20: 0.75}, resumed=True)  # from a checkpoint before step 10
    send(name)
    assert (curve() if name == "tensorboard" else wandb_curve()) == [(0, 0.25), (10, 0.5), (20, 0.75)]
    if name == "wandb":
        assert len({found.run.run_id for found in wandb_records() if found.HasField("run")}) == 1


def test_stage_that_is_run_again_from_scratch_has_a_run_of_its_own() -> None:
    record({0: 0.25})
    record({0: 0.5})
    send(*BOTH)
    assert (curve(), curve(f"{RUN} (2)")) == ([(0, 0.25)], [(0, 0.5)])
    assert {found.run.display_name for found in wandb_records() if found.HasField("run")} == {
        f"{RUN} · train_world_model",
        f"{RUN} (2) · train_world_model",
    }


def test_curve_is_readable_while_the_stage_runs() -> None:
    at, sender = reporting.Place("train_world_model", "k", LINEAGE), delivery._receiver("tensorboard")
    with labelled(LABELS), reporting.stage_run("train_world_model", at=at) as run:
        run.headline({"validation/probe_r2": 0.25}, 0)
        assert delivery.deliver(reporting.OUTBOX, "tensorboard", sender, live=True)
        assert curve() == [(0, 0.25)]
        run.headline({"validation/probe_r2": 0.5}, 10)
    assert not delivery.deliver(reporting.OUTBOX, "tensorboard", sender, live=True)
    assert curve() == [(0, 0.25), (10, 0.5)]


def test_writer_without_an_account_holds_back_none_of_the_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DREAMSET_TRACKING", "foreground")
    monkeypatch.setenv("WANDB_MODE", "online")
    record({0: 0.25})
    assert curve() == [(0, 0.25)]
    (path,) = reporting.OUTBOX.glob("*.jsonl")
    assert not LogFile(path).awaits(outbox.MLFLOW)
    assert not LogFile(path).awaits("tensorboard")
    (warning,) = [line for line in caplog.messages if "not sent yet" in line]
    assert "1 run(s) in tracking/outbox are not sent yet (No API key configured" in warning
    assert warning.endswith("the next stage sends them")
    path.write_text(path.read_text().replace('"online"', '"offline"'))
    delivery.deliver_all(reporting.OUTBOX)
    assert wandb_curve() == curve() == [(0, 0.25)]
    assert {file.suffix for file in reporting.OUTBOX.iterdir()} <= {".lock"}


def test_missing_package_is_one_line_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(writers.VARIABLE, "wandb")
    with monkeypatch.context() as without:
        without.setattr(writers, "find_spec", lambda _: None)
        record({0: 0.25})
        send("wandb")
    (warning,) = [message for message in caplog.messages if "pip install 'dreamset[wandb]'" in message]
    assert warning.startswith("tracking: wandb is not installed; its reports wait until you run ")
    send("wandb")
    assert wandb_curve() == [(0, 0.25)]


def test_unknown_writer_is_an_error_before_the_stage_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(writers.VARIABLE, "tensorbord")
    with (
        pytest.raises(UserError, match="DREAMSET_WRITERS contains 'tensorbord'; allowed: tensorboard, wandb"),
        reporting.stage_run("never"),
    ):
        pytest.fail("the stage began")


@pytest.mark.parametrize("variable", [writers.VARIABLE, "DREAMSET_TRACKING", "DREAMSET_SYSTEM_METRICS"])
@pytest.mark.parametrize("command", ["collect", "compare"])
def test_wrong_variable_is_an_error_before_a_command_reads_or_writes_anything(
    variable: str, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, "sometimes")
    with pytest.raises(SystemExit):
        cli.main([command, *(["dataset=pendulum_state", "preset=tiny"] if command == "collect" else [])])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"dreamset: error: {variable} ")
    assert not Path("data").exists()


def test_project_of_wandb_is_that_of_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "robots")
    record({0: 0.25})
    monkeypatch.setenv("WANDB_PROJECT", "others")
    send("wandb")
    assert {found.run.project for found in wandb_records() if found.HasField("run")} == {"robots"}


def test_secrets_reach_no_file_of_a_writer() -> None:
    record({0: 0.25})
    send(*BOTH)
    contents = [path.read_bytes() for path in Path("tracking").rglob("*") if path.is_file()]
    assert any(b"***@host/data" in content for content in contents)
    assert not any(b"s3cret" in content for content in contents)


def test_only_the_process_that_sends_loads_the_package_of_a_writer() -> None:
    code = "import sys, dreamset.pipeline.tracking.delivery; print(*{'wandb', 'tensorboard', 'torch'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.strip() == ""
    assert all(importlib.util.find_spec(name) for name in BOTH)


def test_first_line_names_the_chosen_writers_and_no_key(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    record({0: 0.25})
    (path,) = reporting.OUTBOX.glob("*.jsonl")
    assert LogFile(path).writers() == {"tensorboard": {}, "wandb": {"project": "dreamset", "mode": "offline"}}
    assert "k" * 40 not in path.read_text()
    assert not caplog.messages
