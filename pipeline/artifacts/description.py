"""``model.json``, the description of a saved model, and the digest that identifies the model. Needs no PyTorch."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreamset.core.errors import UserError
from dreamset.core.files import file_sha256
from dreamset.core.spec import DataSpec
from dreamset.pipeline.artifacts import migrations
from dreamset.pipeline.files import read_json

WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"
WORLD_MODEL, POLICY = "world_model", "policy"  # kinds of models
PREDICTION = "prediction"  # entry of a world model's lineage: the rows of its windows, and its open-loop errors
CHECKSUM = "checksum"  # entry of both files: SHA-256 of all else in the file; earlier releases wrote none


@dataclass(frozen=True, slots=True)
class SavedModel:
    """The content of ``model.json``."""

    architecture: Mapping[str, Any]  # nodes with `_target_`, as Hydra composes them
    spec: DataSpec
    lineage: Mapping[str, Any]  # origin of the model: objective, seed, dataset digest, parent
    kind: str

    def to_json(self) -> dict[str, Any]:
        """Plain values for a json file."""
        return {
            "format_version": migrations.FORMAT_VERSION,
            "kind": self.kind,
            "architecture": dict(self.architecture),
            "spec": self.spec.to_json(),
            "lineage": dict(self.lineage),
        }


def sum_of_json(description: Mapping[str, Any]) -> str:
    """SHA-256 of the values, whatever the layout of the text."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def model_digest(folder: Path) -> str:
    """One checksum of weights and description. It identifies the model, whatever its folder is.

    Raises:
        UserError: if the folder holds no model.
    """
    try:
        sums = [f"{name} {file_sha256(folder / name)}\n" for name in (DESCRIPTION, WEIGHTS)]
    except OSError as error:
        raise UserError(f"{folder} holds no model ({error.strerror}: {error.filename}); check the path") from None
    return hashlib.sha256("".join(sums).encode()).hexdigest()


def read_description(folder: Path, *, made_by: str, kind: str | None = None) -> SavedModel:
    """The description of a saved model, converted to the format of this release.

    Raises:
        UserError: if it is missing, damaged, of an unknown format version or not of the kind ``kind``.
    """
    path = folder / DESCRIPTION
    try:
        value = read_json(path, made_by=made_by)
        written = value.pop(CHECKSUM, None)
        if written not in (None, sum_of_json(value)):
            raise UserError(
                f"{path} is damaged (it differs from its checksum); run `{made_by}` again, or delete its entry "
                f"{CHECKSUM} if you changed the file on purpose"
            )
        value = migrations.migrated(value, where=path, made_by=made_by)
        spec = DataSpec.from_json(value["spec"])
        saved = SavedModel(dict(value["architecture"]), spec, dict(value["lineage"]), str(value["kind"]))
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error!r}); run `{made_by}` again") from None
    if kind not in (None, saved.kind):
        raise UserError(f"{folder} holds a {saved.kind}, but a {kind} is needed; choose another folder")
    return saved
