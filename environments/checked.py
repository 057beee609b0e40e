"""Checks what an environment returns, so that a mistake in it is one line that says where it is."""

import logging
import sysconfig
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsFloat, TypeVar

import gymnasium
import numpy as np
from gymnasium import spaces

from dreamset.core.errors import UserError
from dreamset.core.files import write_text
from dreamset.core.spec import GOAL_PREFIX, ArraySpec, DataSpec
from dreamset.environments.actions import choices
from dreamset.environments.watchdog import WATCHDOG, Expired
from dreamset.environments.wrappers import Action, Environment, Observation

T = TypeVar("T")

# Code of others, the wrappers here included: the place of a mistake is the last call outside of it.
_INSTALLED = (*(sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib")), str(Path(__file__).parent))
_NUMBERS = "fiub"  # kinds of NumPy's numbers

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Checks:
    """How an environment is named in messages, and what it may not exceed."""

    name: str
    steps: int  # of an episode
    seconds: float  # of reset and all steps of an episode
    step_seconds: float  # of one reset or step
    traceback_file: Path | None = None  # gets the traceback of an exception


def make_checked(make: Callable[[], Any], checks: Checks) -> "Checked":
    """A new environment with checks.

    Raises:
        UserError: if it cannot be made, or is not an environment with named observations.
    """
    made = guarded(make, checks, "making it")
    if not isinstance(made, gymnasium.Env) or not isinstance(made.observation_space, spaces.Dict):
        came = f"observations from {made.observation_space}" if isinstance(made, gymnasium.Env) else repr(made)[:100]
        raise UserError(
            f"{checks.name} gives {came}; expected: a gymnasium.Env whose observation space is a Dict; wrap it with "
            f"dreamset.environments.gym.adapt"
        )
    return Checked(made, checks)


class Checked(gymnasium.Wrapper[Any, Action, Any, Action]):
    """An environment whose exceptions, hangs and wrong values are one-line errors with episode and step."""

    def __init__(self, env: Environment, checks: Checks) -> None:
        super().__init__(env)
        assert isinstance(env.observation_space, spaces.Dict)
        self.checks = checks
        self._expected = dict(env.observation_space.spaces)
        self._seed: int | None = None
        self._steps = 0
        self._seconds = 0.0  # in the environment, since its last reset began

    def __str__(self) -> str:
        return self.checks.name

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """The first observation."""
        self._seed, self._steps, self._seconds = seed, 0, 0.0
        returned = self._timed(lambda: self.env.reset(seed=seed, options=options), "reset")
        observation, info = self._unpacked(returned, ("observation", "info"), "reset")
        self._check_observation(observation)
        return observation, info

    def step(self, action: Action) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """One step."""
        if not np.isfinite(action).all():
            raise self._error(f"the policy's action is {np.asarray(action).tolist()}", "train the policy again")
        if self._steps == self.checks.steps:
            raise self._error(
                "the episode has not ended",
                "fix the environment, set a time limit in dataset.environment, or raise episode_limits.steps",
            )
        if self._seconds > self.checks.seconds:
            raise self._error(
                f"the episode has taken {self._seconds:.3g} s and has not ended",
                "fix the environment, set a time limit in dataset.environment, or raise episode_limits.seconds",
            )
        self._steps += 1
        returned = self._timed(lambda: self.env.step(action), "step")
        names = ("observation", "reward", "terminated", "truncated", "info")
        observation, reward, terminated, truncated, info = self._unpacked(returned, names, "step")
        self._check_observation(observation)
        return observation, self._checked_reward(reward), terminated, truncated, info

    def render(self) -> Any:
        """A frame [H, W, 3] of bytes."""
        frame: Any = self._guarded(self.env.render, "render")
        if np.ndim(frame) != 3 or np.asarray(frame).dtype != np.uint8:
            raise self._error(f"render returned {_described(frame)}", "expected: an array [H, W, 3] of uint8")
        return frame

    def close(self) -> None:
        """Closes the environment. An exception is a warning, because all episodes have been played."""
        try:
            self._guarded(self.env.close, "close")
        except UserError as error:
            log.warning("%s", error)

    def _timed(self, call: Callable[[], T], name: str) -> T:
        began = time.monotonic()
        try:
            return self._guarded(call, name)
        finally:
            self._seconds += time.monotonic() - began

    def _guarded(self, call: Callable[[], T], name: str) -> T:
        return guarded(call, self.checks, name, self._place())

    def _place(self) -> str:
        return f", episode with seed {self._seed}, step {self._steps}"

    def _error(self, finding: str, remedy: str = "fix the environment") -> UserError:
        return UserError(f"{self.checks.name}{self._place()}: {finding}; {remedy}")

    def _unpacked(self, returned: Any, names: tuple[str, ...], method: str) -> tuple[Any, ...]:
        if isinstance(returned, tuple) and len(returned) == len(names):
            return returned
        came = f"{len(returned)} values" if isinstance(returned, tuple) else _described(returned)
        raise self._error(f"{method} returned {came}; expected: {', '.join(names)}")

    def _check_observation(self, observation: Any) -> None:
        if not isinstance(observation, Mapping):
            raise self._error(f"the observation is {_described(observation)}; expected: a dictionary")
        for name, space in self._expected.items():
            if name not in observation:
                raise self._error(f"the observation lacks {name!r}; it has {sorted(observation)}")
            value = np.asarray(observation[name])
            if value.shape != space.shape or not _same_kind(value.dtype, space.dtype):
                raise self._error(
                    f"observation {name!r} is {_described(value)}; expected: {_array(space.dtype, space.shape)}, as in "
                    "its observation_space"
                )
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise self._error(f"observation {name!r} has {_not_finite(value)}; expected: finite numbers")

    def _checked_reward(self, reward: Any) -> float:
        try:
            number = float(reward)
        except (TypeError, ValueError):
            raise self._error(f"the reward is {_described(reward)}; expected: a number") from None
        if not np.isfinite(number):
            raise self._error(f"the reward is {number}; expected: a finite number")
        return number


def guarded(call: Callable[[], T], checks: Checks, name: str, place: str = "") -> T:
    """The result of a call of the environment.

    Args:
        call: runs the environment's code.
        checks: name and limits.
        name: of the call, for messages.
        place: episode and step, for messages.

    Raises:
        UserError: in place of any exception, and if the call takes too long.
    """
    late = (
        f"{checks.name}{place}: {name} has not returned after {checks.step_seconds:g} s; fix the environment, or raise "
        "episode_limits.step_seconds"
    )
    try:
        with WATCHDOG.watch(checks.step_seconds, lambda: late):
            return call()
    except UserError:
        raise
    except Expired as error:
        raise UserError(f"{late}{_keep_traceback(error, checks.traceback_file)}") from error
    except Exception as error:
        what = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}".rstrip(": ")
        raise UserError(
            f"{checks.name}{place}: {name} raised {what}, {_origin(error)}; fix the environment"
            f"{_keep_traceback(error, checks.traceback_file)}"
        ) from error


def _origin(error: BaseException) -> str:
    """The place of the last call in the user's own code, or of the last call at all."""
    calls = traceback.extract_tb(error.__traceback__)
    own = [call for call in calls if not call.filename.startswith(_INSTALLED)]
    last = (own or calls)[-1]
    return f"{last.filename}:{last.lineno}"


def _keep_traceback(error: BaseException, path: Path | None) -> str:
    """Writes the traceback. Returns the end of the message, which says where."""
    if path is None:
        return ""
    try:
        write_text(path, "".join(traceback.format_exception(error)))
    except OSError:
        return ""
    return f" (traceback: {path})"


def require_fit(environment: Environment, spec: DataSpec) -> None:
    """Checks before the first episode that a model with this data specification can act in the environment.

    Raises:
        UserError: if an observation is missing or has another shape, kind of numbers or encoder, actions differ, or the
            model acts towards goals that the environment does not show.
    """
    space = environment.observation_space
    offered = dict(space.spaces) if isinstance(space, spaces.Dict) else {}
    goals = sorted(name for name in spec.observations if name.startswith(GOAL_PREFIX) and name not in offered)
    if goals:
        raise UserError(
            f"{environment} does not show the goal: {', '.join(goals)} missing among its observations, "
            f"{', '.join(offered)}; choose an environment with goals, or learn the behaviour without goals=future"
        )
    differences = [
        difference
        for name, array in spec.observations.items()
        if (difference := _difference(name, array, offered.get(name))) is not None
    ]
    differences += _action_difference(environment, spec)
    if differences:
        has = ", ".join(f"{name}: {_space(part)}" for name, part in offered.items())
        raise UserError(
            f"{environment} does not fit the model's data: {'; '.join(differences)}. It offers {has or space}; change "
            "the settings of dataset.environment, or take a model that was trained on such data"
        )


def _difference(name: str, array: ArraySpec, space: spaces.Space[Any] | None) -> str | None:
    if space is None:
        return f"observation {name!r} is missing, expected: {array}"
    same_encoder = getattr(space, "encoder", None) == array.encoder
    if space.shape == array.shape and _same_kind(space.dtype, np.dtype(array.dtype)) and same_encoder:
        return None
    return f"observation {name!r} is {_space(space)}, expected: {array}"


def _action_difference(environment: Environment, spec: DataSpec) -> list[str]:
    space, action = environment.action_space, spec.action
    kind = "one-hot rows" if action.discrete else "vectors"
    if isinstance(space, spaces.Box) and space.shape == (action.size,) and _one_hot(environment) == action.discrete:
        return []
    return [f"actions are from {choices(environment) or space}, expected: {kind} of {action.size} numbers"]


def _one_hot(environment: Environment) -> bool:
    """Whether the environment takes choices."""
    return choices(environment) is not None


def _same_kind(first: Any, second: Any) -> bool:
    """Whether both are bytes of images, or both are other numbers, which become float32."""
    if first is None or second is None or np.dtype(first).kind not in _NUMBERS:
        return False
    return bool((first == np.uint8) == (second == np.uint8))


def _space(space: spaces.Space[Any]) -> str:
    return str(ArraySpec(space.shape or (), str(space.dtype), getattr(space, "encoder", None)))


def _array(dtype: Any, shape: tuple[int, ...] | None) -> str:
    return f"{dtype} {list(shape or ())}"


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return _array(value.dtype, value.shape)
    return repr(value) if value is None or isinstance(value, (str, int, float)) else type(value).__name__


def _not_finite(value: np.ndarray[Any, Any]) -> str:
    wrong = value[~np.isfinite(value)]
    return f"{wrong.size} of {value.size} numbers that are not finite ({wrong[0]})"
