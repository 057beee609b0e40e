"""Builds the registry's entry for a saved model from the model's own folder."""

import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dreamset.core.errors import UserError
from dreamset.pipeline.artifacts import migrations
from dreamset.pipeline.artifacts.compatibility import described
from dreamset.pipeline.artifacts.description import DESCRIPTION, SavedModel, model_digest, read_description
from dreamset.pipeline.files import finite
from dreamset.pipeline.registry.catalog import RELATIONS, Registration, family
from dreamset.pipeline.registry.ranking import is_figure


def registration(folder: Path, figures: Mapping[str, float], *, name: str | None = None) -> Registration:
    """The entry for the model in ``folder``. ``name`` is the registered model; the default is its dataset's family.

    Raises:
        UserError: if the folder holds no readable model.
    """
    saved = read_description(folder, made_by="dreamset train-world-model")
    try:
        return Registration(
            name=name or family(saved.lineage["dataset"], saved.kind),
            kind=saved.kind,
            digest=model_digest(folder),
            tags=_texts(_groups(saved)),
            details=_texts(_details(saved)),
            figures={key: value for key, value in finite(figures).items() if is_figure(key)},
            origins={role: saved.lineage[role]["digest"] for role in RELATIONS if saved.lineage.get(role)},
        )
    except (KeyError, TypeError) as error:
        raise UserError(f"{folder}: the lineage in {DESCRIPTION} is incomplete ({error!r}); choose another") from None


def _groups(saved: SavedModel) -> dict[str, Any]:
    """The tags, by which versions are grouped and found."""
    return {name: saved.lineage[name] for name in ("generation", "objective", "seed", "dataset", "dataset_digest")}


def _details(saved: SavedModel) -> dict[str, Any]:
    """What the files are, in words: parameters of the logged model."""
    lineage, observed, acts = saved.lineage, saved.spec.observations, described(saved.spec)
    return {
        "architecture": saved.architecture["_target_"],
        "reward_function": lineage["reward"]["_target_"] if "reward" in lineage else None,
        "observations": "; ".join(f"{name}: {array}" for name, array in observed.items()),
        "action": f"{acts['action']}, {acts['action bounds']}",
        "online_environment_steps": lineage["online"]["environment_steps"] if "online" in lineage else None,
        "online_digest": lineage["online"]["digest"] if "online" in lineage else None,
        "lineage": lineage["key"],
        "format_version": migrations.FORMAT_VERSION,
        "code_version": code_version(),
    }


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in values.items() if value is not None}


def code_version() -> str:
    """The package's version and, in a clone, its commit; ``-dirty`` marks files that differ from the commit."""
    release, clone = version("dreamset"), Path(__file__).resolve().parents[2]
    if not (clone / ".git").exists():
        return release
    command = ["git", "-C", str(clone), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return release
    return f"{release} ({done.stdout.strip()})"
