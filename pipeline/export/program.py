"""``dreamset export``: writes a trained policy as one program that runs without this package.

The folder holds::

    policy.pt2    one step of the policy, written by ``torch.export``, for any number of parallel episodes
    policy.json   its inputs and outputs, and the origin of the policy
    policy.py     a short class that runs the program and needs only torch and numpy
    README.md     instructions
    mlflow/       with ``--mlflow``: an MLflow model that serves the policy over REST
"""

import copy
import inspect
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from dreamset.behaviors.base import Acting
from dreamset.behaviors.planning.controller import PlanningController
from dreamset.core.capabilities import Exportable, Prunable, Representation
from dreamset.core.errors import UserError
from dreamset.core.files import file_sha256, replaced_folder, write_text
from dreamset.core.states import named_tensors, with_tensors
from dreamset.pipeline.artifacts.acting import load_acting
from dreamset.pipeline.artifacts.goals import goals_of, towards
from dreamset.pipeline.artifacts.saved_models import (
    SavedModel,
    load_world_model,
    model_digest,
    read_description,
    require_dataset,
)
from dreamset.pipeline.config.compose import Config
from dreamset.pipeline.export.readme import readme
from dreamset.pipeline.export.standalone import policy as exported_policy
from dreamset.pipeline.files import write_json
from dreamset.pipeline.registry.registration import code_version
from dreamset.pipeline.stages import table as stages

FORMAT_VERSION = 1
OLDEST_TORCH = "2.13"  # the oldest release whose archives are tested to contain no pickle
LEARN = "dreamset learn-behavior"
PROGRAM, DESCRIPTION, RUNNER, MLFLOW = "policy.pt2", "policy.json", "policy.py", "mlflow"
CPU = torch.device("cpu")


def run(
    config: Config,
    *,
    world_model: Path | None,
    policy: Path | None,
    output: Path | None,
    mlflow: bool,
    models: Config | None = None,
) -> Path:
    """Exports the models in the given folders, or else those of the composed configuration. Returns the new folder.

    Args:
        config: the composed configuration.
        world_model: folder of the world model.
        policy: folder of the policy.
        output: the folder to write; None: the folder ``export`` beside those of the stages.
        mlflow: whether to add a model for ``mlflow models serve``.
        models: settings of the stage ``evaluate``, which name the models; None: those of ``config``.

    Raises:
        UserError: if the policy in the configuration's folder was trained on another dataset; see ``export_policy``.
    """
    settings, dataset = models or stages.evaluate(config), config["dataset"]["name"]
    folder = policy or Path(settings["policy"])
    saved = read_description(folder, made_by=LEARN)
    if policy is None:
        require_dataset(saved, dataset, folder)
    name = stages.run_key(config["choices"]["objective"], config["seed"])
    output = output or Path(settings["policy"]).parents[2] / "export" / name
    environment = settings["environment"] if saved.lineage["dataset"] == dataset else None
    export_policy(
        world_model or Path(settings["world_model"]),
        folder,
        output,
        environment=environment,
        acting=settings["acting"],
        mlflow=mlflow,
    )
    return output


def export_policy(
    world_model: Path,
    policy: Path,
    output: Path,
    *,
    environment: Mapping[str, Any] | None,
    acting: Mapping[str, Any] | None = None,
    mlflow: bool = False,
) -> None:
    """Creates or replaces the folder ``output``.

    Args:
        world_model: folder of the saved world model.
        policy: folder of the policy that was learned in this world model.
        output: a new or empty folder, or an earlier export.
        environment: settings of the policy's environment, which are copied into ``policy.json``.
        acting: how the policy acts; None: itself.
        mlflow: whether to add a model for ``mlflow models serve``.

    Raises:
        UserError: if a folder holds no such model, the two models do not belong together, ``output`` holds
            something else, or PyTorch is too old.
    """
    if torch.__version__ < OLDEST_TORCH:
        raise UserError(f"PyTorch is {torch.__version__}; export needs {OLDEST_TORCH} or newer; update PyTorch")
    _require_replaceable(output)
    model, saved_model = load_world_model(world_model, CPU)
    saved_policy = read_description(policy, made_by=LEARN)
    require_pair(world_model, saved_model, policy, saved_policy)
    model = towards(model, goals_of(saved_policy))
    controller = exportable(model, load_acting(policy, model, saved_model, CPU, acting=acting))
    with replaced_folder(output) as folder:
        torch.export.save(trace(controller), folder / PROGRAM)
        description = {
            **describe(controller),
            "environment": environment,
            "acting": acting,
            "plans": isinstance(controller, PlanningController),
            "lineage": dict(saved_policy.lineage),
            "digests": {"world_model": model_digest(world_model), "policy": model_digest(policy)},
            "program_sha256": file_sha256(folder / PROGRAM),
        }
        write_json(folder / DESCRIPTION, description)
        shutil.copyfile(exported_policy.__file__, folder / RUNNER)
        write_text(folder / "README.md", readme(description, served=mlflow))
        if mlflow:
            from dreamset.pipeline.export.mlflow_model import save_service  # loads MLflow

            save_service(folder / MLFLOW, folder, description)


def _require_replaceable(output: Path) -> None:
    free = not output.exists() or (output.is_dir() and not any(output.iterdir()))
    if not free and not (output / DESCRIPTION).is_file():
        raise UserError(
            f"{output} exists and is not an exported policy, so it is not replaced; choose another --output"
        )


def require_pair(world_model: Path, saved_model: SavedModel, policy: Path, saved_policy: SavedModel) -> None:
    """Checks that the policy was learned in the world model.

    Raises:
        UserError: if it was not.
    """
    origin = saved_policy.lineage["world_model"]
    if origin is None:  # saved by a release that recorded no digest
        matches = saved_policy.lineage["key"] == saved_model.lineage["key"]
    else:
        matches = origin["digest"] == model_digest(world_model)
    if not matches:
        raise UserError(
            f"{policy} was learned in another world model than {world_model}; choose a matching pair with "
            "--world-model and --policy"
        )


def exportable(model: Any, acting: Acting) -> Exportable[Any]:
    """The controller to export, without weights that acting does not need.

    Raises:
        UserError: if the controller's step cannot be traced.
    """
    prunable = isinstance(model, Prunable) and set(acting.acting_needs) <= {Representation}  # no plans, no rewards
    controller = acting.controller(model.for_acting() if prunable else copy.deepcopy(model))
    if isinstance(controller, PlanningController) and controller.optimizer.differentiates:
        raise UserError(
            f"{type(controller.optimizer).__name__} cannot be exported, because a program has no gradients of its "
            "score; choose another optimiser, such as acting/optimizer=cem"
        )
    if not isinstance(controller, Exportable) or not isinstance(controller, nn.Module):
        raise UserError(
            f"{type(acting).__name__} cannot be exported, because its controller {type(controller).__name__} cannot "
            "be traced into a program; choose a policy with an actor"
        )
    return controller.eval()


class NamedStep(nn.Module):
    """A controller's step on named tensors. Each output has the name of the input that it becomes at the next row."""

    def __init__(self, controller: Exportable[Any]) -> None:
        super().__init__()
        self.controller = controller
        self.memory = controller.initial(1)  # for the names of its tensors
        named = ("observations", "is_first", "noise", *named_tensors(self.memory))

        def forward(
            observations: dict[str, Tensor], is_first: Tensor, noise: Tensor, **memory: Tensor
        ) -> dict[str, Tensor]:
            action, after = controller.step(observations, is_first, with_tensors(self.memory, memory), noise)
            return {"action": action, **named_tensors(after)}

        # PyTorch takes the program's arguments from the signature, which is impossible with **memory
        parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in named]
        forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        self.forward = forward


def trace(controller: Exportable[Any]) -> ExportedProgram:
    """The step as a program for any number of rows, with arguments by name.

    Example inputs are removed, because PyTorch would pickle them into the archive.
    """
    inputs = example_inputs(controller)
    batch = Dim("batch", min=1)
    shapes = {
        name: {key: {0: batch} for key in value} if isinstance(value, dict) else {0: batch}
        for name, value in inputs.items()
    }
    with torch.no_grad():
        program = torch.export.export(NamedStep(controller), (), kwargs=inputs, dynamic_shapes=shapes, strict=False)
    program.example_inputs = None
    return program


def example_inputs(controller: Exportable[Any]) -> dict[str, Any]:
    """Zeros for two rows. With one row, PyTorch would specialise the program to a single row."""
    memory = named_tensors(controller.initial(2))
    return {
        "observations": {
            name: torch.zeros(2, *array.shape, dtype=getattr(torch, array.dtype))
            for name, array in sorted(controller.spec.observations.items())
        },
        "is_first": torch.ones(2, dtype=torch.bool),
        "noise": torch.zeros_like(controller.noise(2, torch.Generator())),
        **memory,
    }


def describe(controller: Exportable[Any]) -> dict[str, Any]:
    """The description of the program in ``policy.json``. Shapes exclude the axis of the rows."""
    inputs = example_inputs(controller)
    tensors = {name: _array(value) for name, value in inputs.items() if name != "observations"}
    observations = [{"name": name, **_array(value)} for name, value in inputs["observations"].items()]
    tensors["noise"]["distribution"] = controller.noise_distribution
    memory = {name: tensors[name] for name in named_tensors(controller.initial(2))}
    action = {"shape": [controller.spec.action.size], "dtype": "float32"}
    return {
        "format_version": FORMAT_VERSION,
        "inputs": {"observations": observations, **tensors},
        "outputs": {"action": action, **memory},
        "action_space": controller.spec.to_json()["action"],
        "versions": {"dreamset": code_version(), "torch": torch.__version__},
    }


def _array(value: Tensor) -> dict[str, Any]:
    return {"shape": list(value.shape[1:]), "dtype": str(value.dtype).removeprefix("torch.")}
