"""Checks a composed configuration: against the schema, parts against what they name, overrides for having an effect."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from dreamset.core.errors import UserError
from dreamset.pipeline.config import targets
from dreamset.pipeline.config.interpolation import is_read, read_keys, source_key
from dreamset.pipeline.config.mistakes import UNKNOWN, Mistake, below, dotted_keys, of_error
from dreamset.pipeline.config.origins import Origins, origin_of
from dreamset.pipeline.config.settings import Config, Settings, schema_keys

Checked = TypeVar("Checked", bound=BaseModel)
BESIDE = "choices"  # names the chosen parts; composed, but nobody sets it
SHARED = {"network", "weights", "free_nats", "free_bits", "imagination", "tanh_normal", "collection", "decoder"}
OPTIMIZERS = "behavior_training.optimizers"
RENAMED = {
    "behavior_training.actor_optimizer": f"{OPTIMIZERS}.actor",
    "behavior_training.critic_optimizer": f"{OPTIMIZERS}.critic",
}


def renamed(key: str) -> str | None:
    """What a key of an earlier release is called now; None if it is called the same."""
    for old, new in RENAMED.items():
        if below(key, old):
            return new + key.removeprefix(old)
    return None


def read_by_parts(raw: Config) -> set[str]:
    """The shared settings that the chosen parts read. No stage reads ``SHARED`` itself, so other sections must."""
    return read_keys(raw, raw.keys() - SHARED)


def checked(model: type[Checked], node: object, *, where: str) -> Checked:
    """``node`` as the settings that ``model`` describes.

    Args:
        model: the schema.
        node: from a file.
        where: the file, for the message.

    Raises:
        UserError: for the first mistake in it.
    """
    if not isinstance(node, dict):
        raise UserError(f"{where} must be a mapping with the keys {', '.join(model.model_fields)}")
    try:
        return model.model_validate_json(json.dumps(node, default=str), strict=True)
    except ValidationError as error:
        detail = _unknown_first(error)[0]
        found = of_error(detail, dotted(detail["loc"], node), schema_keys(model))
        raise UserError(f"{where}: {found.key or 'it'} {found.finding}") from None


def mistakes(config: Config, read: set[str]) -> list[Mistake]:
    """Against the schema first: parts are looked at once everything around them has its place.

    Args:
        config: resolved.
        read: see ``read_by_parts``.
    """
    checked = {name: value for name, value in config.items() if name != BESIDE}
    found = _schema_mistakes(checked, read)
    parts = {name: value for name, value in checked.items() if name != "decoder"}  # the objective holds it
    return found or list(targets.mistakes(parts))


def _schema_mistakes(config: Config, read: set[str]) -> list[Mistake]:
    try:
        Settings.model_validate_json(json.dumps(config, default=str), strict=True)
    except ValidationError as error:
        errors = [(detail, dotted(detail["loc"], config)) for detail in _unknown_first(error)]
    else:
        return []
    unknown = {key for detail, key in errors if detail["type"] == UNKNOWN}
    known = {key for key in dotted_keys(config) if not is_read(key, unknown)} | schema_keys()
    found = []
    for detail, key in errors:
        now = renamed(key)
        if now is not None:
            found.append(Mistake(key, f"is now {now}; rename it"))
        elif detail["type"] != UNKNOWN or not _extends(key, read):
            found.append(of_error(detail, key, known))
    return found


def _unknown_first(error: ValidationError) -> list[ErrorDetails]:
    """A misspelt key is missing as well, but under the name that the user did not write."""
    return sorted(error.errors(), key=lambda detail: detail["type"] != UNKNOWN)


def _extends(key: str, read: set[str]) -> bool:
    """Whether an unknown key is a shared setting of a user's own part: something reads it."""
    section = key.partition(".")[0]
    return (section in SHARED or section not in Settings.model_fields) and is_read(key, read)


def dotted(location: Sequence[int | str], config: Config) -> str:
    """Where pydantic found something; what is no key of the configuration names a branch of the schema."""
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


def in_words(found: Sequence[Mistake], raw: Config, set_keys: Sequence[str], origins: Callable[[], Origins]) -> str:
    """One line about the mistake that the user is most likely to have just made: in an override, then in a file.

    Args:
        found: at least one.
        raw: with interpolations.
        set_keys: of the overrides.
        origins: asked only if no override is to blame.
    """

    def overridden(key: str) -> bool:
        return any(below(key, name) or below(name, key) for name in set_keys)

    by_source = [(source_key(raw, mistake.key) if mistake.of_value else mistake.key, mistake) for mistake in found]
    key, mistake = min(by_source, key=lambda pair: not overridden(pair[0]))
    line = f"{key} {mistake.finding}"
    if key != mistake.key:
        line += f" by {mistake.key}, which reads it"
    if overridden(key):
        return line
    origin = origin_of(re.sub(r"\[.*", "", key), origins())
    return line if origin is None else f"{line} (in {origin})"


def without_effect(config: Config, read: set[str], set_keys: Sequence[str]) -> dict[str, str]:
    """Overrides of what no chosen part reads, each with what is read instead."""
    dead = {key: read_instead(key, config[BESIDE], read) for key in set_keys if _is_dead(key, read)}
    networks = config["behavior_training"].get("networks")
    if networks is not None:
        others = [f"{OPTIMIZERS}.{name}." for name in config["behavior_training"]["optimizers"] if name not in networks]
        behavior = config[BESIDE]["behavior"]
        instead = f"the networks of behavior={behavior} are {', '.join(networks)}"
        dead |= {key: instead for key in set_keys if key.startswith(tuple(others))}
    return dead


def _is_dead(key: str, read: set[str]) -> bool:
    return key.partition(".")[0] in SHARED - {"decoder"} and not is_read(key, read)


def read_instead(key: str, choices: Mapping[str, str], read: set[str]) -> str:
    """What the chosen parts read of the section in which ``key`` stands."""
    section = key.partition(".")[0]
    names = sorted(name for name in read if below(name, section))
    chosen = " ".join(f"{group}={choices[group]}" for group in ("objective", "world_model", "behavior"))
    return f"of {section}, {chosen} read {', '.join(names) or 'nothing'}"
