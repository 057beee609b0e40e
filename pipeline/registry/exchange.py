"""Exports registered models to folders, and imports such folders."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from dreamset.core.errors import UserError
from dreamset.core.files import replaced_folder
from dreamset.pipeline.artifacts.saved_models import (
    POLICY,
    WORLD_MODEL,
    load_behavior,
    load_world_model,
    read_description,
)
from dreamset.pipeline.files import read_json, write_json
from dreamset.pipeline.registry import catalog
from dreamset.pipeline.registry.logged import Runs
from dreamset.pipeline.registry.registration import registration
from dreamset.pipeline.registry.retrieval import FILES, Pinned, Reference, connection, figures_of, local_folder, pin
from dreamset.pipeline.tracking import delivery

FIGURES = "figures.json"  # beside the model's files
EXPERIMENT = "dreamset-imports"  # MLflow experiment whose runs hold imported files
LOADERS: dict[str, Callable[[Path, torch.device], object]] = {WORLD_MODEL: load_world_model, POLICY: load_behavior}


def export_model(reference: Reference, path: Path) -> Pinned:
    """Writes the model's files and its figures into a new folder.

    Raises:
        UserError: if the folder exists already, or the model does not exist.
    """
    if path.exists():
        raise UserError(f"{path} exists already and is not overwritten; remove it or choose another PATH")
    pinned = pin(reference)
    folder, figures = local_folder(pinned), figures_of(pinned)
    with replaced_folder(path) as exported:
        for name in FILES:
            shutil.copyfile(folder / name, exported / name)
        write_json(exported / FIGURES, figures)
    return pinned


def import_model(path: Path, name: str) -> catalog.Version:
    """Registers the model in ``path`` after loading it as a check. The same model is not registered twice.

    Raises:
        UserError: if the model in the folder cannot be loaded, or ``name`` holds models of another kind.
    """
    if Reference.parse(name) != Reference(name=name):
        raise UserError(f"{name!r} cannot name a registered model; choose a plain name such as robot.policy")
    saved = read_description(path, made_by="dreamset models export")
    if saved.kind not in LOADERS:
        raise UserError(f"{path} holds a {saved.kind}; allowed: {', '.join(LOADERS)}; choose another folder")
    LOADERS[saved.kind](path, torch.device("cpu"))
    described = registration(path, _figures_beside(path), name=name)
    with connection(make=True) as client:
        return catalog.find(client, described.digest, name=name) or _register(client, path, described)


def _figures_beside(path: Path) -> dict[str, float]:
    if not (path / FIGURES).exists():
        return {}
    figures = read_json(path / FIGURES, made_by="dreamset models export")
    wrong = [name for name, value in figures.items() if type(value) not in (int, float)]
    if wrong:
        raise UserError(f"{path / FIGURES}: {', '.join(wrong)}: not a number; fix the file or remove it")
    return figures


def _register(client: Any, path: Path, described: catalog.Registration) -> catalog.Version:
    """Registers the model from a new run, which holds only the two files of the model."""
    catalog.require_family(client, described)  # before anything is sent
    run = delivery.make_run(client, EXPERIMENT, f"import {described.name}")
    with tempfile.TemporaryDirectory() as beside:
        for name in FILES:
            shutil.copyfile(path / name, Path(beside) / name)
        registered = catalog.register(client, Runs(run, run), described, Path(beside))
    client.set_terminated(run)
    return registered
