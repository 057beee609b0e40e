"""Adapts any Gymnasium environment: named observations, true states and flat actions."""

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, SupportsFloat, TypedDict, Unpack

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit

from dreamset.core.errors import UserError
from dreamset.environments.actions import adapt_actions
from dreamset.environments.columns import Array, Leaf, leaves
from dreamset.environments.frames import Camera
from dreamset.environments.wrappers import Action, ActionRepeat, Environment, Observation, OwnRandomness


class Adaptation(TypedDict, total=False):
    """Settings common to the environments of all suites."""

    image_size: int | None  # edge of images in pixels; adds the rendered frame if no observation is an image
    action_repeat: int  # environment steps per agent step; rewards are summed. Default: 1
    episode_steps: int | None  # agent steps until the time limit. Default: the environment's own limit
    observations: Sequence[str] | None  # names to keep. Default: all, or only the rendered frame if it is added
    infos: Sequence[str]  # numeric infos to keep besides the true state. Default: none


def make(
    id: str,  # noqa: A002 - Gymnasium's own word
    *,
    settings: Mapping[str, Any] | None = None,
    **adaptation: Unpack[Adaptation],
) -> Environment:
    """The Gymnasium environment ``id``, adapted (see ``adapt``); for suites with a module here, use that module.

    Args:
        id: the registered id, or ``module:Id-v0`` to import the module that registers it.
        settings: further arguments of the environment.
        **adaptation: see ``Adaptation``.

    Raises:
        UserError: if the environment does not exist, a package is missing, or a space is not supported.
    """
    env = base(id, settings, own_limit=adaptation.get("episode_steps") is None)
    return adapt(env, id, **adaptation)


def base(
    id: str,  # noqa: A002
    settings: Mapping[str, Any] | None = None,
    *,
    own_limit: bool = True,
) -> gymnasium.Env[Any, Any]:
    """The environment as made by Gymnasium, rendering to arrays if possible; endless without ``own_limit``.

    Raises:
        UserError: if Gymnasium cannot make it.
    """
    # pygame renders into memory; the dummy driver makes it work without a display.
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    os.environ.setdefault("MUJOCO_GL", "egl")
    options: dict[str, Any] = {"disable_env_checker": True, **(settings or {})}
    if not own_limit:
        options["max_episode_steps"] = -1
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*not in the possible render_modes")  # many render nevertheless
            return _rendering(id, options)
    except (gymnasium.error.Error, ImportError, AttributeError, TypeError, RuntimeError) as error:
        raise UserError(f"Gymnasium cannot make {id!r}: {' '.join(str(error).split())}") from error


def _rendering(id: str, options: Mapping[str, Any]) -> gymnasium.Env[Any, Any]:  # noqa: A002
    try:
        return gymnasium.make(id, **{"render_mode": "rgb_array", **options})
    except TypeError as error:
        if "unexpected keyword argument 'render_mode'" not in str(error):
            raise
        return gymnasium.make(id, **options)


def adapt(
    env: gymnasium.Env[Any, Any],
    name: str,
    *,
    image_size: int | None = None,
    action_repeat: int = 1,
    episode_steps: int | None = None,
    observations: Sequence[str] | None = None,
    infos: Sequence[str] = (),
) -> Environment:
    """Wraps an environment with named observations, ``info["state"]`` and flat float32 actions.

    Observations become columns as in ``columns.py``: an unnamed vector is ``state``, an unnamed image is ``image``, and
    entries of a Dict keep their names. ``info["state"]`` concatenates all vectors of the environment's observation,
    even if they are not selected; it is absent if all observations are images. Actions are float32 vectors or one-hot
    rows.

    Args:
        env: the environment of the suite.
        name: name for messages.
        image_size: see ``Adaptation``, also for the other arguments.
        action_repeat: environment steps per agent step.
        episode_steps: agent steps until the time limit.
        observations: names of observations to keep.
        infos: names of infos to keep.

    Raises:
        UserError: if a space is not supported, a name does not exist, or a number is too small.
    """
    for setting, value in {"image_size": image_size, "episode_steps": episode_steps}.items():
        if value is not None and value < 1:
            raise UserError(f"{name}: {setting} is {value}; allowed: 1 or more, or null")
    if action_repeat < 1:
        raise UserError(f"{name}: action_repeat is {action_repeat}; allowed: 1 or more")
    repeated = ActionRepeat(OwnRandomness(env), action_repeat, combine=sum)
    named = NamedObservations(repeated, name, image_size=image_size, observations=observations, infos=infos)
    adapted = adapt_actions(named, name)
    return adapted if episode_steps is None else TimeLimit(adapted, max_episode_steps=episode_steps)


class NamedObservations(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Observations as named columns; ``info`` has only the true state and the selected infos."""

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        name: str,
        *,
        image_size: int | None,
        observations: Sequence[str] | None,
        infos: Sequence[str],
    ) -> None:
        super().__init__(env)
        self.name = name
        self.infos = tuple(infos)
        by_name = {leaf.name: leaf for leaf in leaves(env.observation_space, image_size)}
        known: dict[str, Leaf | Camera] = dict(by_name)
        default = list(by_name)
        if image_size is not None and not any(leaf.column and leaf.column.is_image for leaf in by_name.values()):
            known["image"] = Camera(env, image_size, name)
            default = ["image"]
        selected = default if observations is None else list(observations)
        self._readers = {column: _reader(known, column, name) for column in selected}
        self._truth = [leaf for leaf in by_name.values() if leaf.column and not leaf.column.is_image]
        self.observation_space = spaces.Dict({column: _space(known[column], image_size) for column in selected})

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """The first observation; infos that exist only after a step are missing."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._observe(observation), self._inform(observation, info)

    def step(self, action: Action) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """One step."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        missing = [name for name in self.infos if name not in info]
        if missing:
            raise UserError(f"{self.name} has no info {missing}; available: {sorted(info)}; fix the setting infos")
        return self._observe(observation), reward, terminated, truncated, self._inform(observation, info)

    def _observe(self, observation: Any) -> Observation:
        return {name: read(observation) for name, read in self._readers.items()}

    def _inform(self, observation: Any, info: Mapping[str, Any]) -> dict[str, Any]:
        kept = {name: _numbers(info[name], name, self.name) for name in self.infos if name in info}
        if self._truth:
            kept["state"] = np.concatenate([leaf.read(observation) for leaf in self._truth])
        return kept


def _reader(known: Mapping[str, Leaf | Camera], column: str, name: str) -> Callable[[Any], Array]:
    usable = sorted(other for other, leaf in known.items() if isinstance(leaf, Camera) or leaf.column)
    if column not in known:
        raise UserError(f"{name} has no observation {column!r}; available: {usable}")
    source = known[column]
    if isinstance(source, Camera):
        return lambda _: source()
    if source.column is None:
        raise UserError(
            f"{name}: observation {column!r} is a {type(source.space).__name__} without a fixed number of values; "
            f"choose among {usable} with the setting observations"
        )
    return source.read


def _space(source: Leaf | Camera, image_size: int | None) -> spaces.Box:
    if isinstance(source, Camera):
        assert image_size is not None
        return spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
    assert source.column is not None
    return source.column.space


def _numbers(value: Any, info: str, name: str) -> Array:
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise UserError(f"{name}: info {info!r} is {type(value).__name__}, expected numbers; omit it")
    return array
