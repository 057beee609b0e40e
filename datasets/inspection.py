"""Describes unknown data files: names, shapes, dtypes and ranges of actions, as needed to write a mapping."""

import json
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import h5py
import numpy as np

from dreamset.core.errors import UserError
from dreamset.datasets.hdf5 import members, opened, translated
from dreamset.datasets.recognition import ACTION
from dreamset.datasets.sources.columnar import ParquetTable
from dreamset.datasets.sources.files import open_table
from dreamset.datasets.sources.folder import walk
from dreamset.datasets.sources.npz import ArrayHeader
from dreamset.datasets.sources.tables import HDF5Table, NpzTable, Table
from dreamset.datasets.sources.zarr_table import ZARR_ENDING, is_zarr

_MOST_FILES = 3  # listed of each kind
_MOST_GROUPS = 3  # listed in one group: they are usually alike
_MOST_ROWS = 10_000  # read for the range of a column
_MOST_BYTES = 1 << 28  # of a column whose range is shown
_MOST_ELEMENTS = 64  # of a row whose range is shown
_DEEPEST = 16  # nested groups: more than this is a cycle


def describe_path(path: Path) -> str:
    """A text about a file, or about the first files of each kind in a folder, and about the kinds that are not read.

    Raises:
        UserError: if there is no file of a known kind.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; check the path")
    kinds: dict[str, list[Path]] = {}
    for file in _files(path):
        kinds.setdefault(_kind(file), []).append(file)
    if not kinds.keys() & (DESCRIBERS.keys() | ADVICE.keys()):
        raise UserError(
            f"{path}: contains no file of the supported kinds {', '.join(sorted(DESCRIBERS))}; choose another path"
        )
    lines = [line for kind in sorted(kinds.keys() & DESCRIBERS.keys()) for line in _described(kind, kinds[kind])]
    unread = sorted(kinds.keys() - DESCRIBERS.keys(), key=lambda kind: (kind not in ADVICE, kind))
    return "\n".join([*lines, *(_unread(kind, kinds[kind]) for kind in unread)])


def _described(kind: str, files: list[Path]) -> Iterator[str]:
    for file in files[:_MOST_FILES]:
        yield str(file)
        yield from (f"  {line}" for line in DESCRIBERS[kind](file))
    if len(files) > _MOST_FILES:
        yield f"... and {len(files) - _MOST_FILES} more {kind} files"


def _unread(kind: str, files: list[Path]) -> str:
    named = f"{files[0]}" if len(files) == 1 else f"{len(files)} {kind or 'other'} files, such as {files[0]}"
    return f"{named}: not read{'; ' if kind in ADVICE else ''}{ADVICE.get(kind, '')}"


def _files(path: Path) -> list[Path]:
    """The file, or every file below a folder; a zarr group counts as one file."""
    if path.is_file() or is_zarr(path):
        return [path]
    groups = [entry for entry in path.iterdir() if is_zarr(entry)]
    return sorted([*groups, *(file for file in walk(path) if not any(file.is_relative_to(group) for group in groups))])


def _kind(file: Path) -> str:
    return ZARR_ENDING if is_zarr(file) else file.suffix.lower()


def _range(table: Table, column: str, header: ArrayHeader) -> str:
    """The smallest and largest values in the first rows of a column of actions, per element; else nothing."""
    size = math.prod(header.shape[1:])
    if (
        not ACTION.search(column or table.path.stem)
        or header.dtype.kind not in "fiub"
        or not 0 < size <= _MOST_ELEMENTS
    ):
        return ""
    if not header.shape or header.shape[0] * size * header.dtype.itemsize > _MOST_BYTES:
        return ""
    try:
        values = table.read([column], table.place, slice(0, _MOST_ROWS))[column].astype(np.float64)
    except UserError:
        return ""  # reading the data reports it
    rows = values.reshape(len(values), size)
    rows = rows[np.isfinite(rows).all(axis=1)]
    if not len(rows):
        return ""
    ends = [", ".join(f"{number:.6g}" for number in end) for end in (rows.min(axis=0), rows.max(axis=0))]
    low, high = (f"[{end}]" if size > 1 else end for end in ends)
    return f", from {low} to {high}" + (f" in the first {_MOST_ROWS} rows" if header.shape[0] > _MOST_ROWS else "")


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
                header = ArrayHeader(child.shape or (), child.dtype)
                line = f"{indent}{name}: {header.dtype}{list(header.shape)}"
            yield line + _range(HDF5Table(Path(where)), str(child.name).strip("/"), header)
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
                column = name.removesuffix(".npy")
                yield f"{column}: {dtype}{list(shape)}" + _range(NpzTable(path), column, ArrayHeader(shape, dtype))
    except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise _damaged(path, error) from error


def _parquet(path: Path) -> Iterator[str]:
    from pyarrow import ArrowException, parquet

    try:
        schema = parquet.read_schema(path)
        rows = parquet.read_metadata(path).num_rows
    except (OSError, ValueError, ArrowException) as error:
        raise _damaged(path, error) from error
    yield f"{rows} rows"
    headers = ParquetTable(path).headers(str(path))
    for field in schema:
        yield f"{field.name}: {field.type}" + _range(ParquetTable(path), field.name, headers[field.name])


def _table(path: Path) -> Iterator[str]:
    table = open_table(path)
    for name, header in table.headers(str(path)).items():
        yield f"{name or path.stem}: {header.dtype}{list(header.shape)}" + _range(table, name, header)


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
    ".npy": _table,
    ".parquet": _parquet,
    ".csv": _table,
    ZARR_ENDING: _table,
    ".json": _json,
}

_SAVE = "save the arrays of each episode with numpy.savez"
_VIDEO = f"videos are read only in a LeRobot dataset; decode the frames to uint8 [steps, height, width, 3] and {_SAVE}"
_IMAGE = (
    "images are read if each episode is a folder, with its actions beside them or action=null: dataset=image_folder"
)
_PICKLE = f"a pickle can execute code; load it in a script of your own and {_SAVE}"
_ROS = f"extract the topics with the package rosbags and {_SAVE}"
ADVICE: Mapping[str, str] = {  # kind of file that is not read -> what to do
    **dict.fromkeys((".pkl", ".pickle"), _PICKLE),
    **dict.fromkeys((".pt", ".pth"), f"load it with torch.load(..., weights_only=True) and {_SAVE}"),
    **dict.fromkeys((".bag", ".db3", ".mcap"), _ROS),
    **dict.fromkeys((".mp4", ".avi", ".mkv", ".webm"), _VIDEO),
    **dict.fromkeys((".png", ".jpg", ".jpeg"), _IMAGE),
    **dict.fromkeys((".zip", ".tar", ".gz", ".tgz", ".xz", ".zst", ".7z"), "unpack it first"),
    ".mat": f"read it with scipy.io.loadmat and {_SAVE}",
    ".tfrecord": f"read it with tensorflow_datasets and {_SAVE}",
    ".arrow": "ingest its folder with dataset=minari",
}
