"""``dreamset list``: everything that a user can choose, each with one sentence."""

import ast
import textwrap
from collections.abc import Callable, Mapping
from importlib.resources import files

from dreamset.core.errors import UserError
from dreamset.pipeline.config.groups import description, documented, first_sentence, groups
from dreamset.pipeline.config.mistakes import nearest
from dreamset.pipeline.report.metrics import METRICS
from dreamset.pipeline.stages.table import COMPARE, STAGES

FACTORY = "make"  # the name of the function that makes an environment, in each module of ``environments/``
Entries = Mapping[str, str]  # name -> description

GROUPS = {  # what the groups of settings are for
    "acting": "how a behaviour acts: by its actor, with a filter, or by planning in the world model",
    "acting/optimizer": "how plans are searched",
    "adaptation": "which parts of an existing world model are trained further",
    "behavior": "how a policy is learned in imagination",
    "behavior/planner": "the network that plans latents in latent diffusion planning",
    "behavior_training": "published training of a behaviour",
    "dataset": "where the data come from",
    "decoder": "networks that reconstruct observations",
    "goals": "whether the behaviour acts towards goals, such as images",
    "objective": "the loss that shapes the representation",
    "preset": "all numbers of an experiment, for a scale or a generation",
    "reward": "what a policy maximises, e.g. with pessimism",
    "size": "published sizes of a generation's networks",
    "world_model": "the model of the environment",
    "objective/comparison": "what a consistency loss compares",
    "objective/target": "which weights the target of a consistency loss has",
    "reward/weight": "how strongly a penalty counts",
    "world_model/continue_head": "whether the model predicts the end of an episode",
    "world_model/divergence": "how the KL between posterior and prior is balanced",
    "world_model/dynamics/cell": "the recurrent cell",
    "world_model/dynamics/latent": "the distribution of the stochastic state",
    "world_model/ensemble": "several predictors, for the model's uncertainty",
    "world_model/ensemble/input": "what the one-step ensemble reads beside the action",
    "world_model/ensemble/target": "what the one-step ensemble predicts of the next row",
    "world_model/reward_head": "the distribution of the predicted reward",
    "world_model_training": "published training of a world model",
}


def entries(group: str | None) -> Entries:
    """The names of a group with their descriptions; without a group, all groups.

    Args:
        group: a folder of ``configs/``, also in the plural, or stages, environments or metrics.

    Raises:
        UserError: if there is no such group.
    """
    if group is None:
        return {
            **{name: GROUPS.get(name, "") for name in groups()},
            **{name: text for name, (text, _) in OTHERS.items()},
        }
    name = singular(group)
    if group in OTHERS:
        return OTHERS[group][1]()
    known = groups()
    if name in known:
        return {choice: description(path) for choice, path in known[name].items()}
    allowed = [*known, *OTHERS]
    close = nearest(name, allowed)
    hint = f"; did you mean {close}?" if close else ""
    raise UserError(f"GROUP is {group!r}; allowed: {', '.join(allowed)}{hint}")


def singular(group: str) -> str:
    """The name of a group's folder: ``datasets`` and ``behaviours`` are ``dataset`` and ``behavior``."""
    name = group.replace("-", "_").replace("behaviour", "behavior")
    return name[:-1] if name.endswith("s") and name[:-1] in groups() else name


def table(listed: Entries, width: int | None) -> str:
    """Names and descriptions in two columns of a terminal; without a width, separated by tabs."""
    if width is None:
        return "\n".join(f"{name}\t{text}".rstrip() for name, text in listed.items())
    indent = min(max(map(len, listed), default=0) + 2, width // 2)
    lines: list[str] = []
    for name, text in listed.items():
        start = name.ljust(indent)
        if len(name) >= indent:
            lines.append(name)
            start = " " * indent
        lines += textwrap.wrap(text, width, initial_indent=start, subsequent_indent=" " * indent) or [name]
    return "\n".join(lines)


def _stages() -> Entries:
    return {stage.command: stage.help for stage in (*STAGES.values(), COMPARE)}


def _environments() -> Entries:
    """The factories of the package, read without loading the libraries that they need."""
    listed = {}
    for path in sorted(files("dreamset.environments").iterdir(), key=lambda path: path.name):
        if not path.name.endswith(".py"):
            continue
        texts = documented(ast.parse(path.read_text()))
        if FACTORY in texts:
            name = f"dreamset.environments.{path.name.removesuffix('.py')}.{FACTORY}"
            listed[name] = first_sentence(texts[FACTORY]).replace("``", "")
    return listed


def _metrics() -> Entries:
    listed = {}
    for entry in METRICS:
        name = entry.pattern.replace("\\", "").replace("(d+)", "N").replace("(w+)", "NAME").replace("(.+)", "NAME")
        direction = "" if entry.better == "neither" else f" {entry.better.capitalize()} is better."
        listed[name] = f"{entry.meaning}{direction}"
    return listed


OTHERS: dict[str, tuple[str, Callable[[], Entries]]] = {  # lists that are no groups of settings
    "environments": ("factories for environment._target_ of a dataset", _environments),
    "metrics": ("the figures in metrics.json and MLflow, and what they mean", _metrics),
    "stages": ("the stages of the pipeline, in their order", _stages),
}
