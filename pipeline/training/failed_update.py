"""What remains of an update that is not finite: its batch, its losses and the networks before it, for a look."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from dreamset.core.errors import UserError
from dreamset.core.files import replaced_folder, write_text
from dreamset.core.records import SequenceBatch
from dreamset.pipeline.training.gradients import NotFiniteError

FOLDER = "not_finite"  # beside the checkpoints, which an unchanged rerun resumes from


def report(
    error: NotFiniteError, *, update: int, batch: SequenceBatch, state: Mapping[str, Any], checkpoints: Path
) -> UserError:
    """Keeps the update's traces beside the checkpoints; returns the error that ends the training.

    Args:
        error: what was not finite.
        update: number of the update.
        batch: of the update.
        state: of the trainer, before the update.
        checkpoints: folder of the training's checkpoints.
    """
    folder = checkpoints / FOLDER
    try:
        _keep(folder, error.figures, batch, state)
        kept = f"its batch, losses and networks are in {folder}"
    except OSError as full:
        kept = f"its batch cannot be kept in {folder} ({full.strerror})"
    return UserError(
        f"update {update} is not finite: {error}; the last checkpoint is kept, but with the same settings the training "
        f"would fail again; {kept}"
    )


def _keep(folder: Path, figures: Mapping[str, float], batch: SequenceBatch, state: Mapping[str, Any]) -> None:
    with replaced_folder(folder) as new:
        arrays: dict[str, Any] = {name: value.cpu().numpy() for name, value in _tensors(_columns(batch))}
        np.savez(new / "batch.npz", **arrays)
        weights = {name: value.detach().cpu().clone().contiguous() for name, value in _tensors(state)}
        save_file(weights, new / "networks.safetensors")
        write_text(new / "losses.json", json.dumps({name: str(value) for name, value in figures.items()}, indent=2))


def _columns(batch: SequenceBatch) -> dict[str, Any]:
    return {field.name: getattr(batch, field.name) for field in fields(batch)}


def _tensors(node: object, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor in nested mappings, with the keys that lead to it, joined by dots."""
    if isinstance(node, torch.Tensor):
        yield name, node
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from _tensors(value, f"{name}.{key}" if name else str(key))
