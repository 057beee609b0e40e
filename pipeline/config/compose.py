"""Hydra composition, with every mistake translated into one line that says what to do."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue, OmegaConfBaseException

from dreamset.core.errors import UserError
from dreamset.pipeline.config.project import Project

Config = dict[str, Any]
GROUPS = ("dataset", "objective", "world_model", "behavior", "preset", "adaptation")
AT_LEAST_ONE = (
    *("collection.episodes", "collection.reference_episodes"),
    *("behavior_training.updates", "imagination.horizon", "behavior.horizon"),
    *("validation.every", "validation.episodes", "validation.context", "validation.starts"),
    *("validation.probe_episodes", "validation.video_episodes"),
    *("evaluation.episodes", "evaluation.resamples", "evaluation.video_episodes"),
)
BOUNDS = {  # of numbers that would only fail deep within a stage
    **dict.fromkeys(AT_LEAST_ONE, (1, math.inf)),
    "world_model_training.updates": (0, math.inf),  # none: a reused model as it is
    "evaluation.seed": (0, math.inf),
    "evaluation.confidence": (0, 1),
}


def compose(overrides: Sequence[str]) -> Config:
    """The whole configuration as plain values, interpolations resolved; ``choices`` names the chosen parts.

    Args:
        overrides: Hydra's syntax, e.g. ``["objective=contrastive", "network.hidden=200"]``.

    Raises:
        UserError: for an unknown key, an unknown choice, bad syntax, a value of another type than the default's or a
            number that leaves nothing to do.
    """
    composed = _compose(overrides)
    config = _plain(composed, overrides)
    choices = [text for text in overrides if _key(text) in GROUPS]
    named = [_key(text) for text in overrides if text not in choices]
    if named:
        unresolved = cast("Config", OmegaConf.to_container(_compose(choices), resolve=False))
        required = {key for key, value in _leaves(unresolved) if value == "???"}  # no default tells their type
        defaults = [text for text in overrides if text in choices or _key(text) in required]
        _check_types(_plain(_compose(defaults), defaults), config, named)
    _check_numbers(config, named)
    return config


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _compose(overrides: Sequence[str]) -> DictConfig:
    with _translated(overrides), _initialized():
        composed = hydra_compose("config", overrides=list(overrides), return_hydra_config=True)
        assert isinstance(composed, DictConfig)
        chosen = composed.hydra.runtime.choices
        with open_dict(composed):
            del composed["hydra"]
            composed.choices = {group: chosen[group] for group in GROUPS}
        return composed


def _plain(composed: DictConfig, overrides: Sequence[str]) -> Config:
    with _translated(overrides):
        return cast("Config", OmegaConf.to_container(composed, resolve=True, throw_on_missing=True))


@contextmanager
def _translated(overrides: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except (MissingMandatoryValue, InterpolationToMissingValueError) as error:
        missing = error.full_key if isinstance(error, MissingMandatoryValue) else _one_line(error)
        raise UserError(f"configuration: {missing} has no default, give it: {missing}=...") from None
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(f"configuration: {_one_line(error)} (overrides: {' '.join(overrides) or 'none'})") from None


@contextmanager
def _initialized() -> Iterator[None]:
    """Hydra with the folders of ``config_folders``, of which the last one is whole."""
    Plugins.instance().register(ProjectFirst)
    with initialize_config_dir(str(config_folders()[-1]), version_base="1.3"):
        yield


class ProjectFirst(SearchPathPlugin):  # type: ignore[misc] # of Hydra, which has no types
    """Puts the configurations of a project before those of the package."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Called by Hydra for every search path, also for those of other programs in this process."""
        *first, whole = config_folders()
        if any(element.path.removeprefix("file://") == str(whole) for element in search_path.get_path()):
            for folder in first:
                search_path.prepend("project", f"file://{folder}", anchor="main")


def config_folders() -> list[Path]:
    """Where configurations are looked for, in this order.

    In a clone the working folder's ``configs/`` alone, which is whole; in a project of the user's its ``configs/``,
    then the package's; elsewhere the package's alone.
    """
    own, installed = Path("configs").resolve(), Path(str(files("dreamset.configs"))).resolve()
    if (own / "config.yaml").exists():
        return [own]
    return [installed] if Project.here() is None else [own, installed]


def _one_line(error: Exception) -> str:
    """Hydra's message without its blank lines and hints about other syntaxes."""
    cause = error.__cause__ if error.__cause__ is not None else error
    lines = [line.strip() for line in f"{error}\n{cause}".splitlines()]
    seen = dict.fromkeys(
        line for line in lines if line and not line.startswith(("full_key", "object_type", "To append"))
    )
    return " ".join(seen)


def _check_types(defaults: Config, config: Config, named: Sequence[str]) -> None:
    """Hydra has no schema here: the default's type is the schema. Keys that the user named are reported first."""
    expected = dict(_leaves(defaults))
    for key, value in sorted(_leaves(config), key=lambda leaf: leaf[0] not in named):
        default = expected.get(key)
        if default is not None and value is not None and not _same_kind(default, value):
            raise UserError(f"configuration: {key} takes {type(default).__name__} (default {default!r}), got {value!r}")


def _check_numbers(config: Config, named: Sequence[str]) -> None:
    for key, value in sorted(_leaves(config), key=lambda leaf: leaf[0] not in named):
        if key not in BOUNDS:
            continue
        low, high = BOUNDS[key]
        if value is None or not low <= value <= high:
            allowed = f"{low} or more" if high == math.inf else f"{low} to {high}"
            raise UserError(f"configuration: {key} is {value}, allowed is {allowed}")


def _same_kind(default: object, value: object) -> bool:
    if isinstance(default, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is type(default)


def _leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{key}.")
        else:
            yield key, value
