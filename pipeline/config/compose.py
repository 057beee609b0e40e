"""Composes configurations with Hydra. Every mistake becomes one line that states what to do."""

import logging
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any, cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue, OmegaConfBaseException

from dreamset.core.errors import UserError
from dreamset.moved import current_name
from dreamset.pipeline.config import checks
from dreamset.pipeline.config.groups import config_folders, groups
from dreamset.pipeline.config.mistakes import (
    dotted_keys,
    dotted_values,
    hint,
    override_key,
    quoted,
    wrong_grammar,
    wrong_name,
)
from dreamset.pipeline.config.origins import Origins, replayed
from dreamset.pipeline.config.settings import Config as Config
from dreamset.pipeline.config.settings import schema_keys
from dreamset.pipeline.config.trust import TARGET
from dreamset.pipeline.tracking.labels import Labels

GROUPS = ("dataset", "objective", "world_model", "behavior", "preset", "adaptation")
WITHOUT_PLUS = (
    "size",
    "goals",
    "adaptation",
    "world_model_training",
    "behavior_training",
)  # groups before which a plus is ignored
TOLD = ("dataset", "objective", "preset")  # choices that no label repeats
NO_SEED = re.compile("seed=(?:null)?", re.IGNORECASE)
NOT_SET = re.compile(r"Could not (?:override|append|delete)[^']*'([^'=]+)")
NO_NAME = re.compile(
    r"(?:In '(?P<file>[^']+)': )?Could not find '(?P<group>[^']+)/(?P<name>[^'/]*)' "
    r"Available options in '[^']+': (?P<names>.*?)(?= Config search path|$)"
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Composition:
    """A checked configuration with its overrides and interpolations."""

    config: Config  # plain values; ``choices`` names the selected parts
    raw: Config  # with interpolations
    overrides: Sequence[str]
    chosen: Mapping[str, str]  # group -> name, of all groups that are not null
    without_effect: Mapping[str, str]  # key of an override that nothing reads -> the settings that are read instead

    @property
    def labels(self) -> Labels:
        """What a person chose: the names of parts, and what was overridden besides data, objective and preset."""
        return Labels(self.chosen, [text for text in self.overrides if override_key(text) not in TOLD])

    def origins(self) -> Origins:
        """The file or the override that set each key."""
        return origins(self.overrides)


def compose(overrides: Sequence[str]) -> Config:
    """The whole configuration as plain values, without interpolations. ``choices`` names the selected parts.

    Args:
        overrides: Hydra's syntax, e.g. ``["objective=contrastive", "network.hidden=200"]``.

    Raises:
        UserError: for wrong syntax, an unknown choice or key, a wrong value, a part with wrong arguments, or an
            override that nothing reads.
    """
    composition = composed(overrides)
    require_effect(composition.without_effect)
    return composition.config


def composed(overrides: Sequence[str]) -> Composition:
    """As ``compose``, but the caller checks overrides without effect, because other compositions may read them."""
    _require_grammar(overrides)
    overrides = _without_plus(overrides)
    _refuse_old_names(override_key(text) for text in overrides)
    composition, choices = _compose(overrides)
    set_keys = [key for key in map(override_key, overrides) if key not in choices]
    raw = cast("Config", OmegaConf.to_container(composition, resolve=False))
    config: Config = _with_current_names(_plain(composition, overrides))
    read = checks.read_by_parts(raw)
    mistakes = checks.mistakes(config, read)
    if mistakes:
        raise UserError(f"configuration: {checks.message(mistakes, raw, set_keys, lambda: origins(overrides))}")
    dead = checks.without_effect(config, read, set_keys)
    config["behavior_training"] = _of_networks(config["behavior_training"])
    chosen = {group: name for group, name in choices.items() if name is not None and not group.startswith("hydra/")}
    return Composition(config, raw, overrides, chosen, dead)


def values(overrides: Sequence[str]) -> dict[str, Any]:
    """Every value that is no section, with its dotted key and its interpolations; overrides of keys are ignored.

    Raises:
        UserError: for wrong syntax or an unknown choice.
    """
    _require_grammar(overrides)
    composition, _ = _compose([text for text in _without_plus(overrides) if "." not in override_key(text)])
    return dict(dotted_values(cast("Config", OmegaConf.to_container(composition, resolve=False))))


def combinations(overrides: Sequence[str]) -> list[list[str]]:
    """One list of overrides per run of a sweep: all combinations of the overrides with several values, in their order.

    ``objective=a,b seed=0,1`` and ``seed=range(0,2)`` are sweeps in Hydra's grammar.
    """
    _require_grammar(overrides)
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    values = [
        [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
        if override.is_sweep_override()
        else [text]
        for override, text in zip(parsed, overrides, strict=True)
    ]
    return [list(combination) for combination in product(*values)]


def with_drawn_seed(overrides: Sequence[str]) -> list[str]:
    """The overrides with a number in place of ``seed=null``, which is told so that the run can be repeated."""
    number = secrets.randbelow(1 << 31)
    drawn = [f"seed={number}" if NO_SEED.fullmatch(text) else text for text in overrides]
    if drawn != list(overrides):
        log.warning("seed: drawn, %d; seed=%d repeats this run", number, number)
    return drawn


def origins(overrides: Sequence[str]) -> Origins:
    """The file or the override that set each key last."""
    with _translated(overrides), _initialized():
        return replayed(GlobalHydra.instance().config_loader(), overrides)


def require_effect(without_effect: Mapping[str, str]) -> None:
    """Refuses overrides without effect.

    Raises:
        UserError: for the first override that nothing reads.
    """
    for key, instead in without_effect.items():
        raise UserError(f"configuration: {key} is set, but nothing reads it; {instead}")


def _require_grammar(overrides: Iterable[str]) -> None:
    parser = OverridesParser.create()
    for text in overrides:
        try:
            parser.parse_override(text)
        except HydraException:
            raise UserError(f"configuration: {wrong_grammar(text)}") from None
        if not override_key(text):
            raise UserError(f"configuration: {wrong_grammar(text)}")


def _without_plus(overrides: Iterable[str]) -> list[str]:
    return [text.lstrip("+") if override_key(text) in WITHOUT_PLUS else text for text in overrides]


def _refuse_old_names(keys: Iterable[str]) -> None:
    for key in keys:
        new_name = checks.renamed(key)
        if new_name is not None:
            raise UserError(f"configuration: {key} is now {new_name}; change the override")


def _compose(overrides: Sequence[str]) -> tuple[DictConfig, dict[str, str | None]]:
    """The configuration, and the name that is chosen in each group."""
    with _translated(overrides), _initialized():
        composed = hydra_compose("config", overrides=list(overrides), return_hydra_config=True)
        assert isinstance(composed, DictConfig)
        choices = composed.hydra.runtime.choices
        with open_dict(composed):
            del composed["hydra"]
            composed.choices = {group: choices[group] for group in GROUPS}
        return composed, dict(choices)


def _plain(composed: DictConfig, overrides: Sequence[str]) -> Config:
    with _translated(overrides):
        return cast("Config", OmegaConf.to_container(composed, resolve=True, throw_on_missing=True))


def _with_current_names(node: Any) -> Any:
    """Replaces the old names of parts by their present ones."""
    if isinstance(node, list):
        return [_with_current_names(value) for value in node]
    if not isinstance(node, dict):
        return node
    renamed = {name: _with_current_names(value) for name, value in node.items()}
    if isinstance(renamed.get(TARGET), str):
        renamed[TARGET] = current_name(renamed[TARGET])
    return renamed


@contextmanager
def _translated(overrides: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except (MissingMandatoryValue, InterpolationToMissingValueError) as error:
        missing = error.full_key if isinstance(error, MissingMandatoryValue) else _one_line(error)
        raise UserError(f"configuration: {missing} has no default; set it with {missing}=...") from None
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # a ValueError: a number as a group's choice
        raise UserError(f"configuration: {_explained(_one_line(error), overrides)}") from None


def _explained(message: str, overrides: Sequence[str]) -> str:
    """Hydra's message, or a clearer one for mistakes that Hydra does not explain."""
    if "--multirun" in message:
        several = re.search(r"'([^']+)'", message)
        override = several[1] if several else message
        return (
            f"{override} has several values, but a stage takes one; run the stage once per value with -m, list several "
            "objectives or seeds in params.yaml, write a list in brackets: [1,2], or quote a comma that belongs to the "
            f"value: {quoted(override)}"
        )
    if message.startswith(("Config group override must be a string", "Missing key")):
        return _no_name(overrides) or message
    if message.startswith("Interpolation key"):
        return f"{message}; ${{NAME}} refers to another setting, ${{oc.env:NAME}} to an environment variable"
    missing = NO_NAME.search(message)
    if missing is not None:
        given = missing["group"] in map(override_key, overrides)
        where = "" if given or not missing["file"] else f"configs/{missing['file']}.yaml: "
        return f"{where}{wrong_name(missing['group'], missing['name'], missing['names'].split())}"
    unknown = NOT_SET.search(message)
    if unknown is not None:
        return _unknown_override(override_key(unknown[1]), overrides) or message
    return f"{message.partition(' Config search path')[0]} (overrides: {' '.join(overrides) or 'none'})"


def _no_name(overrides: Sequence[str]) -> str | None:
    """What to write instead of null, or another value that is no name, as the choice of a group."""
    known = groups()
    for text in overrides:
        key, _, value = text.partition("=")
        names = known.get(override_key(text))
        if names is not None and value not in names:
            return f"{key} is {value or 'null'}; allowed: {', '.join(names)}; or leave {key}=... out for the default"
    return None


def _having(group: str) -> str:
    """The choices with which a group below another one, such as ``acting/optimizer``, can be chosen."""
    parent, _, last = group.rpartition("/")
    entry = re.compile(rf"^ *- {re.escape(last)}:", re.MULTILINE)
    having = [name for name, path in groups().get(parent, {}).items() if entry.search(path.read_text())]
    return f"choose {' or '.join(f'{parent}={name}' for name in having)} too" if having else "leave it out"


def _unknown_override(key: str, overrides: Sequence[str]) -> str | None:
    """Why Hydra cannot set ``key``; None if the key exists without this override, or no override names it."""
    if key not in map(override_key, overrides):  # a file overrides it
        return None
    composition, _ = _compose(
        [text for text in overrides if "." not in override_key(text) and override_key(text) != key]
    )
    raw = cast("Config", OmegaConf.to_container(composition, resolve=False))
    composed_keys = set(dotted_keys(raw))
    if key in composed_keys:
        return None
    section = key.partition(".")[0]
    if "/" not in section and section in groups() and section not in raw:
        return f"{key} belongs to none of the selected parts; choose {section}={' or '.join(groups()[section])} too"
    if key in schema_keys():
        read = checks.read_by_parts(raw)
        return f"{key} is set, but nothing reads it; {checks.read_instead(key, raw['choices'], read)}"
    if key in groups():
        return f"{key} belongs to none of the selected parts; {_having(key)}"
    names = set() if "." in key else groups().keys()
    return f"{key} is unknown{hint(key, composed_keys | schema_keys() | names)}"


@contextmanager
def _initialized() -> Iterator[None]:
    """Initialises Hydra with the folders of ``config_folders``. The last one contains all groups."""
    Plugins.instance().register(ProjectFirst)
    with initialize_config_dir(str(config_folders()[-1]), version_base="1.3"):
        yield


class ProjectFirst(SearchPathPlugin):  # type: ignore[misc] # Hydra has no types
    """Makes Hydra search the configurations of a project before those of the package."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Hydra calls this for every search path, also for those of other programs in this process."""
        *first, complete = config_folders()
        if any(element.path.removeprefix("file://") == str(complete) for element in search_path.get_path()):
            for folder in first:
                search_path.prepend("project", f"file://{folder}", anchor="main")


def _one_line(error: Exception) -> str:
    """Hydra's message without its blank lines and hints about other syntaxes."""
    cause = error.__cause__ if error.__cause__ is not None else error
    lines = [line.strip() for line in f"{error}\n{cause}".splitlines()]
    seen = dict.fromkeys(
        line for line in lines if line and not line.startswith(("full_key", "object_type", "To append"))
    )
    return " ".join(seen)


def _of_networks(training: Config) -> Config:
    """The training with the optimisers of the behaviour's networks, or with all that are not null if it names none."""
    listed = training.get("networks")
    names = list(training["optimizers"]) if listed is None else listed
    optimizers = {name: node for name, node in training["optimizers"].items() if node is not None and name in names}
    return {key: value for key, value in training.items() if key != "networks"} | {"optimizers": optimizers}
