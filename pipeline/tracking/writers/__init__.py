"""Optional receivers of the reports beside MLflow: TensorBoard and Weights & Biases.

``DREAMSET_WRITERS=tensorboard,wandb`` chooses them. A stage notes its choice in the outbox; only the process that sends
to a writer imports the writer's package.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from dreamset.core.errors import UserError

VARIABLE = "DREAMSET_WRITERS"
FOLDER = Path("tracking")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of writer. Its name is also that of its package, of its extra, and of its folder in ``tracking/``."""

    title: str
    implementation: str  # module and class, which import the package
    destination: Callable[[], dict[str, str]]  # where the reports of a stage go, which a later change must not move


def _of_wandb() -> dict[str, str]:
    """As the package itself reads them from the environment. Its key stays there."""
    found = {name: os.environ.get(f"WANDB_{name.upper()}") for name in ("project", "entity", "mode")}
    return {"project": "dreamset"} | {name: value for name, value in found.items() if value}


WRITERS = {
    "tensorboard": Kind("TensorBoard", "dreamset.pipeline.tracking.writers.tensorboard:TensorBoard", dict),
    "wandb": Kind("Weights & Biases", "dreamset.pipeline.tracking.writers.weights_and_biases:WandB", _of_wandb),
}


def chosen() -> dict[str, Mapping[str, str]]:
    """The names of the chosen writers, with their destinations.

    Raises:
        UserError: if the environment variable names another writer.
    """
    names = [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]
    for name in names:
        if name not in WRITERS:
            raise UserError(f"{VARIABLE} contains {name!r}; allowed: {', '.join(WRITERS)}; change the variable")
    return {name: WRITERS[name].destination() for name in names}


def missing(name: str) -> str | None:
    """What to do if the package of a writer is not installed; None if it is."""
    if find_spec(name) is not None:
        return None
    return f"{name} is not installed; its reports wait until you run `pip install 'dreamset[{name}]'`"
