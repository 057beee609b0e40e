"""Saved models: safetensors weights beside a json that describes the network. Loading executes no code from them."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from dreamset.behaviors.base import Learner, RewardFunction
from dreamset.core.errors import UserError
from dreamset.core.files import save_with, user_path
from dreamset.pipeline.artifacts.compatibility import Difference, load_fitting, require_shapes
from dreamset.pipeline.artifacts.description import CHECKSUM, sum_of_json
from dreamset.pipeline.artifacts.description import DESCRIPTION as DESCRIPTION
from dreamset.pipeline.artifacts.description import POLICY as POLICY
from dreamset.pipeline.artifacts.description import WEIGHTS as WEIGHTS
from dreamset.pipeline.artifacts.description import WORLD_MODEL as WORLD_MODEL
from dreamset.pipeline.artifacts.description import SavedModel as SavedModel
from dreamset.pipeline.artifacts.description import model_digest as model_digest
from dreamset.pipeline.artifacts.description import read_description as read_description
from dreamset.pipeline.config.project import MARK, Project, make_importable
from dreamset.pipeline.config.trust import TARGET, named
from dreamset.pipeline.files import write_json

OBJECTIVE = "objective/objective.safetensors"  # path of the objective's weights, beside the folder of a world model
REWARD = "reward.safetensors"  # in the folder of a policy whose reward function has networks or constants
WORLD_MODEL_PARTS = ("dreamset.models",)  # packages whose classes a saved world model may use
MOST_COPIES, SPARE_TENSORS = 4, 100  # of weights that a network registers more than once while it is built
REPLACE = "the two files are not of one model; copy both again"
POLICY_PARTS = ("dreamset.behaviors", "dreamset.models")  # packages whose classes a saved policy may use


def save_model(folder: Path, module: nn.Module, saved: SavedModel) -> None:
    """Writes the weights first, then the description. A folder without a description is no saved model."""
    save_weights(folder / WEIGHTS, module)
    description = saved.to_json()
    write_json(folder / DESCRIPTION, {**description, CHECKSUM: sum_of_json(description)})


def save_weights(path: Path, module: nn.Module) -> None:
    """Writes every parameter and buffer of ``module`` to a safetensors file, with a checksum in its header."""
    weights = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    metadata = {CHECKSUM: _sum_of_weights(weights)}
    save_with(path, lambda beside: save_file(weights, beside, metadata))


def _sum_of_weights(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of all names, shapes and values."""
    total = hashlib.sha256()
    for name, value in sorted(weights.items()):
        total.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def load_weights(path: Path, module: nn.Module, *, made_by: str, strict: bool = True) -> list[Difference]:
    """Loads a file of weights into ``module``. Without ``strict``, keys that do not fit are skipped and logged.

    Returns:
        the keys that do not fit.

    Raises:
        UserError: if the file is missing or damaged or, with ``strict``, if a key does not fit.
    """
    return load_fitting(module, read_weights(path, made_by=made_by), strict=strict, where=path)


def read_weights(path: Path, *, made_by: str) -> dict[str, Tensor]:
    """Every tensor of a saved model by its key.

    Raises:
        UserError: if the file is missing, truncated or differs from its checksum.
    """
    with _opened(path, made_by=made_by) as file:
        weights: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        written = (file.metadata() or {}).get(CHECKSUM)
    if written not in (None, _sum_of_weights(weights)):
        raise UserError(f"{path} is damaged (it differs from its checksum); run `{made_by}` again")
    return weights


@contextmanager
def _opened(path: Path, *, made_by: str) -> Iterator[Any]:
    """An open file of weights; errors say what to do."""
    try:
        with safe_open(path, "pt") as file:
            yield file
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run `{made_by}` first") from None
    except SafetensorError as error:
        raise UserError(f"{path} is damaged ({error}); run `{made_by}` again") from None


def restored(path: Path, node: Mapping[str, Any], *arguments: object, allowed: tuple[str, ...], made_by: str) -> Any:
    """The network that a node describes, with the weights of a file; both are compared before they take memory."""
    require_fitting(path, node, *arguments, allowed=allowed, made_by=made_by)
    network = build(node, *arguments, allowed=allowed)
    load_weights(path, network, made_by=made_by)
    return network


def require_fitting(
    path: Path, node: Mapping[str, Any], *arguments: object, allowed: tuple[str, ...], made_by: str
) -> None:
    """Checks that the network that a node describes fits a file of weights, before either takes memory.

    The network is built without memory for its weights, and no further than the file has weights for it.

    Raises:
        UserError: as ``build`` and ``load_weights`` do.
    """
    shapes = read_shapes(path, made_by=made_by)
    most = MOST_COPIES * len(shapes) + SPARE_TENSORS
    registered = 0

    def count(*_: object) -> None:
        nonlocal registered
        registered += 1
        if registered > most:
            raise UserError(f"{path} has {len(shapes)} weights, far fewer than the network of {DESCRIPTION}; {REPLACE}")

    with torch.device("meta"), register_module_parameter_registration_hook(count):
        skeleton = build(node, *arguments, allowed=allowed)
    require_shapes(shapes, {name: list(value.shape) for name, value in skeleton.state_dict().items()}, where=path)


def read_shapes(path: Path, *, made_by: str) -> dict[str, list[int]]:
    """The shape of every tensor of a saved model by its key, without its values."""
    with _opened(path, made_by=made_by) as file:
        return {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no mapping


def build(node: Mapping[str, Any], *arguments: object, allowed: tuple[str, ...]) -> Any:
    """Builds the object that a saved node describes, after ``check_targets``.

    Raises:
        UserError: if the node names a class that is not allowed, or arguments that its class does not take.
    """
    check_targets(node, allowed=allowed)
    try:
        return instantiate(dict(node), *arguments, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        raise UserError(f"a saved model cannot be built: {' '.join(str(error).split())}") from error


def check_targets(node: Mapping[str, Any], *, allowed: tuple[str, ...]) -> None:
    """Checks that a node from a file names only classes of the packages ``allowed``.

    In a user's project, modules of the project that its ``configs/project.yaml`` lists are allowed, too.

    Raises:
        UserError: if the node names anything else, or holds an interpolation, which could read environment variables.
    """
    if "_target_" not in node:
        raise UserError("a saved model names no class to build (_target_); its file is damaged, choose another")
    project = Project.here()
    for target in targets(node):
        packaged = target.startswith(tuple(f"{package}." for package in allowed))
        if not (packaged or _is_trusted(target, project)) or not _is_defined_there(target):
            raise UserError(
                f"a saved model names {target}; allowed: classes of {', '.join(allowed)}"
                + ("" if project is None else f" and of the modules in saved_models_may_use of {MARK}")
                + "; load only models whose classes you trust"
            )
    if "${" in json.dumps(node, default=str):
        raise UserError("a saved model contains an interpolation (${...}); allowed: plain values; choose another model")


def _is_trusted(target: str, project: Project | None) -> bool:
    """Whether the project lists the module and contains it; an installed module of the same name is not trusted."""
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
    """Whether the module, or a module below it, defines the name.

    A name from elsewhere does not count: ``dreamset.models.recurrent.rssm.torch.hub.load`` would leave the package.
    """
    module, _, name = target.rpartition(".")
    try:
        value = getattr(import_module(module), name)
    except (ImportError, AttributeError):
        return False
    return f"{getattr(value, '__module__', None)}.".startswith(f"{module}.")


def targets(node: object) -> list[str]:
    """Every ``_target_`` in a nested node."""
    return [name for key, name in named(node) if key == TARGET]


def require_dataset(saved: SavedModel, wanted: str, folder: Path) -> None:
    """Checks that the model in ``folder`` was trained on the selected dataset, because datasets share output folders.

    Raises:
        UserError: if it was trained on another dataset.
    """
    trained_on = saved.lineage["dataset"]
    if trained_on != wanted:
        raise UserError(
            f"{folder} was trained on {trained_on}, not on {wanted}; choose dataset={trained_on}, or train with "
            f"dataset={wanted}"
        )


def load_world_model(folder: str | Path, device: str | torch.device = "cpu") -> tuple[Any, SavedModel]:
    """A trained world model, frozen and in evaluation mode, and its description."""
    made_by, folder = "dreamset train-world-model", user_path(folder)
    saved = read_description(folder, made_by=made_by, kind=WORLD_MODEL)
    model = restored(folder / WEIGHTS, saved.architecture, saved.spec, allowed=WORLD_MODEL_PARTS, made_by=made_by)
    return model.to(device).eval().requires_grad_(False), saved


def load_behavior(folder: str | Path, device: str | torch.device = "cpu") -> Learner:
    """A learned behaviour, frozen and in evaluation mode."""
    made_by, folder = "dreamset learn-behavior", user_path(folder)
    saved = read_description(folder, made_by=made_by, kind=POLICY)
    arguments = saved.lineage["feature_size"], saved.spec.action
    behavior: Learner = restored(
        folder / WEIGHTS, saved.architecture, *arguments, allowed=POLICY_PARTS, made_by=made_by
    )
    return behavior.to(device).eval().requires_grad_(False)


def save_reward(folder: Path, reward: RewardFunction) -> None:
    """Saves networks and constants of a reward function into the policy's folder; one without any saves nothing."""
    if reward.state_dict():
        save_weights(folder / REWARD, reward)


def load_reward(reward: RewardFunction, folder: Path) -> RewardFunction:
    """``reward`` with its networks and constants from the policy's folder.

    Policies of earlier versions have no constants; a reward function without networks can compute them again.
    """
    if reward.networks() or (reward.state_dict() and (folder / REWARD).exists()):
        load_weights(folder / REWARD, reward, made_by="dreamset learn-behavior")
    return reward
