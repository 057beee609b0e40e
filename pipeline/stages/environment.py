"""The environment of a dataset, for the stages that need one."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dreamset.core.errors import UserError
from dreamset.environments.checked import Checks, make_checked
from dreamset.environments.wrappers import Environment
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.config.settings import EpisodeLimits, Part


@dataclass(frozen=True, slots=True)
class EnvironmentFactory:
    """Makes environments whose mistakes are errors of one line. It can be sent to another process."""

    make: Callable[[], Environment]
    checks: Checks

    def __call__(self) -> Environment:
        """A new environment.

        Raises:
            UserError: if it cannot be made.
        """
        return make_checked(self.make, self.checks)


def require_environment(environment: Part | None, *, stage: str, remedy: str) -> Part:
    """The environment of a stage that cannot do without one.

    Args:
        environment: ``environment`` of the dataset.
        stage: name of the stage, for the message.
        remedy: what to do instead of naming an environment, for the message.

    Raises:
        UserError: if the dataset has none.
    """
    if environment is None:
        raise UserError(
            f"dataset.environment is null, but the stage {stage} needs an environment; name one in the dataset's yaml, "
            f"or {remedy}"
        )
    return environment


def environment_factory(environment: Part, limits: EpisodeLimits, *, output: str) -> EnvironmentFactory:
    """A function that makes one environment.

    Args:
        environment: ``environment`` of the dataset.
        limits: of each episode.
        output: of the stage. The traceback of an exception in the environment is written beside it.

    Raises:
        UserError: if the settings of the environment are wrong.
    """
    make = build_part(environment)
    target = str(environment["_target_"])
    if not callable(make):
        raise UserError(
            f"dataset.environment: {target} returned {type(make).__name__}, not a function that makes environments; "
            "add _partial_: true"
        )
    traceback_file = Path(f"{output}.traceback.txt")
    traceback_file.unlink(missing_ok=True)  # of an earlier run
    name = f"environment {target}" + (f" ({environment['id']})" if "id" in environment else "")
    return EnvironmentFactory(make, Checks(name, limits.steps, limits.seconds, limits.step_seconds, traceback_file))
