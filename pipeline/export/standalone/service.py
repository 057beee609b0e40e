"""Serves an exported policy with ``mlflow models serve``. MLflow runs this file alone, so it imports only libraries.

The service has no memory. A request contains the observations, and the action and state of the previous row. The answer
contains the action and the state, which the client sends with the next row.
"""

import runpy
from pathlib import Path
from typing import Any

import torch
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

OBSERVATION = "observations/"  # prefix of the names of observations
OTHERS = ("is_first",)  # inputs that are neither observations nor memory


class PolicyService(PythonModel):  # type: ignore[misc]  # MLflow is not typed
    """Computes one step per request. MLflow checks names and shapes by the model's signature."""

    def load_context(self, context: Any) -> None:
        """Loads the policy with the class that was exported with it."""
        folder = Path(context.artifacts["pt2"]).parent
        self.policy = runpy.run_path(str(folder / "policy.py"))["Policy"](folder)

    # without types, because MLflow would use them as a schema
    def predict(self, model_input, params=None):  # type: ignore[no-untyped-def]
        """Action and state of every row.

        Args:
            model_input: arrays [N, ...] by the names of the signature.
            params: ``seed`` of the noise. Without it, equal requests may get different answers.

        Raises:
            MlflowException: if inputs have different numbers of rows; the client gets the message.
        """
        rows = {name: len(value) for name, value in model_input.items()}
        if len(set(rows.values())) != 1:
            raise MlflowException.invalid_parameter_value(
                f"the inputs have different numbers of rows: {rows}; send the same number"
            )
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
