"""Checks a composed configuration against the schema, its parts against their signatures, and overrides for effect."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from dreamset.core.errors import UserError
from dreamset.pipeline.config import targets, trials
from dreamset.pipeline.config.interpolation import is_read, read_keys, source_key
from dreamset.pipeline.config.mistakes import UNKNOWN, Mistake, below, dotted_keys, of_error
from dreamset.pipeline.config.origins import Origins, origin_of
from dreamset.pipeline.config.settings import Config, Settings, schema_keys

Checked = TypeVar("Checked", bound=BaseModel)
CHOICES = "choices"  # section with the names of the selected parts; users do not set it
SHARED = {
    "network",
    "weights",
    "free_nats",
    "free_bits",
    "imagination",
    "tanh_normal",
    "collection",
    "decoder",
}  # sections that parts read
OPTIMIZERS = "behavior_training.optimizers"
RENAMED = {  # key of an earlier release -> its present name
    "behavior_training.actor_optimizer": f"{OPTIMIZERS}.actor",
    "behavior_training.critic_optimizer": f"{OPTIMIZERS}.critic",
}


def renamed(key: str) -> str | None:
    """The present name of a key of an earlier release; None if its name has not changed."""
    for old, new in RENAMED.items():
        if below(key, old):
            return new + key.removeprefix(old)
    return None


def read_by_parts(raw: Config) -> set[str]:
    """The shared settings that the selected parts read. Stages never read the sections of ``SHARED`` directly."""
    return read_keys(raw, raw.keys() - SHARED)


def checked(model: type[Checked], node: object, *, where: str) -> Checked:
    """``node`` as the settings that ``model`` describes.

    Args:
        model: the schema.
        node: the content of a file.
        where: the file's name, for the message.

    Raises:
        UserError: for the first mistake.
    """
    if not isinstance(node, dict):
        raise UserError(f"{where} is not a mapping; it needs the keys {', '.join(model.model_fields)}")
    try:
        return model.model_validate_json(json.dumps(node, default=str), strict=True)
    except ValidationError as error:
        detail = _unknown_first(error)[0]
        mistake = of_error(detail, dotted(detail["loc"], node), schema_keys(model))
        raise UserError(f"{where}: {mistake.key or 'the file'} {mistake.finding}") from None


def mistakes(config: Config, read: set[str]) -> list[Mistake]:
    """All mistakes against the schema; if there are none, those in the arguments of parts, then those of optimisers.

    Args:
        config: the configuration with resolved interpolations.
        read: see ``read_by_parts``.
    """
    settings = {name: value for name, value in config.items() if name != CHOICES}
    parts = {name: value for name, value in settings.items() if name != "decoder"}  # the objective contains it
    return _schema_mistakes(settings, read) or list(targets.mistakes(parts)) or list(trials.mistakes(settings))


def _schema_mistakes(config: Config, read: set[str]) -> list[Mistake]:
    try:
        Settings.model_validate_json(json.dumps(config, default=str), strict=True)
    except ValidationError as error:
        errors = [(detail, dotted(detail["loc"], config)) for detail in _unknown_first(error)]
    else:
        return []
    unknown = {key for detail, key in errors if detail["type"] == UNKNOWN}
    known = {key for key in dotted_keys(config) if not is_read(key, unknown)} | schema_keys()
    mistakes = []
    for detail, key in errors:
        new_name = renamed(key)
        if new_name is not None:
            mistakes.append(Mistake(key, f"is now {new_name}; rename it"))
        elif detail["type"] != UNKNOWN or not _extends(key, read):
            mistakes.append(of_error(detail, key, known))
    return mistakes


def _unknown_first(error: ValidationError) -> list[ErrorDetails]:
    """The errors, unknown keys first. A misspelt key also causes an error for its missing correct name."""
    return sorted(error.errors(), key=lambda detail: detail["type"] != UNKNOWN)


def _extends(key: str, read: set[str]) -> bool:
    """Whether an unknown key is a shared setting of a user's own part, which reads it."""
    section = key.partition(".")[0]
    return (section in SHARED or section not in Settings.model_fields) and is_read(key, read)


def dotted(location: Sequence[int | str], config: Config) -> str:
    """The dotted key of pydantic's location. Entries that are no keys name branches of the schema, and are skipped."""
    key, node = "", cast("Any", config)
    for place, name in enumerate(location, start=1):
        inside = isinstance(node, list) or (isinstance(node, Mapping) and name in node)
        if isinstance(name, int):
            key += f"[{name}]"
        elif inside or place == len(location):
            key += f".{name}"
        if inside:
            node = node[name]
    return key.removeprefix(".")


def message(mistakes: Sequence[Mistake], raw: Config, set_keys: Sequence[str], origins: Callable[[], Origins]) -> str:
    """One line about one mistake. Mistakes in overrides come before mistakes in files.

    Args:
        mistakes: at least one.
        raw: the configuration with its interpolations.
        set_keys: keys of the overrides.
        origins: returns the files that set the keys; called only if no override caused the mistake.
    """

    def overridden(key: str) -> bool:
        return any(below(key, name) or below(name, key) for name in set_keys)

    by_source = [(source_key(raw, mistake.key) if mistake.of_value else mistake.key, mistake) for mistake in mistakes]
    key, mistake = min(by_source, key=lambda pair: not overridden(pair[0]))
    line = f"{key} {mistake.finding}"
    if key != mistake.key:
        line += f"; {mistake.key} reads this value"
    if overridden(key):
        return line
    origin = origin_of(re.sub(r"\[.*", "", key), origins())
    return line if origin is None else f"{line} (in {origin})"


def without_effect(config: Config, read: set[str], set_keys: Sequence[str]) -> dict[str, str]:
    """Overrides that no selected part reads, each with the settings that are read instead."""
    dead = {key: read_instead(key, config[CHOICES], read) for key in set_keys if _is_dead(key, read)}
    networks = config["behavior_training"].get("networks")
    if networks is not None:
        others = [f"{OPTIMIZERS}.{name}." for name in config["behavior_training"]["optimizers"] if name not in networks]
        behavior = config[CHOICES]["behavior"]
        instead = f"behavior={behavior} has the networks {', '.join(networks)}"
        dead |= {key: instead for key in set_keys if key.startswith(tuple(others))}
    return dead


def _is_dead(key: str, read: set[str]) -> bool:
    return key.partition(".")[0] in SHARED - {"decoder"} and not is_read(key, read)


def read_instead(key: str, choices: Mapping[str, str], read: set[str]) -> str:
    """The settings in the section of ``key`` that the selected parts read, in words."""
    section = key.partition(".")[0]
    names = sorted(name for name in read if below(name, section))
    parts = " ".join(f"{group}={choices[group]}" for group in ("objective", "world_model", "behavior"))
    return f"of {section}, {parts} read {', '.join(names) or 'nothing'}"
