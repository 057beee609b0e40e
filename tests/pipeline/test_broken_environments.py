"""Broken environments end ``evaluate``, ``finetune`` and ``collect`` in one line that says where and why."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dreamset.core.errors import UserError
from dreamset.pipeline.stages import collect, evaluate, finetune
from dreamset.pipeline.training.checkpoint import Checkpoint
from tests.pipeline import broken

Configure = Callable[..., dict[str, Any]]

NAME = "environment tests.pipeline.broken.make"
FIRST = f"{NAME}, episode with seed 1000000, step {broken.FAULTY_STEP}: "
RESULT = Path("runs/evaluation/reconstruction-0")
TRACEBACK = Path("runs/evaluation/reconstruction-0.traceback.txt")


@pytest.fixture
def broken_config(offline_runs: Path, configure: Configure, workspace: Path) -> Configure:
    """``broken_config("evaluate", "nan reward")``: the settings of a stage, with this fault in its environment."""
    shutil.copytree(offline_runs, workspace / "runs")

    def config(stage: str, fault: str, *overrides: str, episode_steps: int = 10) -> dict[str, Any]:
        node = {"_target_": "tests.pipeline.broken.make", "fault": fault, "episode_steps": episode_steps}
        return configure(stage, *overrides) | {"environment": {**node, "_partial_": True}}

    return config


def message_of(stage: Callable[[dict[str, Any]], None], config: dict[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        stage(config)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("fault", "finding"),
    [
        ("step raises", "step raised ZeroDivisionError: the motor is off, "),
        ("nan reward", "the reward is nan; expected: a finite number"),
        ("no reward", "the reward is None; expected: a number"),
        ("nan observation", "observation 'state' has 3 of 3 numbers that are not finite (nan)"),
        ("lost observation", "the observation lacks 'state'; it has ['position']"),
        ("long observation", "observation 'state' is float32 [4]; expected: float32 [3]"),
        ("bytes", "observation 'state' is uint8 [3]; expected: float32 [3]"),
        ("bare observation", "the observation is float32 [3]; expected: a dictionary"),
        ("four values", "step returned 4 values; expected: observation, reward, terminated, truncated, info"),
    ],
)
def test_fault_in_a_step_names_environment_episode_step_and_value(
    broken_config: Configure, fault: str, finding: str
) -> None:
    message = message_of(evaluate.run, broken_config("evaluate", fault))
    assert message.startswith(FIRST + finding)
    assert not RESULT.exists()


def test_exception_names_its_place_and_keeps_its_traceback(broken_config: Configure) -> None:
    line = next(
        number
        for number, text in enumerate(Path(broken.__file__).read_text().splitlines(), 1)
        if "raise ZeroDivisionError" in text
    )
    message = message_of(evaluate.run, broken_config("evaluate", "step raises"))
    assert f"{broken.__file__}:{line}; fix the environment (traceback: {TRACEBACK})" in message
    assert "in _raise\n" in TRACEBACK.read_text()
    message = message_of(evaluate.run, broken_config("evaluate", "reset raises"))
    assert message.startswith(f"{NAME}, episode with seed 1000000, step 0: reset raised LookupError: no such level, ")
    evaluate.run(broken_config("evaluate", "none"))
    assert not TRACEBACK.exists()


@pytest.mark.parametrize(
    ("fault", "finding"),
    [
        ("other name", "observation 'state' is missing, expected: float32 [3]. It offers position: float32 [3]"),
        ("other shape", "observation 'state' is float32 [4], expected: float32 [3]"),
        ("other dtype", "observation 'state' is uint8 [3], expected: float32 [3]"),
        ("other action", "actions are from Box(-1.0, 1.0, (2,), float32), expected: vectors of 1 numbers"),
        ("choices", "actions are from Discrete(3), expected: vectors of 1 numbers"),
    ],
)
@pytest.mark.parametrize("stage", [evaluate, finetune])
def test_environment_that_does_not_fit_the_model_is_refused_before_the_first_episode(
    broken_config: Configure, fault: str, finding: str, stage: Any
) -> None:
    name = stage.__name__.rpartition(".")[2]
    message = message_of(stage.run, broken_config(name, fault))
    assert message.startswith(f"{NAME} does not fit the model's data: {finding}")


def test_environment_that_cannot_be_made_is_one_line(broken_config: Configure) -> None:
    message = message_of(evaluate.run, broken_config("evaluate", "cannot be made"))
    assert message.startswith(f"{NAME}: making it raised ConnectionRefusedError: simulator is not running, ")
    message = message_of(evaluate.run, broken_config("evaluate", "no environment"))
    assert message.startswith(f"{NAME} gives None; expected: a gymnasium.Env")
    config = broken_config("evaluate", "none")
    config["environment"].pop("_partial_")
    assert "Broken, not a function that makes environments; add _partial_: true" in message_of(evaluate.run, config)


def test_hanging_step_is_interrupted(broken_config: Configure) -> None:
    config = broken_config("evaluate", "step hangs", "episode_limits.step_seconds=0.3")
    message = message_of(evaluate.run, config)
    assert message.startswith(f"{FIRST}step has not returned after 0.3 s; ")
    assert "in _hang\n" in TRACEBACK.read_text()


def test_episode_without_end_is_stopped(broken_config: Configure) -> None:
    config = broken_config("evaluate", "none", "episode_limits.steps=20", episode_steps=21)
    message = message_of(evaluate.run, config)
    assert message.startswith(f"{NAME}, episode with seed 1000000, step 20: the episode has not ended; ")
    evaluate.run(broken_config("evaluate", "none", "episode_limits.steps=20", episode_steps=20))
    assert (RESULT / "metrics.json").exists()


def test_episode_that_takes_too_long_is_stopped_at_the_next_step(broken_config: Configure) -> None:
    message = message_of(evaluate.run, broken_config("evaluate", "step is slow", "episode_limits.seconds=0.29"))
    assert message.startswith(f"{NAME}, episode with seed 1000000, step 3: the episode has taken 0.3")
    assert "raise episode_limits.seconds" in message


@pytest.mark.parametrize(
    ("fault", "reason"), [("render raises", "render raised OSError: no display"), ("render is None", "returned None")]
)
def test_environment_that_cannot_be_rendered_is_scored_without_a_video(
    broken_config: Configure, caplog: pytest.LogCaptureFixture, fault: str, reason: str
) -> None:
    evaluate.run(broken_config("evaluate", fault))
    assert (RESULT / "metrics.json").exists()
    assert list((RESULT / "media").iterdir()) == []
    (warning,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith("no video of the episodes: ")
    assert reason in warning


def test_fine_tuning_with_another_limit_has_the_same_checkpoint(
    broken_config: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []

    def opening(path: Path) -> Checkpoint:
        opened.append(path)
        return Checkpoint(path)

    monkeypatch.setattr(finetune, "Checkpoint", opening)
    for overrides in (["episode_limits.steps=20"], ["episode_limits.steps=19"], ["episode_limits.steps=20", "seed=1"]):
        config = broken_config("finetune", "none", *overrides, episode_steps=21)
        config |= {key: broken_config("finetune", "none")[key] for key in ("world_model", "policy")}
        assert "the episode has not ended" in message_of(finetune.run, config)
    assert opened[0] == opened[1] != opened[2]


@pytest.mark.parametrize("workers", [1, 2])
def test_recording_names_the_faulty_step(
    broken_config: Configure, workers: int, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(root))  # for the worker processes
    config = broken_config("collect", "nan reward", f"dataset.recording.workers={workers}", "dataset.reference=null")
    message = message_of(collect.run, config)
    assert f"{NAME}, episode with seed " in message
    assert f", step {broken.FAULTY_STEP}: the reward is nan" in message
