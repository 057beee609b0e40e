"""Saved models: safetensors weights beside a json that says how to rebuild the network. Loading runs no code."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from dreamset.core.errors import UserError
from dreamset.core.files import save_with
from dreamset.core.spec import DataSpec
from dreamset.models.world_model import WorldModel
from dreamset.pipeline.files import read_json, write_json

FORMAT_VERSION = 1
WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"


@dataclass(frozen=True, slots=True)
class SavedModel:
    """What stands in ``model.json``."""

    architecture: Mapping[str, Any]  # nodes with `_target_`, as Hydra composed them
    spec: DataSpec
    lineage: Mapping[str, Any]  # objective, seed, dataset digest: where the model comes from

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "format_version": FORMAT_VERSION,
            "architecture": dict(self.architecture),
            "spec": self.spec.to_json(),
            "lineage": dict(self.lineage),
        }


def save_model(folder: Path, module: nn.Module, saved: SavedModel) -> None:
    """Writes the weights, then the description that makes the folder a model."""
    save_weights(folder / WEIGHTS, module)
    write_json(folder / DESCRIPTION, saved.to_json())


def save_weights(path: Path, module: nn.Module) -> None:
    """Every parameter and buffer of ``module`` as safetensors."""
    weights = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    save_with(path, lambda beside: save_file(weights, beside))


def read_description(folder: Path, *, made_by: str) -> SavedModel:
    """The description of a saved model.

    Raises:
        UserError: if it is missing, damaged or of another format version.
    """
    value = read_json(folder / DESCRIPTION, made_by=made_by)
    if value.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"{folder / DESCRIPTION} has format version {value.get('format_version')}, this release reads "
            f"{FORMAT_VERSION}; run `{made_by}` again"
        )
    return SavedModel(value["architecture"], DataSpec.from_json(value["spec"]), value["lineage"])


def load_weights(folder: Path, module: nn.Module, *, made_by: str) -> None:
    """Fills ``module``.

    Raises:
        UserError: if the file is missing, truncated or made for other shapes, naming the keys.
    """
    path = folder / WEIGHTS
    try:
        module.load_state_dict(load_file(path))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run `{made_by}` first") from None
    except SafetensorError as error:
        raise UserError(f"{path} is damaged ({error}); run `{made_by}` again") from None
    except RuntimeError as error:
        raise UserError(f"{path} does not fit its description: {' '.join(str(error).split())}") from None


def build(node: Mapping[str, Any], *arguments: object, allowed: tuple[str, ...]) -> Any:
    """Instantiates a saved node whose every ``_target_`` is defined in one of the packages ``allowed``.

    Raises:
        UserError: if a file asks for a class from anywhere else.
    """
    for target in targets(node):
        if not target.startswith(tuple(f"{package}." for package in allowed)) or not _is_defined_there(target):
            raise UserError(f"a saved model asks for {target}, but files may name classes of {allowed} only")
    return instantiate(dict(node), *arguments, _convert_="all")


def _is_defined_there(target: str) -> bool:
    """Not merely imported there: ``dreamset.models.rssm.torch.hub.load`` names a way out of the package."""
    module, _, name = target.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError):
        return False
    return getattr(found, "__module__", None) == module


def targets(node: object) -> list[str]:
    """Every ``_target_`` in a nested node."""
    if isinstance(node, Mapping):
        own = [str(node["_target_"])] if "_target_" in node else []
        return own + [target for value in node.values() for target in targets(value)]
    if isinstance(node, list):
        return [target for value in node for target in targets(value)]
    return []


def load_world_model(folder: Path, device: torch.device) -> tuple[WorldModel, SavedModel]:
    """A trained world model, frozen and in evaluation mode."""
    made_by = "dreamset train-world-model"
    saved = read_description(folder, made_by=made_by)
    model: WorldModel = build(saved.architecture, saved.spec, allowed=("dreamset.models",))
    load_weights(folder, model, made_by=made_by)
    return model.to(device).eval().requires_grad_(False), saved
