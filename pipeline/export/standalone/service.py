"""An exported policy behind ``mlflow models serve``. MLflow runs this file by itself: it imports nothing of ours.

The service remembers nothing: a request holds the observations, the action and the state of the row before, and the
answer holds the action and the state to send with the next row.
"""

import runpy
from pathlib import Path
from typing import Any

import torch
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

OBSERVATION = "observations/"  # before the names of the observations
OTHERS = ("is_first",)  # inputs that are neither observations nor memory


class PolicyService(PythonModel):  # type: ignore[misc]  # MLflow is not typed
    """One step for each request; the model's signature has the names and shapes, which MLflow checks."""

    def load_context(self, context: Any) -> None:
        """Loads the policy with the class that was exported with it."""
        folder = Path(context.artifacts["pt2"]).parent
        self.policy = runpy.run_path(str(folder / "policy.py"))["Policy"](folder)

    # no types, since MLflow would take the input's for a schema
    def predict(self, model_input, params=None):  # type: ignore[no-untyped-def]
        """Action and state of every row.

        Args:
            model_input: arrays [N, ...] by the names of the signature.
            params: ``seed`` of the states' draws; without one no two answers have to be alike.

        Raises:
            MlflowException: if inputs have different numbers of rows; the client is told so.
        """
        rows = {name: len(value) for name, value in model_input.items()}
        if len(set(rows.values())) != 1:
            raise MlflowException.invalid_parameter_value(f"every input needs the same number of rows, got {rows}")
        seed = (params or {}).get("seed")
        generator = torch.Generator()
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(seed)
        observations = {
            name.removeprefix(OBSERVATION): value for name, value in model_input.items() if name.startswith(OBSERVATION)
        }
        memory = {
            name: torch.from_numpy(value)
            for name, value in model_input.items()
            if name not in OTHERS and not name.startswith(OBSERVATION)
        }
        after = self.policy.step(observations, model_input["is_first"], memory, generator)
        return {name: value.numpy() for name, value in after.items()}


set_model(PolicyService())
