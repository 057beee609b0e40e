"""Saved models: they load unchanged, execute no code, and damaged ones are reported clearly."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dreamset.core.errors import UserError
from dreamset.datasets import Store
from dreamset.pipeline.artifacts import migrations
from dreamset.pipeline.artifacts.saved_models import (
    POLICY,
    WORLD_MODEL,
    SavedModel,
    build,
    load_world_model,
    model_digest,
    read_description,
    read_weights,
    save_model,
    save_weights,
    targets,
)
from dreamset.pipeline.stages.settings import TrainWorldModel
from dreamset.pipeline.stages.train_world_model import build_networks

Configure = Callable[..., dict[str, Any]]
CPU = torch.device("cpu")


@pytest.fixture
def saved(configure: Configure) -> Path:
    """A model's folder."""
    config = configure("train_world_model")
    store = Store.open(config["store"])
    model, _ = build_networks(TrainWorldModel.of(**config), store, CPU)
    save_model(Path("model"), model, SavedModel(config["world_model"], store.spec, {"seed": 0}, WORLD_MODEL))
    return Path("model")


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the description in place. It then has no checksum, as in earlier releases."""
    description = json.loads((folder / "model.json").read_text())
    description.pop("checksum", None)
    change(description)
    (folder / "model.json").write_text(json.dumps(description))


def test_loaded_model_has_the_saved_weights_and_specification(saved: Path, configure: Configure) -> None:
    config = configure("train_world_model", "seed=5")
    store = Store.open(config["store"])
    other, _ = build_networks(TrainWorldModel.of(**config), store, CPU)
    loaded, description = load_world_model(saved, CPU)
    original, _ = build_networks(TrainWorldModel.of(**configure("train_world_model")), store, CPU)
    assert any(not torch.equal(v, other.state_dict()[k]) for k, v in loaded.state_dict().items())
    assert all(torch.equal(v, original.state_dict()[k]) for k, v in loaded.state_dict().items())
    assert description.spec == store.spec
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_class_from_another_package_is_refused(saved: Path) -> None:
    rewrite(saved, lambda description: description["architecture"]["encoder"].update(_target_="os.system"))
    with pytest.raises(UserError, match=r"os\.system"):
        load_world_model(saved, CPU)


def test_targets_are_found_at_every_depth() -> None:
    node = {"_target_": "a.A", "parts": [{"_target_": "b.B"}, {"deeper": {"_target_": "c.C"}}]}
    assert targets(node) == ["a.A", "b.B", "c.C"]
    nested = {"_target_": "dreamset.models.heads.NormalHead", "parts": [{"deeper": {"_target_": "c.C"}}]}
    with pytest.raises(UserError, match=r"names c\.C"):
        build(nested, allowed=("dreamset.models",))


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_missing_or_truncated_file_is_named(saved: Path, name: str) -> None:
    content = (saved / name).read_bytes()
    (saved / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=rf"{name} is damaged"):
        load_world_model(saved, CPU)
    (saved / name).unlink()
    with pytest.raises(UserError, match=rf"{name} does not exist; run `dreamset train-world-model`"):
        load_world_model(saved, CPU)


def test_one_changed_bit_is_found_in_either_file(saved: Path) -> None:
    load_world_model(saved, CPU)
    weights, description = saved / "model.safetensors", saved / "model.json"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    assert load_file(weights)  # safetensors itself does not notice
    with pytest.raises(UserError, match=r"^model/model\.safetensors is damaged \(it differs from its checksum\)"):
        load_world_model(saved, CPU)
    text = description.read_text()
    description.write_text(text.replace('"seed": 0', '"seed": 1'))
    with pytest.raises(UserError, match=r"^model/model\.json is damaged \(it differs from its checksum\)") as error:
        load_world_model(saved, CPU)
    assert "\n" not in str(error.value)
    description.write_text(json.dumps(json.loads(text)))  # another layout of the same values
    assert read_description(saved, made_by="-").lineage == {"seed": 0}


def test_a_model_without_checksums_loads(saved: Path) -> None:
    weights = load_file(saved / "model.safetensors")
    save_file(weights, saved / "model.safetensors")
    rewrite(saved, lambda description: description)
    assert "checksum" not in (saved / "model.json").read_text()
    model, described = load_world_model(saved, CPU)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert described.lineage == {"seed": 0}


def test_weights_of_every_type_and_shape_have_a_checksum(tmp_path: Path) -> None:
    module = torch.nn.Module()
    values = [torch.tensor(3), torch.ones(2, 3, dtype=torch.bfloat16), torch.ones(0, 4), torch.tensor([True, False])]
    for number, value in enumerate(values):
        module.register_buffer(f"buffer_{number}", value)
    save_weights(tmp_path / "w.safetensors", module)
    kept = read_weights(tmp_path / "w.safetensors", made_by="-")
    assert all(torch.equal(kept[f"buffer_{number}"], value) for number, value in enumerate(values))


def test_weights_of_another_shape_are_refused_by_name(saved: Path) -> None:
    rewrite(saved, lambda description: description["architecture"]["dynamics"]["latent"].update(size=7))
    with pytest.raises(UserError, match=r"posterior_out"):
        load_world_model(saved, CPU)


def test_a_description_of_an_enormous_network_takes_no_memory(saved: Path) -> None:
    """The heads' layers would take 14 TB."""
    rewrite(saved, lambda description: description["architecture"]["reward_head"].update(hidden=2_000_000))
    with pytest.raises(UserError, match=r"does not fit the network: .*\n(.*\n)*.*\[2000000, 2000000\]"):
        load_world_model(saved, CPU)


def test_a_description_of_endless_layers_ends_at_once(saved: Path) -> None:
    rewrite(saved, lambda description: description["architecture"]["reward_head"].update(layers=10**9))
    with pytest.raises(UserError, match=r"weights, far fewer than the network of model\.json; the two files"):
        load_world_model(saved, CPU)


def test_weights_that_do_not_fit_are_listed_key_by_key(saved: Path) -> None:
    weights = load_file(saved / "model.safetensors")
    bias = weights.pop("reward_head.layers.0.bias")
    weights["reward_head.layers.0.weight"] = torch.zeros(2, 3)
    weights["spare"] = torch.zeros(4)
    save_file(weights, saved / "model.safetensors")
    with pytest.raises(UserError) as error:
        load_world_model(saved, CPU)
    first, head, *lines = str(error.value).splitlines()
    assert f"model.safetensors does not fit the network: 3 of {len(weights)} keys differ;" in first
    assert head.split() == ["key", "in", "the", "file", "in", "the", "network"]
    assert [line.split() for line in lines] == [
        ["missing", "reward_head.layers.0.bias", "-", f"[{len(bias)}]"],
        ["different", "reward_head.layers.0.weight", "[2,", "3]", "[16,", "20]"],
        ["unexpected", "spare", "[4]", "-"],
    ]


@pytest.mark.parametrize("version", [99, 0, -1, 1.5, "2", None, True])
def test_format_version_without_a_migration_is_refused(saved: Path, version: Any) -> None:
    rewrite(saved, lambda description: description.update(format_version=version))
    expected = "a newer release wrote.*update dreamset" if version == 99 else "run `dreamset train-world-model`"
    with pytest.raises(UserError, match=rf"format version {version!r}.*{expected}"):
        load_world_model(saved, CPU)


def test_model_of_the_first_format_loads(saved: Path) -> None:
    now = read_description(saved, made_by="-")

    def to_first_format(description: dict[str, Any]) -> None:
        description.update(format_version=1)
        del description["kind"]

    rewrite(saved, to_first_format)
    model, described = load_world_model(saved, CPU)
    assert described.lineage == {"seed": 0, "generation": None, "parent": None}
    assert (described.kind, described.spec, described.architecture) == (WORLD_MODEL, now.spec, now.architecture)
    weights = load_file(saved / "model.safetensors")
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    rewrite(saved, lambda description: description["lineage"].update(feature_size=3, generation="dreamer_v3"))
    policy = read_description(saved, made_by="-")
    assert (policy.kind, policy.lineage["generation"], policy.lineage["world_model"]) == (POLICY, "dreamer_v3", None)


def test_migrations_convert_a_model_version_by_version(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    current = migrations.FORMAT_VERSION
    monkeypatch.setattr(migrations, "FORMAT_VERSION", current + 2)
    with pytest.raises(UserError, match=rf"has format version {current}; allowed: 1 to {current + 2}"):
        load_world_model(saved, CPU)

    def rename(value: dict[str, Any]) -> dict[str, Any]:
        return value | {"format_version": current + 1, "lineage": {"start": value["lineage"]["seed"]}}

    def double(value: dict[str, Any]) -> dict[str, Any]:
        return value | {"format_version": current + 2, "lineage": {"start": value["lineage"]["start"] + 7}}

    monkeypatch.setitem(migrations.MIGRATIONS, current, rename)
    monkeypatch.setitem(migrations.MIGRATIONS, current + 1, double)
    before = (saved / "model.json").read_bytes()
    _, described = load_world_model(saved, CPU)
    assert described.lineage == {"start": 7}
    assert (saved / "model.json").read_bytes() == before


def test_every_earlier_format_has_a_migration() -> None:
    assert sorted(migrations.MIGRATIONS) == list(range(1, migrations.FORMAT_VERSION))


def test_model_of_another_kind_is_refused(saved: Path) -> None:
    rewrite(saved, lambda description: description.update(kind=POLICY))
    with pytest.raises(UserError, match="model holds a policy, but a world_model is needed"):
        load_world_model(saved, CPU)


@pytest.mark.parametrize("part", ["architecture", "spec", "lineage", "kind"])
def test_incomplete_or_mistyped_description_is_damaged(saved: Path, part: str) -> None:
    rewrite(saved, lambda description: description.update({part: 3}))
    with pytest.raises(UserError, match=r"model\.json is damaged|holds a 3"):
        load_world_model(saved, CPU)
    rewrite(saved, lambda description: description.pop(part))
    with pytest.raises(UserError, match=r"model\.json is damaged"):
        load_world_model(saved, CPU)


def test_architecture_that_cannot_be_built_is_refused(saved: Path) -> None:
    rewrite(saved, lambda description: description["architecture"].update(wings=2))
    with pytest.raises(UserError, match=r"a saved model cannot be built: .*wings"):
        load_world_model(saved, CPU)
    rewrite(saved, lambda description: description["architecture"].pop("_target_"))
    with pytest.raises(UserError, match="names no class to build"):
        load_world_model(saved, CPU)


def test_saved_model_cannot_read_environment_variables(saved: Path) -> None:
    rewrite(saved, lambda description: description["architecture"].update(reward_weight="${oc.env:HOME}"))
    with pytest.raises(UserError, match="contains an interpolation"):
        load_world_model(saved, CPU)


def test_digest_depends_on_weights_and_description_only(saved: Path) -> None:
    first = model_digest(saved)
    assert model_digest(saved.rename("elsewhere")) == first
    folder = Path("elsewhere")
    rewrite(folder, lambda description: description["lineage"].update(seed=1))
    second = model_digest(folder)
    weights = load_file(folder / "model.safetensors")
    save_file({name: value + 1 for name, value in weights.items()}, folder / "model.safetensors")
    assert len({first, second, model_digest(folder)}) == 3


@pytest.mark.parametrize(
    "target",
    [
        "dreamset.models.recurrent.rssm.torch.zeros",
        "dreamset.models.recurrent.rssm.torch",
        "dreamset.models.recurrent.rssm.Callable",
        "dreamset.models.none.X",
    ],
)
def test_names_imported_by_an_allowed_module_are_refused(target: str) -> None:
    with pytest.raises(UserError, match=f"names {target}"):
        build({"_target_": target, "_args_": [3]}, allowed=("dreamset.models",))
