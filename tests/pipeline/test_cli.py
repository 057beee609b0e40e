"""The command line: help texts, one-line errors and exit statuses."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from dreamset.core.errors import UserError
from dreamset.datasets import Store
from dreamset.pipeline import cli
from dreamset.pipeline.commands import stages
from dreamset.pipeline.stages import resolve, train_world_model
from dreamset.pipeline.stages.settings import TrainWorldModel
from dreamset.pipeline.training.checkpoint import Checkpoint

Configure = Callable[..., dict[str, Any]]
COMMANDS = [*stages.STAGES, "show", "adapt", "compare", "resolve", "data", "models", "export", "ui", "results"]
COMMANDS += ["experiments", "dream", "list", "doctor", "clean", "completion", "init"]


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_explains_every_command(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([*command, "--help"])
    assert stop.value.code == 0
    output = capsys.readouterr().out
    assert all(name in output for name in COMMANDS) if not command else "usage: dreamset" in output


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train-world-model", "preset=huge"], "tiny"),
        (["train-world-model", "world_model_training.updatse=3"], "updatse"),
        (["ingest", "dataset=pendulum_state"], "data/recordings/pendulum_state"),
        (["train-world-model", "dataset=pendulum_state"], "data/stores/pendulum_state"),
        (["learn-behavior", "dataset=pendulum_state"], "data/stores/pendulum_state"),
        (["evaluate"], "model.json does not exist; run `dreamset train-world-model` first"),
        (["adapt"], "tracking/mlflow.db does not exist, so no model is registered"),
        (["adapt", "world_model=dreamer_v1"], "adaptation=heads_only needs an existing world model"),
        (["compare"], "resolved/compare.yaml does not exist; run `dreamset resolve` first"),
        (["resolve"], "params.yaml does not exist"),
        (["evaluate", "device=tpu"], "device is 'tpu'; allowed: 'auto', 'cpu' or 'cuda'"),
        (["ingest", "--resolved", "x.yaml", "seed=1"], "--resolved allows no overrides"),
    ],
)
def test_mistake_prints_one_line_and_exits_with_status_two(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    *before, line = capsys.readouterr().err.strip().splitlines()
    assert expected in line
    assert all(announced.startswith(f"{arguments[0]}: ") for announced in before), before
    assert len(before) <= 1


def test_fault_of_the_disk_in_any_command_prints_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/x")

    monkeypatch.setattr(resolve, "run", full)
    with pytest.raises(SystemExit) as stop:
        cli.main(["resolve"])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"dreamset: error: {Path('runs/x').absolute()}: no room is left on its file system (")


def test_resolved_file_and_overrides_give_the_same_model(configure: Configure) -> None:
    config = configure("train_world_model")
    Path("stage.yaml").write_text(yaml.safe_dump(config))
    cli.main(["train-world-model", "--resolved", "stage.yaml"])
    weights = Path(config["output"]) / "model/model.safetensors"
    first = weights.read_bytes()
    cli.main(["train-world-model", "preset=tiny", "dataset=pendulum_state"])
    assert weights.read_bytes() == first


@pytest.mark.parametrize(("failure", "message"), [(KeyboardInterrupt, "interrupted"), (UserError, "error: disk full")])
def test_last_line_of_output_states_why_training_ended(
    failure: type[BaseException],
    message: str,
    configure: Configure,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise failure("disk full")

    configure("train_world_model")
    monkeypatch.setattr(train_world_model, "validate", fail)
    with pytest.raises(SystemExit):
        cli.main(["train-world-model", "preset=tiny", "dataset=pendulum_state"])
    output = capsys.readouterr().err
    assert "reconstruction:" in output  # the progress bar
    assert output.splitlines()[-1].startswith(f"dreamset: {message}")


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_training_ends_in_one_line_and_resumes(configure: Configure, sent: signal.Signals) -> None:
    config = configure("train_world_model", "world_model_training.updates=1000000", "validation.every=1000000")
    Path("stage.yaml").write_text(yaml.safe_dump(config))
    code = (
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # tests in the background are started without it
        "from dreamset.pipeline import cli\n"
        "from dreamset.pipeline.training import checkpoint\n"
        "checkpoint.SECONDS = 0\n"
        "cli.main(['train-world-model', '--resolved', 'stage.yaml'])"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(Path(".checkpoints").glob("*/[0-9]*/state.pt")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(sent)
    _, output = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in output
    assert "interrupted" in output.splitlines()[-1]
    (folder,) = Path(".checkpoints").iterdir()
    training = train_world_model.start(TrainWorldModel.of(**config), Store.open(config["store"]), torch.device("cpu"))
    training.load_state_dict(Checkpoint(folder).load() or {})
    assert training.update > 0
