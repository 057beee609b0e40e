"""An update that is not finite ends the training in one line, and leaves its batch and the networks before it."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dreamset.core.errors import UserError
from dreamset.datasets import Store
from dreamset.pipeline.config.settings import Batch
from dreamset.pipeline.stages import learn_behavior, train_world_model
from dreamset.pipeline.training import failed_update
from dreamset.pipeline.training.gradients import NotFiniteError
from dreamset.pipeline.training.loop import build_sampler
from tests.builders import tiny_batch
from tests.pipeline.test_message_keys import wrong

Configure = Callable[..., dict[str, Any]]


def refusal(stage: ModuleType, config: dict[str, Any]) -> str:
    with pytest.raises(UserError) as error:
        stage.run(config)
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "key", "prefix"),
    [
        ("train_world_model", "world_model_training.optimizer", "model."),
        ("learn_behavior", "behavior_training.optimizers.actor", "behavior."),
    ],
)
def test_a_training_that_diverges_ends_in_one_line_with_its_traces(
    configure: Configure, name: str, key: str, prefix: str
) -> None:
    stage = {"train_world_model": train_world_model, "learn_behavior": learn_behavior}[name]
    if stage is learn_behavior:
        train_world_model.run(configure("train_world_model"))
    config = configure(name, f"{key}.lr=1e30", "world_model_training.scheduler=null")
    message = refusal(stage, config)
    number = int(message.split()[1])
    assert 1 < number <= 6
    assert message.startswith(f"update {number} is not finite: ")
    assert f"lower the learning rate {key}.lr (now 1e+30)" in message
    assert "\n" not in message
    assert wrong(message) == []

    (checkpoints,) = Path(".checkpoints").iterdir()
    folder = checkpoints / "not_finite"
    assert message.endswith(f"its batch, losses and networks are in {folder}")
    losses = {loss: float(text) for loss, text in json.loads((folder / "losses.json").read_text()).items()}
    assert not all(map(math.isfinite, losses.values()))
    networks = load_file(folder / "networks.safetensors")
    assert any(entry.startswith(prefix) for entry in networks)
    assert all(value.isfinite().all() for entry, value in networks.items() if entry.startswith(prefix))
    sampler = build_sampler(
        Batch.model_validate(config["training"]["batch"]), Store.open(config["store"]), seed=config["seed"]
    )
    batches = [sampler.sample() for _ in range(number)]
    kept = np.load(folder / "batch.npz", allow_pickle=False)
    assert np.array_equal(kept["row"], batches[-1].row.numpy())
    assert np.array_equal(kept["observations.state"], batches[-1].observations["state"].numpy())
    assert refusal(stage, config) == message  # the same command repeats the same update


def test_the_message_lists_what_is_not_finite_first() -> None:
    figures = {name: torch.tensor(value) for name, value in (("kl", 2.5), ("reward", math.inf), ("total", math.nan))}
    error = NotFiniteError(figures, "lower the rate")
    assert str(error) == "reward inf, total nan (kl 2.5); lower the rate"
    assert isinstance(error, FloatingPointError)


def test_traces_name_every_tensor_even_if_two_share_memory(tmp_path: Path) -> None:
    shared = torch.ones(2, 3)
    state = {"world_model": {"model": {"a": shared, "b": shared}}, "optimizer": {"state": {0: {"step": shared[0]}}}}
    error = NotFiniteError({"loss/total": torch.tensor(math.nan)}, "lower the rate")
    batch = tiny_batch()
    failed_update.report(error, update=3, batch=batch, state={**state, "updates": 3}, checkpoints=tmp_path)
    kept = load_file(tmp_path / "not_finite/networks.safetensors")
    assert {name: value.tolist() for name, value in kept.items()} == {
        "world_model.model.a": [[1.0] * 3] * 2,
        "world_model.model.b": [[1.0] * 3] * 2,
        "optimizer.state.0.step": [1.0] * 3,
    }
    arrays = np.load(tmp_path / "not_finite/batch.npz", allow_pickle=False)
    assert np.array_equal(arrays["observations.image"], batch.observations["image"].numpy())
    assert set(arrays) == {
        *("observations.state", "observations.image", "action", "reward", "is_first", "is_last", "is_terminal"),
        *("privileged.truth", "row"),
    }


def test_traces_that_cannot_be_written_hide_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    error = NotFiniteError({"loss/total": torch.tensor(math.nan)}, "lower the rate")
    told = failed_update.report(error, update=3, batch=tiny_batch(), state={}, checkpoints=tmp_path / "file")
    assert str(told).startswith("update 3 is not finite: loss/total nan")
    assert "its batch cannot be kept" in str(told)
