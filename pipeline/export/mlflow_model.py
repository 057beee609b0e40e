"""Saves an exported policy as an MLflow model from code, for ``mlflow models serve``."""

import logging
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from dreamset.core.files import write_text
from dreamset.core.variables import environment_variable

TORCH = torch.__version__.partition("+")[
    0
]  # without the build's name, such as +cpu, which package registries do not know
CODE = (
    Path(__file__).parent / "standalone" / "service.py"
)  # it is copied into the model and imports nothing of this package


def save_service(folder: Path, exported: Path, description: Mapping[str, Any]) -> None:
    """Writes the MLflow model ``folder``: code, program and description, without a pickle.

    MLflow runs the model once on the example that it stores as ``serving_input_example.json``.

    Args:
        folder: must not exist.
        exported: the folder with the program, its description and ``policy.py``.
        description: the content of ``policy.json``.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # MLflow reads it when it is imported
    os.environ.setdefault("DO_NOT_TRACK", "true")
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec

    def schema(specs: Mapping[str, Mapping[str, Any]]) -> Any:
        return Schema([TensorSpec(np.dtype(spec["dtype"]), (-1, *spec["shape"]), name) for name, spec in specs.items()])

    logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)
    inputs = named_inputs(description)
    signature = ModelSignature(
        inputs=schema(inputs),
        outputs=schema(description["outputs"]),
        params=ParamSchema([ParamSpec("seed", "long", default=None)]),
    )
    with (
        environment_variable("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false"),
        warnings.catch_warnings(record=True),  # MLflow asks for type hints, which say less than the signature
    ):
        mlflow.pyfunc.save_model(
            folder,
            python_model=CODE,
            artifacts={ending: str(exported / f"policy.{ending}") for ending in ("pt2", "json", "py")},
            signature=signature,
            input_example=(first_row(inputs), {"seed": 0}),
            pip_requirements=[f"mlflow=={mlflow.__version__}", f"numpy=={np.__version__}", f"torch=={TORCH}"],
        )
    _remove_absolute_paths(folder / "MLmodel")


def _remove_absolute_paths(path: Path) -> None:
    """Removes this machine's paths, which MLflow writes but does not need: all files lie in the model's folder."""
    model = yaml.safe_load(path.read_text(encoding="utf-8"))
    flavor = model["flavors"]["python_function"]
    flavor["model_code_path"] = Path(flavor["model_code_path"]).name
    for artifact in flavor["artifacts"].values():
        artifact["uri"] = artifact["path"]
    write_text(path, yaml.safe_dump(model))


def named_inputs(description: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of a request by flat names: all inputs except the noise, which the service samples."""
    inputs = description["inputs"]
    observations = {f"observations/{spec['name']}": spec for spec in inputs["observations"]}
    rest = {name: spec for name, spec in inputs.items() if name not in ("observations", "noise")}
    return observations | rest


def first_row(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """An example request: zeros, at the start of one episode."""
    return {
        name: np.full((1, *spec["shape"]), name == "is_first", np.dtype(spec["dtype"])) for name, spec in inputs.items()
    }
