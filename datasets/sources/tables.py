"""One interface for files of named arrays, and its implementations for npz and HDF5."""

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import h5py
import numpy as np

from dreamset.core.errors import UserError
from dreamset.datasets.episode import Array
from dreamset.datasets.hdf5 import describe_dtype, find, members, opened, require_plain, require_possible, translated
from dreamset.datasets.sources.encoded import PEEK, first_image, may_hold_images
from dreamset.datasets.sources.npz import ArrayHeader, opened_npz
from dreamset.datasets.sources.scanning import counted

HDF5_ENDINGS = (".hdf5", ".h5")
NPZ_ENDING = ".npz"

_DEEPEST = 16  # nested groups: more than this is a cycle

ALL_ROWS = slice(None)


class Table(Protocol):
    """Named arrays in a file or in a group of a file; no file stays open between calls."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def place(self) -> str:
        """The file and, unless it is the root, the group; for messages."""

    @property
    def name(self) -> str:
        """``place`` without the folder, for provenance."""

    def headers(self, where: str) -> Mapping[str, ArrayHeader]:
        """Shape and dtype of every array; raises a ``UserError`` that starts with ``where`` for a damaged file."""

    def read(self, columns: Collection[str], where: str, rows: slice = ALL_ROWS) -> dict[str, Array]:
        """Rows of the named arrays; raises a ``UserError`` that starts with ``where`` if they are unreadable."""


@dataclass(frozen=True, slots=True)
class PathTable:
    """The common part of tables that are one file or one folder."""

    path: Path

    @property
    def place(self) -> str:
        """The file or the folder."""
        return str(self.path)

    @property
    def name(self) -> str:
        """Its name, without the folder around it."""
        return self.path.name


@dataclass(frozen=True, slots=True)
class NpzTable(PathTable):
    """An npz archive."""

    def headers(self, where: str) -> Mapping[str, ArrayHeader]:
        """Headers of every array; decompresses no values."""
        with opened_npz(self.path, where) as archive:
            return archive.headers

    def read(self, columns: Collection[str], where: str, rows: slice = ALL_ROWS) -> dict[str, Array]:
        """Decompresses the named arrays as a whole, even for a few rows; caches the last files."""
        if rows == ALL_ROWS:
            return _read_archive(self.path, columns, where)
        with _naming(self.path, where):
            changed = self.path.stat().st_mtime_ns if self.path.is_file() else 0
            whole = _read_recent(self.path, changed, tuple(columns))
        return {column: array[rows] for column, array in whole.items()}


@dataclass(frozen=True, slots=True)
class HDF5Table:
    """The datasets below one group of an HDF5 file, named by path, such as ``obs/image``."""

    path: Path
    group: str = ""  # "" is the root

    @property
    def place(self) -> str:
        """File and group."""
        return f"{self.path}:{self.group}" if self.group else str(self.path)

    @property
    def name(self) -> str:
        """The file's name, and the group."""
        return f"{self.path.name}:{self.group}" if self.group else self.path.name

    def headers(self, where: str) -> Mapping[str, ArrayHeader]:
        """Headers of every dataset, including nested groups."""
        with _opened_at(self.path, where) as file:
            return {
                name: ArrayHeader(dataset.shape or (), dataset.dtype, _first_image(dataset))
                for name, dataset in _datasets(_descend(file, self.group, where), where)
            }

    def read(self, columns: Collection[str], where: str, rows: slice = ALL_ROWS) -> dict[str, Array]:
        """Decompresses only the given rows."""
        with _opened_at(self.path, where) as file:
            root = _descend(file, self.group, where)
            return {column: _read_rows(_descend(root, column, where), rows, where) for column in columns}


def subgroups(path: Path, group: str) -> list[str]:
    """The paths of the groups directly below ``group`` of an HDF5 file.

    Raises:
        UserError: if the file is damaged or the group does not exist.
    """
    where = str(path)
    with _opened_at(path, where) as file:
        parent = _descend(file, group, where)
        if isinstance(parent, h5py.Dataset):
            raise UserError(f"{where}: {group!r} is an array, expected a group of episodes; fix the setting")
        with translated(where):
            return [
                _joined(group, name) for name in counted(parent) if isinstance(find(parent, name, where), h5py.Group)
            ]


@lru_cache(maxsize=2)
def _read_recent(path: Path, changed: int, columns: tuple[str, ...]) -> dict[str, Array]:  # noqa: ARG001 (part of the key)
    values = _read_archive(path, columns, str(path))
    for array in values.values():
        array.setflags(write=False)  # episodes share the array
    return values


def _read_archive(path: Path, columns: Collection[str], where: str) -> dict[str, Array]:
    with opened_npz(path, where) as archive:
        values = {column: archive.read(column) for column in columns}
    for column in values:
        if not values[column].ndim:
            raise UserError(f"{where}: {column!r} is a single value, expected one row per step; omit it")
    return values


@contextmanager
def _naming(path: Path, where: str) -> Iterator[None]:
    """Replaces the file in an error message by ``where``."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace(str(path), where, 1)) from error


@contextmanager
def kept_open() -> Iterator[None]:
    """Within the block, this thread keeps the last HDF5 file open, for many small reads of one file."""
    with ExitStack() as stack:
        token = _KEPT.set(_Kept(stack))
        try:
            yield
        finally:
            _KEPT.reset(token)


@dataclass(slots=True)
class _Kept:
    """The file that is open, if any."""

    stack: ExitStack  # closes the file
    path: Path | None = None
    file: h5py.File | None = None

    def opened(self, path: Path) -> h5py.File:
        if self.file is None or self.path != path:
            self.stack.close()
            self.path, self.file = None, None
            self.file = self.stack.enter_context(opened(path))
            self.path = path
        return self.file


_KEPT: ContextVar[_Kept | None] = ContextVar("kept", default=None)


@contextmanager
def _opened_at(path: Path, where: str) -> Iterator[h5py.File]:
    kept = _KEPT.get()
    with ExitStack() as stack:
        with _naming(path, where):
            file = stack.enter_context(opened(path)) if kept is None else kept.opened(path)
        yield file


def _descend(node: h5py.Group | h5py.Dataset, path: str, where: str) -> h5py.Group | h5py.Dataset:
    for name in filter(None, path.split("/")):
        child = find(node, name, where)
        if child is None:
            raise UserError(f"{where}: {path!r} is missing; fix the setting that names it, or drop the episode")
        node = child
    return node


def _datasets(root: h5py.Group | h5py.Dataset, where: str) -> Iterator[tuple[str, h5py.Dataset]]:
    stack: list[tuple[str, h5py.Group | h5py.Dataset]] = [("", root)]
    while stack:
        path, node = stack.pop()
        if isinstance(node, h5py.Dataset):
            yield path, node
        elif path.count("/") > _DEEPEST:
            raise UserError(f"{where}: {path!r} is nested deeper than {_DEEPEST} groups; flatten the file")
        else:
            stack.extend((_joined(path, name), child) for name, child in members(node, where).items())


def _first_image(dataset: h5py.Dataset) -> tuple[int, ...] | None:
    """The shape of the encoded image in the first row; None if there is none, or only reading reports the reason."""
    shape = dataset.shape or ()
    if not (_holds_bytes(dataset) or may_hold_images(dataset.dtype, shape)) or not shape or not shape[0]:
        return None
    try:
        require_plain(dataset, dataset.name)
        row = dataset[0, :PEEK] if len(shape) == 2 else np.asarray(dataset[0])
    except (OSError, RuntimeError, ValueError, TypeError):
        return None
    return first_image(row.tobytes())


def _holds_bytes(dataset: h5py.Dataset) -> bool:
    """Whether rows are bytes of variable length; text is none, because HDF5 ends it at the first zero."""
    return dataset.dtype.kind == "O" and bool(h5py.check_vlen_dtype(dataset.dtype) == np.uint8)


def _joined(group: str, name: str) -> str:
    return "/".join(filter(None, (group.strip("/"), name)))


def _read_rows(dataset: h5py.Group | h5py.Dataset, rows: slice, where: str) -> Array:
    if not isinstance(dataset, h5py.Dataset):
        raise UserError(f"{where}: {dataset.name!r} is a group, expected an array; fix the setting that names it")
    with translated(where):
        place = f"{where}: {dataset.name!r}"
        require_plain(dataset, place)
        _require_readable(dataset, rows, place)
        values: Array = dataset[rows]
    return values


def _require_readable(dataset: h5py.Dataset, rows: slice, place: str) -> None:
    if not dataset.shape:
        raise UserError(f"{place} is a single value, expected one row per step; omit it")
    if dataset.dtype.kind == "O" and not _holds_bytes(dataset):
        raise UserError(f"{place} holds {describe_dtype(dataset)}; allowed: numbers and encoded images; omit it")
    wanted = len(range(*rows.indices(len(dataset)))) * math.prod(dataset.shape[1:]) * dataset.dtype.itemsize
    require_possible(dataset, wanted, place)
