"""Saved models: they come back equal, run no code and say what is wrong with them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dreamset.core.errors import UserError
from dreamset.datasets import Store
from dreamset.pipeline.artifacts import SavedModel, build, load_world_model, save_model, targets
from dreamset.pipeline.train_world_model import build_networks

Configure = Callable[..., dict[str, Any]]
CPU = torch.device("cpu")


@pytest.fixture
def saved(configure: Configure) -> Path:
    """A model's folder."""
    config = configure("train_world_model")
    store = Store.open(config["store"])
    model, _ = build_networks(config, store, CPU)
    save_model(Path("model"), model, SavedModel(config["world_model"], store.spec, {"seed": 0}))
    return Path("model")


def test_a_model_comes_back_with_every_weight_and_its_specification(saved: Path, configure: Configure) -> None:
    config = configure("train_world_model", "seed=5")
    store = Store.open(config["store"])
    other, _ = build_networks(config, store, CPU)
    loaded, description = load_world_model(saved, CPU)
    original, _ = build_networks(configure("train_world_model"), store, CPU)
    assert any(not torch.equal(v, other.state_dict()[k]) for k, v in loaded.state_dict().items())
    assert all(torch.equal(v, original.state_dict()[k]) for k, v in loaded.state_dict().items())
    assert description.spec == store.spec
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_a_file_that_asks_for_a_class_from_elsewhere_is_refused(saved: Path) -> None:
    description = json.loads((saved / "model.json").read_text())
    description["architecture"]["encoder"]["_target_"] = "os.system"
    (saved / "model.json").write_text(json.dumps(description))
    with pytest.raises(UserError, match=r"os\.system"):
        load_world_model(saved, CPU)


def test_targets_are_found_at_every_depth() -> None:
    node = {"_target_": "a.A", "parts": [{"_target_": "b.B"}, {"deeper": {"_target_": "c.C"}}]}
    assert targets(node) == ["a.A", "b.B", "c.C"]
    nested = {"_target_": "dreamset.models.heads.NormalHead", "parts": [{"deeper": {"_target_": "c.C"}}]}
    with pytest.raises(UserError, match=r"asks for c\.C"):
        build(nested, allowed=("dreamset.models",))


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_a_missing_or_truncated_file_is_named(saved: Path, name: str) -> None:
    content = (saved / name).read_bytes()
    (saved / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=rf"{name} is damaged"):
        load_world_model(saved, CPU)
    (saved / name).unlink()
    with pytest.raises(UserError, match=rf"{name} does not exist; run `dreamset train-world-model`"):
        load_world_model(saved, CPU)


def test_weights_of_another_shape_are_refused_with_their_names(saved: Path) -> None:
    description = json.loads((saved / "model.json").read_text())
    description["architecture"]["dynamics"]["latent"]["size"] = 7
    (saved / "model.json").write_text(json.dumps(description))
    with pytest.raises(UserError, match=r"posterior_out"):
        load_world_model(saved, CPU)


def test_another_format_version_is_refused(saved: Path) -> None:
    description = json.loads((saved / "model.json").read_text()) | {"format_version": 99}
    (saved / "model.json").write_text(json.dumps(description))
    with pytest.raises(UserError, match="format version 99"):
        load_world_model(saved, CPU)


@pytest.mark.parametrize(
    "target",
    [
        "dreamset.models.rssm.torch.zeros",
        "dreamset.models.rssm.torch",
        "dreamset.models.rssm.Callable",
        "dreamset.models.none.X",
    ],
)
def test_what_a_module_of_ours_imports_is_not_ours(target: str) -> None:
    with pytest.raises(UserError, match=f"asks for {target}"):
        build({"_target_": target, "_args_": [3]}, allowed=("dreamset.models",))
