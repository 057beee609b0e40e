"""Files that are either whole or not there."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dreamset.core.errors import UserError


def write_bytes(path: Path, content: bytes) -> None:
    """Writes beside, syncs, renames: a reader sees the old file or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_text(path: Path, content: str) -> None:
    """``write_bytes`` for text."""
    write_bytes(path, content.encode())


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Readable, sorted json, equal bytes for equal values. NaN is refused: it isn't json."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path, *, made_by: str) -> dict[str, Any]:
    """A json object.

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


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """A fresh folder to fill that takes the place of ``path`` when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield fresh
        fresh.chmod(0o755)
        if path.exists():
            old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
            path.rename(old / path.name)
            fresh.rename(path)
            shutil.rmtree(old)
        else:
            fresh.rename(path)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def save_with(path: Path, save: Callable[[Path], object]) -> None:
    """Lets a library write to a path of its own choice of ending, then puts the result in place at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".saving.") as folder:
        beside = Path(folder) / path.name
        save(beside)
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.replace(path)


def digest(*parts: str) -> str:
    """A short name for a combination of texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def file_sha256(path: Path) -> str:
    """Checksum of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
