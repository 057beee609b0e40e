"""Folders of data files: list, order and digest."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dreamset.core.errors import UserError
from dreamset.core.files import file_sha256
from dreamset.datasets.sources.scanning import counted

_DIGITS = re.compile(r"(\d+)")


def list_files(path: Path, endings: Sequence[str]) -> list[Path]:
    """The files directly in the folder ``path`` with one of ``endings``; 2.npz comes before 10.npz.

    Raises:
        UserError: if the folder does not exist or contains no such file.
    """
    wanted = " or ".join(f"*{ending}" for ending in endings)
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; choose the folder that contains the files {wanted}")
    files = [file for file in path.iterdir() if file.suffix in endings and not file.name.startswith(".")]
    if not files:
        raise UserError(f"{path}: contains no files {wanted}; choose the folder that directly contains them")
    return sorted(files, key=lambda file: natural_order(file.name))


def walk(folder: Path, above: Sequence[Path] = ()) -> Iterator[Path]:
    """Every file below ``folder`` in order of names, also behind links to folders; a cycle of links is left out."""
    real = folder.resolve()
    if real in above:
        return
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            yield from walk(entry, (*above, real))
        elif entry.is_file():
            yield entry


def natural_order(name: str) -> tuple[list[str | int], str]:
    """Sorting key that compares digits as numbers, then the whole name."""
    parts = _DIGITS.split(name)
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name


def checked_limit(episodes: int | None) -> int | None:
    """The setting ``episodes`` of a source: the number of episodes to read, None for all.

    Raises:
        UserError: if it is below 1.
    """
    if episodes is not None and episodes < 1:
        raise UserError(f"episodes is {episodes}; allowed: 1 or more, or null for all; fix the ingest settings")
    return episodes


def digest(paths: Iterable[Path]) -> dict[str, Any]:
    """Number of files and bytes, and one SHA-256 over names, sizes and contents; of folders, all files in them."""
    entries = sorted(
        (name, file.stat().st_size, file_sha256(file)) for path in counted(paths) for name, file in _named(path)
    )
    return {
        "files": len(entries),
        "bytes": sum(size for _, size, _ in entries),
        "sha256": hashlib.sha256(json.dumps(entries).encode()).hexdigest(),
    }


def _named(path: Path) -> Iterator[tuple[str, Path]]:
    """A file with its name, or every file of a folder with its name from the folder on."""
    if path.is_file():
        yield path.name, path
    elif path.is_dir():
        yield from ((str(file.relative_to(path.parent)), file) for file in walk(path))
