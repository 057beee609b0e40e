"""What a stage says about itself, so that the delivery finds the row in MLflow where it belongs.

All of it is for display. Nothing here enters the settings or the outputs of a stage.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from dreamset.pipeline.tracking import labels, names

PARAMS = Path("params.yaml")
LINEAGE = "dreamset.lineage"  # tag with the lineage key of the world model
GROUPS = ("dataset", "objective", "generation", "preset", "task", "seed", "adapted_from")  # tags that group runs
GIT_SECONDS = 10.0
EXPERIMENT_NAME = "DVC_EXP_NAME"  # set by `dvc exp run`


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a stage among the rows of its world model."""

    stage: str
    key: str  # digest of the stage's settings and inputs
    lineage: Mapping[str, Any]  # of the world model
    resumed: bool = False  # whether the stage goes on from a checkpoint
    world_model: str | None = None  # digest of the model that the stage uses
    policy: str | None = None
    task: str | None = None  # None: as the dataset

    def plain(self) -> dict[str, Any]:
        """Plain values for the outbox."""
        chosen, identity = labels.current(), self._identity()
        return {
            **asdict(self),
            "lineage": self.lineage["key"],
            "identity": identity,
            "name": names.row_name(identity, [text for text in chosen.overrides if not text.startswith("seed=")]),
            "dataset_digest": self.lineage["dataset_digest"],
            "overrides": names.of_stage(self.stage, chosen.overrides),
            "command": command(chosen),
        }

    def _identity(self) -> dict[str, Any]:
        """The choices that name a row."""
        choices, lineage = labels.current().choices, self.lineage
        parent = lineage.get("parent") or {}
        name = parent.get("name")
        return {
            "dataset": lineage["dataset"],
            "objective": lineage["objective"],
            "generation": lineage["generation"],
            "preset": choices.get("preset"),
            "preset_tells_generation": choices.get("world_model") == lineage["generation"],
            "seed": lineage["seed"],
            "task": self.task or lineage["dataset"],
            "adapted_from": f"{name}/{parent['version']}" if name else (parent.get("digest") or "")[:8] or None,
            "fine_tuned": "online" in lineage,
        }


def tags(chosen: labels.Labels) -> dict[str, str]:
    """Tags for every run: where the code was, and by which command it ran."""
    found = {
        **commit(),
        "preset": chosen.choices.get("preset"),
        "dataset": chosen.choices.get("dataset"),
        "dvc_experiment": os.environ.get(EXPERIMENT_NAME),
        "mlflow.source.name": "dreamset",
        "mlflow.source.type": "LOCAL",
    }
    return {name: value for name, value in found.items() if value}


def commit() -> dict[str, str]:
    """The commit of the working folder, and whether its files differ from it; empty without one."""
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(describe, capture_output=True, text=True, check=True, timeout=GIT_SECONDS)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return {}
    found, dirty, _ = done.stdout.strip().partition("-dirty")
    return {"commit": found, "dirty": str(bool(dirty)).lower(), "mlflow.source.git.commit": found}


def command(chosen: labels.Labels) -> str | None:
    """The command that reproduces a stage; None for one that was started as a function."""
    program, *arguments = sys.argv
    if Path(program).name not in ("dreamset", "cli.py"):
        return None
    if "--resolved" not in arguments:
        return shlex.join(["dreamset", *arguments])
    choices = [f"{group}={name}" for group in ("preset", "dataset") if (name := chosen.choices.get(group))]
    return experiment(choices, chosen.overrides)


def experiment(choices: Sequence[str], overrides: Sequence[str]) -> str:
    """The command that runs the pipeline with other choices, such as ``preset=small``, and with overrides."""
    settings = [*choices, _overrides(overrides)] if overrides else choices
    return " ".join(["dvc exp run", *(f"-S {shlex.quote(setting)}" for setting in settings)])


def _overrides(overrides: Sequence[str]) -> str:
    """The overrides for ``dvc exp run -S``, in the form that the present params.yaml has; DVC refuses another one."""
    try:
        mapping = isinstance(yaml.safe_load(PARAMS.read_text())["overrides"], dict)
    except (OSError, yaml.YAMLError, TypeError, KeyError):
        mapping = False
    if mapping:
        return f"+overrides={{{', '.join(text.replace('=', ': ', 1) for text in overrides)}}}"
    return "overrides=[" + ", ".join(f'"{text}"' for text in overrides) + "]"


def wanted(line: Mapping[str, Any]) -> dict[str, Any] | None:
    """The row that a stage asks for, as ``rows.place`` takes it; None for a run that has no row."""
    if line.get("row") is not None:
        return {**line["row"], "tags": line["tags"]}
    if line.get("root") is None or line.get("lineage") is None:
        return None
    return _earlier_release(line)


def _earlier_release(line: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a file that an earlier release wrote: it knows the objective, the seed and the lineage."""
    objective, _, seed = line["root"].removesuffix(")").rpartition(" (seed ")
    identity = {"objective": objective, "seed": seed}
    identity |= dict.fromkeys(("dataset", "generation", "preset", "task", "adapted_from"))
    return {
        "stage": line["stage"],
        "key": f"{line['lineage']} {line['stage']}",
        "lineage": line["lineage"],
        "resumed": not line["new_root"],
        "world_model": None,
        "policy": None,
        "identity": {**identity, "preset_tells_generation": True, "fine_tuned": False},
        "dataset_digest": None,
        "overrides": [],
        "command": None,
        "tags": {},
    }


def tags_of(asked: Mapping[str, Any]) -> dict[str, str]:
    """The tags that a stage's run has in common with its row."""
    identity = {name: value for name, value in asked["identity"].items() if name in GROUPS and value is not None}
    return {name: str(value) for name, value in identity.items()} | {
        LINEAGE: asked["lineage"],
        "stage": asked["stage"],
    }
