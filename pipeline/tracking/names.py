"""What MLflow calls things: the names of rows, of parameters and of metrics.

A name is short, and two rows that differ in a choice of a person have different names.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from dreamset.pipeline.report.metrics import metric

SEPARATOR = " · "
HEADLINES = "comparison"  # section of the headline figures, the first one by the alphabet
SECTIONS = {
    "cost": "workload",
    "cloning": "imitation",
}  # other names in MLflow: costs come last, nothing before HEADLINES
LONGEST_NAME = 200  # characters of a row's name; MLflow's table cuts it anyway
FIRST = ("dataset", "objective", "preset", "generation", "seed")  # parameters that tell what a row is

# Sections of the configuration that a later stage reads. Training reads the others.
STAGE_OF_SECTION = {
    "behavior": "learn_behavior",
    "behavior_training": "learn_behavior",
    "reward": "learn_behavior",
    "imagination": "learn_behavior",
    "acting": "evaluate",  # fine-tuning has the parameter `online_acting`
    "evaluation": "evaluate",
    "finetuning": "finetune",
}
SHORT_SECTION = {
    "acting": "acting.",
    "behavior_training": "behavior.",
    "evaluation": "evaluation.",
    "finetuning": "finetune.",
}

# stage -> short name of a parameter -> its key in the settings of the stage
PARAMETERS: Mapping[str, Mapping[str, str]] = {
    "train_world_model": {
        "updates": "training.updates",
        "batch": "training.batch.size",
        "length": "training.batch.length",
        "learning_rate": "training.optimizer.lr",
    },
    "learn_behavior": {
        "behavior": "behavior",
        "reward": "reward",
        "horizon": "behavior.horizon",
        "discount": "behavior.discount",
        "behavior_updates": "training.updates",
        "behavior_batch": "training.batch.size",
        "behavior_seed": "seed",
    },
    "evaluate": {"acting": "acting", "episodes": "evaluation.episodes", "evaluation_seed": "evaluation.seed"},
    "finetune": {
        "online_acting": "acting",
        "online_steps": "finetuning.environment_steps",
        "online_share": "finetuning.online_share",
        "train_ratio": "finetuning.train_ratio",
    },
    "ingest": {
        "dataset": "dataset",
        "source": "source",
        "validation_fraction": "split.validation_fraction",
        "split_seed": "split.seed",
        "compression": "settings.compression",
    },
    "compare": {"dataset": "dataset", "objectives": "objectives", "seeds": "seeds", "episodes": "evaluation.episodes"},
}


def parameters(
    stage: str, settings: Mapping[str, Any], choices: Mapping[str, str], overrides: Sequence[str]
) -> dict[str, Any]:
    """What a person chooses for a stage, by short names.

    A part has the name by which it was chosen, or else that of its class. Overridden values of other settings follow.
    """
    chosen: dict[str, Any] = {}
    for name, path in PARAMETERS.get(stage, {}).items():
        value = _at(settings, path)
        if value is None or isinstance(value, Mapping):
            value = choices.get(path) or _class(value or {})
        if value is not None:
            chosen[name] = ", ".join(map(str, value)) if isinstance(value, list) else value
    known = {path.rpartition(".")[2] for path in PARAMETERS.get(stage, {}).values()} | chosen.keys() | {*FIRST}
    for text in of_stage(stage, overrides):
        name, _, value = short_override(text).partition("=")
        if name.rpartition(".")[2] not in known:
            chosen[name] = value
    return chosen


def of_stage(stage: str, overrides: Sequence[str]) -> list[str]:
    """The overrides that concern this stage; those of no later stage concern the training."""
    sections = ((text, re.split(r"[./=]", text.lstrip("+~"))[0]) for text in overrides)
    return [text for text, key in sections if STAGE_OF_SECTION.get(key, "train_world_model") == stage and key != "seed"]


def short_override(text: str) -> str:
    """``horizon=10`` for ``behavior.horizon=10``; sections with equal keys keep a prefix."""
    key, equals, value = text.lstrip("+~").partition("=")
    section, _, _ = key.partition(".")
    last = re.split(r"[./]", key)[-1]
    prefix = SHORT_SECTION.get(section, "") if last != section else ""
    return f"{prefix}{last}{equals}{value}"


def row_name(identity: Mapping[str, Any], overrides: Sequence[str]) -> str:
    """``pendulum_pixels · reconstruction · small · s0``, and what differs from the preset.

    The generation is part of the name if the preset does not tell it. ``identity`` is that of ``rows.Place``.
    """
    preset, generation = identity["preset"], identity["generation"]
    parts = [identity["dataset"], identity["objective"], preset]
    parts += [generation] if preset is None or not identity["preset_tells_generation"] else []
    parts += [f"s{identity['seed']}", *map(short_override, overrides)]
    parts += [f"adapted from {identity['adapted_from']}"] if identity["adapted_from"] else []
    parts += ["fine-tuned"] if identity["fine_tuned"] else []
    name = SEPARATOR.join(str(part) for part in parts if part is not None)
    name = " ".join(re.sub(r"[\"'`]", "", name).split())
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def stage_metrics(values: Mapping[str, float]) -> dict[str, float]:
    """Metrics by the names that MLflow shows, which sorts sections of charts by the alphabet; see ``SECTIONS``."""
    return {_in_section(name, SECTIONS): value for name, value in values.items()}


def stored_metrics(values: Mapping[str, float]) -> dict[str, float]:
    """The inverse of ``stage_metrics``."""
    return {_in_section(name, {shown: section for section, shown in SECTIONS.items()}): values[name] for name in values}


def row_metrics(values: Mapping[str, float]) -> dict[str, float]:
    """The metrics of a row: a copy of the headline figures is in a section of its own, before all others."""
    first = {f"{HEADLINES}/{name.rpartition('/')[2]}": value for name, value in values.items() if metric(name).headline}
    return first | stage_metrics(values)


def _in_section(name: str, sections: Mapping[str, str]) -> str:
    section, slash, rest = name.partition("/")
    return f"{sections.get(section, section)}{slash}{rest}" if slash else name


def _at(settings: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path; None if it is missing."""
    value: Any = settings
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _class(node: Mapping[str, Any]) -> str | None:
    target = node.get("_target_")
    return None if target is None else str(target).rpartition(".")[2]
