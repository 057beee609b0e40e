"""The environment of a dataset, for the stages that need one."""

from collections.abc import Callable

from dreamset.core.errors import UserError
from dreamset.environments.wrappers import Environment
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.config.settings import Part


def environment_factory(environment: Part | None, *, stage: str, remedy: str) -> Callable[[], Environment]:
    """A function that makes one environment.

    Args:
        environment: ``environment`` of the dataset.
        stage: name of the stage, for the message.
        remedy: what to do instead of naming an environment, for the message.

    Raises:
        UserError: if the dataset has no environment, or its settings are wrong.
    """
    if environment is None:
        raise UserError(
            f"dataset.environment is null, but the stage {stage} needs an environment; name one in the dataset's yaml, "
            f"or {remedy}"
        )
    make: Callable[[], Environment] = build_part(environment)
    return make
