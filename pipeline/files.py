"""Writes and reads json and csv files, and computes short digests of texts."""

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dreamset.core.errors import UserError
from dreamset.core.files import write_text


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes readable, sorted json; equal values give equal bytes. NaN raises an error, because json has no NaN."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes a csv file with one line per row. The keys of the first row are the head."""
    content = io.StringIO()
    writer = csv.DictWriter(content, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, content.getvalue())


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
