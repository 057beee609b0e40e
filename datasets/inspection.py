"""Describes unknown data files: names, shapes and dtypes, as needed to write a mapping."""

import json
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import h5py
import numpy as np

from dreamset.core.errors import UserError
from dreamset.datasets.hdf5 import members, opened, translated

_MOST_FILES = 3  # listed of each kind
_MOST_GROUPS = 3  # listed in one group: they are usually alike
_DEEPEST = 16  # nested groups: more than this is a cycle


def describe_path(path: Path) -> str:
    """A text about a file, or about the first files of each kind in a folder.

    Raises:
        UserError: if there is no file of a known kind.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; check the path")
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    known = [file for file in files if file.suffix in DESCRIBERS]
    if not known:
        raise UserError(
            f"{path}: contains no file of the supported kinds {', '.join(sorted(DESCRIBERS))}; choose another path"
        )
    lines: list[str] = []
    for suffix in sorted({file.suffix for file in known}):
        of_kind = [file for file in known if file.suffix == suffix]
        for file in of_kind[:_MOST_FILES]:
            lines += [str(file), *(f"  {line}" for line in DESCRIBERS[suffix](file))]
        if len(of_kind) > _MOST_FILES:
            lines.append(f"... and {len(of_kind) - _MOST_FILES} more {suffix} files")
    return "\n".join(lines)


def _hdf5(path: Path) -> Iterator[str]:
    with opened(path) as file:
        yield from _group(file, str(path))


def _group(group: h5py.Group, where: str, depth: int = 0) -> Iterator[str]:
    if depth > _DEEPEST:
        raise UserError(f"{where}: groups are nested deeper than {_DEEPEST}; flatten them")
    indent = "  " * depth
    groups = 0
    for name, child in sorted(members(group, where).items()):
        if isinstance(child, h5py.Dataset):
            with translated(where):
                line = f"{indent}{name}: {child.dtype}{list(child.shape or ())}"
            yield line
            continue
        groups += 1
        if groups <= _MOST_GROUPS:
            yield f"{indent}{name}/"
            yield from _group(child, where, depth + 1)
    if groups > _MOST_GROUPS:
        yield f"{indent}... and {groups - _MOST_GROUPS} more groups"


def _npz(path: Path) -> Iterator[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as member:
                    version = np.lib.format.read_magic(member)
                    read = (
                        np.lib.format.read_array_header_1_0
                        if version == (1, 0)
                        else np.lib.format.read_array_header_2_0
                    )
                    shape, _, dtype = read(member)
                yield f"{name.removesuffix('.npy')}: {dtype}{list(shape)}"
    except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise _damaged(path, error) from error


def _parquet(path: Path) -> Iterator[str]:
    from pyarrow import ArrowException, parquet

    try:
        schema = parquet.read_schema(path)
        lines = [f"{parquet.read_metadata(path).num_rows} rows", *(f"{field.name}: {field.type}" for field in schema)]
    except (OSError, ValueError, ArrowException) as error:
        raise _damaged(path, error) from error
    yield from lines


def _json(path: Path) -> Iterator[str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, error) from error
    yield f"{type(content).__name__} of {', '.join(map(str, content))}"[:300] if isinstance(content, dict) else "json"


def _damaged(path: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return UserError(f"{path}: unreadable or truncated ({reason}); copy or download it again")


DESCRIBERS: Mapping[str, Callable[[Path], Iterator[str]]] = {
    ".h5": _hdf5,
    ".hdf5": _hdf5,
    ".npz": _npz,
    ".parquet": _parquet,
    ".json": _json,
}
