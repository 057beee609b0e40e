"""Saved models: safetensors weights beside a json that says how to rebuild the network. Loading runs no code."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dreamset.behaviors.base import Learner, RewardFunction
from dreamset.core.errors import UserError
from dreamset.core.files import file_sha256, save_with
from dreamset.core.spec import DataSpec
from dreamset.pipeline.artifacts import migrations
from dreamset.pipeline.artifacts.compatibility import Difference, load_fitting
from dreamset.pipeline.config.project import MARK, Project, make_importable
from dreamset.pipeline.files import read_json, write_json

WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"
OBJECTIVE = "objective/objective.safetensors"  # beside the folder of a world model
REWARD = "reward.safetensors"  # in the folder of a policy whose reward has networks of its own
WORLD_MODEL, POLICY = "world_model", "policy"  # kinds of models
WORLD_MODEL_PARTS = ("dreamset.models",)  # packages whose classes a saved world model may name
POLICY_PARTS = ("dreamset.behaviors", "dreamset.models")  # and a saved policy


@dataclass(frozen=True, slots=True)
class SavedModel:
    """What stands in ``model.json``."""

    architecture: Mapping[str, Any]  # nodes with `_target_`, as Hydra composed them
    spec: DataSpec
    lineage: Mapping[str, Any]  # objective, seed, dataset digest: where the model comes from
    kind: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "format_version": migrations.FORMAT_VERSION,
            "kind": self.kind,
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


def model_digest(folder: Path) -> str:
    """One checksum of weights and description: the name of a model wherever it lies.

    Raises:
        UserError: if the folder holds no model.
    """
    try:
        sums = [f"{name} {file_sha256(folder / name)}\n" for name in (DESCRIPTION, WEIGHTS)]
    except OSError as error:
        raise UserError(f"{folder} holds no model ({error.strerror}: {error.filename}); check the path") from None
    return hashlib.sha256("".join(sums).encode()).hexdigest()


def read_description(folder: Path, *, made_by: str, kind: str | None = None) -> SavedModel:
    """The description of a saved model, brought up to this release's format.

    Raises:
        UserError: if it is missing, damaged, of a format that cannot be read or of another kind than ``kind``.
    """
    path = folder / DESCRIPTION
    try:
        value = read_json(path, made_by=made_by)
        value = migrations.migrated(value, where=path, made_by=made_by)
        spec = DataSpec.from_json(value["spec"])
        saved = SavedModel(dict(value["architecture"]), spec, dict(value["lineage"]), str(value["kind"]))
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error!r}); run `{made_by}` again") from None
    if kind not in (None, saved.kind):
        raise UserError(f"{folder} holds a {saved.kind}, but a {kind} is needed; choose another folder")
    return saved


def load_weights(path: Path, module: nn.Module, *, made_by: str, strict: bool = True) -> list[Difference]:
    """Fills ``module`` from a file of weights; without ``strict`` only what fits, and what does not is logged.

    Returns:
        what did not fit.

    Raises:
        UserError: if the file is missing, truncated or, with ``strict``, made for other shapes, naming the keys.
    """
    return load_fitting(module, read_weights(path, made_by=made_by), strict=strict, where=path)


def read_weights(path: Path, *, made_by: str) -> dict[str, Tensor]:
    """Every tensor of a saved model by its key.

    Raises:
        UserError: if the file is missing or truncated.
    """
    try:
        weights: dict[str, Tensor] = load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run `{made_by}` first") from None
    except SafetensorError as error:
        raise UserError(f"{path} is damaged ({error}); run `{made_by}` again") from None
    return weights


def build(node: Mapping[str, Any], *arguments: object, allowed: tuple[str, ...]) -> Any:
    """Instantiates a saved node whose every ``_target_`` is allowed, see ``check_targets``.

    Raises:
        UserError: if a file asks for a class from anywhere else, or for one that does not take its arguments.
    """
    check_targets(node, allowed=allowed)
    try:
        return instantiate(dict(node), *arguments, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        raise UserError(f"a saved model cannot be rebuilt: {' '.join(str(error).split())}") from error


def check_targets(node: Mapping[str, Any], *, allowed: tuple[str, ...]) -> None:
    """Whether building a node that came from a file runs code of the packages ``allowed`` only.

    In a project of the user's, also code of the project's own modules that its ``configs/project.yaml`` lists.

    Raises:
        UserError: if it asks for anything else, or holds an interpolation, by which OmegaConf reads the environment.
    """
    if "_target_" not in node:
        raise UserError("a saved model names no class to build (_target_); its file is damaged")
    project = Project.here()
    for target in targets(node):
        packaged = target.startswith(tuple(f"{package}." for package in allowed))
        if not (packaged or _is_trusted(target, project)) or not _is_defined_there(target):
            raise UserError(
                f"a saved model asks for {target}, but files may name classes of {allowed} only"
                + ("" if project is None else f", and of the modules that {MARK} lists under saved_models_may_use")
            )
    if "${" in json.dumps(node, default=str):
        raise UserError("a saved model holds an interpolation (${...}), but files may hold plain values only")


def _is_trusted(target: str, project: Project | None) -> bool:
    """Whether the module is one of the project's own that the project lists; another of the same name is not."""
    module = target.rpartition(".")[0]
    if project is None or not project.trusts(module):
        return False
    make_importable()
    try:
        spec = find_spec(module)
    except ImportError:
        return False
    return spec is not None and project.holds(spec)


def _is_defined_there(target: str) -> bool:
    """Not merely imported there: ``dreamset.models.recurrent.rssm.torch.hub.load`` names a way out of the package."""
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


def require_dataset(saved: SavedModel, wanted: str, folder: Path) -> None:
    """Whether the model that lies in ``folder`` is of the dataset that was chosen; runs of several share folders.

    Raises:
        UserError: if it is another's.
    """
    found = saved.lineage["dataset"]
    if found != wanted:
        raise UserError(
            f"{folder} was trained on {found}, not on {wanted}; choose dataset={found}, or train with dataset={wanted}"
        )


def load_world_model(folder: Path, device: torch.device) -> tuple[Any, SavedModel]:
    """A trained world model, frozen and in evaluation mode."""
    made_by = "dreamset train-world-model"
    saved = read_description(folder, made_by=made_by, kind=WORLD_MODEL)
    model = build(saved.architecture, saved.spec, allowed=WORLD_MODEL_PARTS)
    load_weights(folder / WEIGHTS, model, made_by=made_by)
    return model.to(device).eval().requires_grad_(False), saved


def load_behavior(folder: Path, device: torch.device) -> Learner:
    """A learned behaviour, frozen and in evaluation mode."""
    made_by = "dreamset learn-behavior"
    saved = read_description(folder, made_by=made_by, kind=POLICY)
    behavior: Learner = build(
        saved.architecture, saved.lineage["feature_size"], saved.spec.action, allowed=POLICY_PARTS
    )
    load_weights(folder / WEIGHTS, behavior, made_by=made_by)
    return behavior.to(device).eval().requires_grad_(False)


def save_reward(folder: Path, reward: RewardFunction) -> None:
    """Keeps what a reward with networks of its own has learned beside the policy; others have nothing to keep."""
    if reward.networks():
        save_weights(folder / REWARD, reward)


def load_reward(reward: RewardFunction, folder: Path) -> RewardFunction:
    """``reward`` with the weights that were saved beside the policy in ``folder``, if it has networks of its own."""
    if reward.networks():
        load_weights(folder / REWARD, reward, made_by="dreamset learn-behavior")
    return reward
