"""``dreamset show``: the settings of a stage, and the file or override that set each of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import yaml

from dreamset.pipeline.config.compose import GROUPS, Composition, composed, require_effect
from dreamset.pipeline.config.dependencies import with_code
from dreamset.pipeline.config.interpolation import source_key
from dreamset.pipeline.config.mistakes import override_key
from dreamset.pipeline.config.origins import origin_of
from dreamset.pipeline.stages.resolve import as_yaml
from dreamset.pipeline.stages.table import Stage

Origin = Callable[[str], str]


def show(stage: Stage, overrides: Sequence[str], *, origin: bool) -> str:
    """The settings of ``stage`` as yaml, exactly as ``dreamset resolve`` writes them.

    Args:
        stage: a stage of the table.
        overrides: in Hydra's syntax.
        origin: whether a comment after each value names the file or the override that set it.
    """
    composition = composed(overrides)
    require_effect(composition.without_effect)
    config = with_code(stage.name, stage(composition.config), composition.config)
    if not origin:
        return as_yaml(config)
    return "\n".join(_lines(config, "", _origins(stage, composition))) + "\n"


def _origins(stage: Stage, composition: Composition) -> Origin:
    files = composition.origins()
    overrides = {override_key(text): text for text in composition.overrides}
    choices = {f"choices.{group}": overrides.get(group, "the default or the preset") for group in GROUPS}

    def origin(key: str) -> str:
        first, dot, rest = key.partition(".")
        composed_key = stage.sources.get(first, first) + dot + rest
        if composed_key.partition(".")[0] not in composition.raw:
            return "computed from other settings"
        if composed_key in choices:
            return choices[composed_key]
        source = source_key(composition.raw, composed_key)
        where = origin_of(source, files) or "the default of the schema"
        return where if source == composed_key else f"{where}: {source}"

    return origin


def _lines(node: Mapping[str, Any], above: str, origin: Origin) -> Iterator[str]:
    indent = "  " * (above.count("/"))
    for name, value in sorted(node.items()):
        key = f"{above.replace('/', '.')}{name}"
        if isinstance(value, Mapping) and value:
            yield f"{indent}{name}:"
            yield from _lines(value, f"{above}{name}/", origin)
        else:
            yield f"{indent}{_flow({name: value})} # {origin(key)}"


def _flow(node: Mapping[str, Any]) -> str:
    """``name: value`` as yaml on one line."""
    return yaml.safe_dump(node, default_flow_style=True, width=10**6).strip()[1:-1]
