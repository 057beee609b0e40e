"""``dreamset show``: what a stage will get, and who decided it."""

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
    """The yaml that ``stage`` gets, exactly as ``dreamset resolve`` writes it.

    Args:
        stage: of the table.
        overrides: Hydra's.
        origin: whether a comment behind each value names the file or the override that set it.
    """
    composition = composed(overrides)
    require_effect(composition.without_effect)
    config = with_code(stage.name, stage(composition.config), composition.config)
    if not origin:
        return as_yaml(config)
    return "\n".join(_lines(config, "", _origins(stage, composition))) + "\n"


def _origins(stage: Stage, composition: Composition) -> Origin:
    found = composition.origins()
    given = {override_key(text): text for text in composition.overrides}
    chosen = {f"choices.{group}": given.get(group, "chosen by default or by the preset") for group in GROUPS}

    def origin(key: str) -> str:
        first, dot, rest = key.partition(".")
        ours = stage.sources.get(first, first) + dot + rest
        if ours.partition(".")[0] not in composition.raw:
            return "follows from the choices"
        if ours in chosen:
            return chosen[ours]
        source = source_key(composition.raw, ours)
        where = origin_of(source, found) or "the default of the schema"
        return where if source == ours else f"{where}: {source}"

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
    """``name: value`` on one line."""
    return yaml.safe_dump(node, default_flow_style=True, width=10**6).strip()[1:-1]
