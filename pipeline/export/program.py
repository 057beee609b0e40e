"""``dreamset export``: a learned policy as one program that runs without this package.

The folder holds::

    policy.pt2    one step as ``torch.export`` writes it, for any number of episodes side by side
    policy.json   its inputs and outputs, and where the policy comes from
    policy.py     a class that runs it: twenty lines on torch and numpy
    README.md     how to use it
    mlflow/       if asked for: an MLflow model that serves it over REST
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

from dreamset.behaviors.base import Learner
from dreamset.core.capabilities import Exportable, Prunable, require
from dreamset.core.errors import UserError
from dreamset.core.files import file_sha256, replaced_folder, write_text
from dreamset.core.states import named_tensors, with_tensors
from dreamset.pipeline.artifacts.saved_models import (
    SavedModel,
    load_behavior,
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
OLDEST_TORCH = "2.13"  # whose archives are known to hold no pickle; not every earlier one can write them so
LEARN = "dreamset learn-behavior"
PROGRAM, DESCRIPTION, RUNNER, MLFLOW = "policy.pt2", "policy.json", "policy.py", "mlflow"
CPU = torch.device("cpu")


def run(config: Config, *, world_model: Path | None, policy: Path | None, output: Path | None, mlflow: bool) -> Path:
    """Exports what a composed configuration chooses, or the folders that are given, and says where it lies.

    Raises:
        UserError: if the policy that lies where the configuration's would is another dataset's; see ``export_policy``.
    """
    chosen, wanted = stages.evaluate(config), config["dataset"]["name"]
    folder = policy or Path(chosen["policy"])
    described = read_description(folder, made_by=LEARN)
    if policy is None:
        require_dataset(described, wanted, folder)
    name = stages.run_key(config["choices"]["objective"], config["seed"])
    output = output or Path(config["paths"]["runs"]) / "export" / name
    environment = chosen["environment"] if described.lineage["dataset"] == wanted else None
    export_policy(world_model or Path(chosen["world_model"]), folder, output, environment=environment, mlflow=mlflow)
    return output


def export_policy(
    world_model: Path, policy: Path, output: Path, *, environment: Mapping[str, Any] | None, mlflow: bool = False
) -> None:
    """Makes or replaces the folder ``output``.

    Args:
        world_model: folder of the saved world model.
        policy: folder of the policy that was learned in it.
        output: a new or empty folder, or an earlier export.
        environment: settings of the environment that the policy is meant for, written down as they are.
        mlflow: whether to add a model for ``mlflow models serve``.

    Raises:
        UserError: if a folder is no such model, the two do not belong together, ``output`` is something else or PyTorch
            is too old.
    """
    if torch.__version__ < OLDEST_TORCH:
        raise UserError(f"export needs PyTorch {OLDEST_TORCH} or newer, this is {torch.__version__}; update it")
    _require_replaceable(output)
    model, of_model = load_world_model(world_model, CPU)
    learner = load_behavior(policy, CPU)
    described = read_description(policy, made_by=LEARN)
    _require_pair(world_model, of_model, policy, described)
    controller = exportable(model, learner)
    with replaced_folder(output) as fresh:
        torch.export.save(trace(controller), fresh / PROGRAM)
        description = {
            **describe(controller),
            "environment": environment,
            "lineage": dict(described.lineage),
            "digests": {"world_model": model_digest(world_model), "policy": model_digest(policy)},
            "program_sha256": file_sha256(fresh / PROGRAM),
        }
        write_json(fresh / DESCRIPTION, description)
        shutil.copyfile(exported_policy.__file__, fresh / RUNNER)
        write_text(fresh / "README.md", readme(description, served=mlflow))
        if mlflow:
            from dreamset.pipeline.export.mlflow_model import save_service  # loads MLflow

            save_service(fresh / MLFLOW, fresh, description)


def _require_replaceable(output: Path) -> None:
    free = not output.exists() or (output.is_dir() and not any(output.iterdir()))
    if not free and not (output / DESCRIPTION).is_file():
        raise UserError(f"{output} exists and is no exported policy, so it is not replaced; choose another --output")


def _require_pair(world_model: Path, of_model: SavedModel, policy: Path, of_policy: SavedModel) -> None:
    learned_in = of_policy.lineage["world_model"]
    if learned_in is None:  # saved by a release that recorded no digest
        belongs = of_policy.lineage["key"] == of_model.lineage["key"]
    else:
        belongs = learned_in["digest"] == model_digest(world_model)
    if not belongs:
        raise UserError(
            f"{policy} was learned in another world model than {world_model}; give two that belong together by "
            "--world-model and --policy"
        )


def exportable(model: Any, learner: Learner) -> Exportable[Any]:
    """The controller that is exported, with no weights that acting does not need.

    Raises:
        UserError: if its step is no function of tensors.
    """
    require(model, *learner.needs, by=type(learner).__name__)
    controller = learner.controller(model.for_acting() if isinstance(model, Prunable) else copy.deepcopy(model))
    if not isinstance(controller, Exportable) or not isinstance(controller, nn.Module):
        raise UserError(
            f"{type(learner).__name__} acts by {type(controller).__name__}, which cannot be traced into a program, so "
            "it cannot be exported; choose a policy with an actor"
        )
    return controller.eval()


class NamedStep(nn.Module):
    """A controller's step whose outputs are named like the inputs of the next row, tensors only."""

    def __init__(self, controller: Exportable[Any]) -> None:
        super().__init__()
        self.controller = controller
        self.memory = controller.initial(1)  # tells the names of its tensors
        named = ("observations", "is_first", "noise", *named_tensors(self.memory))

        def forward(
            observations: dict[str, Tensor], is_first: Tensor, noise: Tensor, **memory: Tensor
        ) -> dict[str, Tensor]:
            action, after = controller.step(observations, is_first, with_tensors(self.memory, memory), noise)
            return {"action": action, **named_tensors(after)}

        # PyTorch reads the program's arguments off the signature, and cannot do that with **memory
        parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in named]
        forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        self.forward = forward


def trace(controller: Exportable[Any]) -> ExportedProgram:
    """The step as a program for any number of rows; its arguments are given by name.

    The example inputs are left out, the one thing in the archive that PyTorch would pickle.
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
    """Zeros for two rows: one row would make the program one for a single row."""
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
    """What ``policy.json`` says of the program; shapes are without the axis of the rows."""
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
