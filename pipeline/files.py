"""Writes and reads json and csv files, checks that folders can be written, and computes short digests of texts."""

import csv
import hashlib
import io
import json
import logging
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dreamset.core.errors import UserError
from dreamset.core.files import write_text

log = logging.getLogger(__name__)

_TRIAL_BYTES = 1 << 16  # an empty file fits on a full disk, too


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes readable, sorted json; equal values give equal bytes. NaN raises an error, because json has no NaN."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def write_figures(path: Path, figures: Mapping[str, float]) -> None:
    """Writes figures as json. A figure that is NaN or infinite is null there, and a warning names it."""
    measured = finite(figures)
    missing = sorted(figures.keys() - measured.keys())
    if missing:
        log.warning("%s has null in place of figures that are not finite: %s", path.name, ", ".join(missing))
    write_json(path, {name: measured.get(name) for name in figures})


def finite(figures: Mapping[str, float]) -> dict[str, float]:
    """The figures without those that are NaN or infinite, which count as missing."""
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes a csv file with one line per row. The head has every key; a cell without a finite value is empty."""
    content = io.StringIO()
    writer = csv.DictWriter(content, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: value for key, value in row.items() if not _is_missing(value)} for row in rows)
    write_text(path, content.getvalue())


def _is_missing(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def require_writable(*folders: Path) -> None:
    """Creates folders and checks that each can hold another file, before hours of work that ends in one.

    Raises:
        UserError: if a folder cannot be written.
    """
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(bytes(_TRIAL_BYTES))
        except OSError as error:
            raise UserError(
                f"{folder} cannot be written ({error.strerror}); free space, change its permissions, or choose other "
                "folders with paths.runs and paths.checkpoints"
            ) from None


def read_json(path: Path, *, made_by: str) -> dict[str, Any]:
    """The content of a json file, which must be an object.

    Raises:
        UserError: if the file is missing or damaged; ``made_by`` names the command that writes it.
    """
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run `{made_by}` first") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is damaged ({error}); run `{made_by}` again") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} holds {type(value).__name__} instead of an object; run `{made_by}` again")
    return value


def digest(*parts: str) -> str:
    """A short digest of several texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
