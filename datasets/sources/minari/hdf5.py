"""Reads Minari's HDF5 layout: one file, one group per episode, one dataset per leaf.

With short episodes, most of the time is spent on opening thousands of small datasets. This module therefore uses h5py's
low-level API and leaves everything unusual to ``datasets/hdf5.py``.
"""

import math
import re
import weakref
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5g, h5l, h5o, h5s

from dreamset.core.errors import UserError
from dreamset.core.files import file_sha256
from dreamset.datasets.episode import Array
from dreamset.datasets.hdf5 import descend, describe_dtype, find, opened, read, require_plain, translated
from dreamset.datasets.sources.encoded import SMALLEST_FILE, may_hold_images, starts_as_image
from dreamset.datasets.sources.minari.metadata import HDF5_FILE, MinariMetadata
from dreamset.datasets.sources.minari.storage import Layout, LeafPath, episode_numbers

_EPISODE = re.compile(r"episode_(0|[1-9][0-9]*)")
_DEEPEST = 16  # nested groups: more than this is a cycle
_SMALL = 1 << 20  # bytes that are allocated without a check
_NOT_PLAIN = (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError)


class HDF5Storage:
    """The open file of a dataset; closed when this object is collected."""

    def __init__(self, metadata: MinariMetadata) -> None:
        self._path = metadata.folder / HDF5_FILE
        self.where = str(self._path)
        opening = ExitStack()
        self._file = opening.enter_context(opened(self._path))
        weakref.finalize(self, opening.close)
        self._witness = next(iter(metadata.observation_paths), None)
        with translated(self.where):
            stored_numbers = [int(match[1]) for name in self._file if (match := _EPISODE.fullmatch(name))]
        self.numbers = episode_numbers(stored_numbers, metadata.total_episodes, self.where)

    def episode(self, number: int) -> "HDF5Episode":
        """Opens an episode."""
        name = f"episode_{number}"
        where = f"{name} of {self.where}"
        group = _plain_node(self._file.id, (name,))
        if not isinstance(group, h5g.GroupID):
            find(self._file, name, where)  # refuses links
            raise UserError(f"{where}: the group is missing; the file is incomplete, copy or download it again")
        return HDF5Episode(group, where, self._witness)

    def fingerprint(self) -> Mapping[str, Any]:
        """The file's name and checksum."""
        return {"file": self._path.name, "sha256": file_sha256(self._path)}


@dataclass(frozen=True, slots=True)
class HDF5Episode:
    """The group of one episode."""

    group: h5g.GroupID
    where: str
    witness: LeafPath | None  # an observation, whose rows infos must match

    def read(self, paths: Collection[LeafPath]) -> dict[LeafPath, Array]:
        """The values of the leaves."""
        return {path: self._read(_steps(path)) for path in paths}

    def layout(self, path: LeafPath) -> Layout:
        """How a leaf is stored."""
        return self._layout(self._dataset(path), rows=None)

    def infos(self) -> Mapping[LeafPath, Layout]:
        """The datasets below the group ``infos``."""
        infos = _plain_node(self.group, ("infos",))
        if infos is None and find(h5py.Group(self.group), "infos", self.where) is None:
            return {}
        if not isinstance(infos, h5g.GroupID):
            raise UserError(f"{self.where}: 'infos' is an array, expected a group of arrays; copy the dataset again")
        rows = self._rows()
        return {path: self._layout(dataset, rows) for path, dataset in _datasets(infos, self.where)}

    def _read(self, path: LeafPath) -> Array:
        values = _read_plain(_plain_node(self.group, path))
        if values is None:
            return read(descend(h5py.Group(self.group), path, self.where), self.where)
        return values

    def _dataset(self, path: LeafPath) -> h5d.DatasetID:
        node = _plain_node(self.group, _steps(path))
        return node if isinstance(node, h5d.DatasetID) else descend(h5py.Group(self.group), path, self.where).id

    def _rows(self) -> int:
        """Number of observations; raises a ``UserError`` if observations and rewards do not match."""
        rows = self._length(("rewards",)) + 1
        observed = rows if self.witness is None else self._length(self.witness)
        if self.witness is not None and observed != rows:
            raise UserError(f"{self.where}: {'/'.join(self.witness)!r} has {observed} rows, expected {rows}")
        return rows

    def _length(self, path: LeafPath) -> int:
        shape = self._dataset(path).shape
        return int(shape[0]) if shape else 0

    def _layout(self, dataset: h5d.DatasetID, rows: int | None) -> Layout:
        with translated(self.where):
            shape, dtype = dataset.shape or (), dataset.dtype
            jpeg = _is_jpeg(dataset, shape, dtype, self.where)
            unfit = None if rows is None else _unfit(dataset, shape, dtype, jpeg=jpeg, rows=rows)
        return Layout(() if jpeg else shape[1:], dtype, jpeg, unfit)


def _steps(path: LeafPath) -> LeafPath:
    """Splits names with slashes into nested groups, each of which is checked."""
    return tuple(part for name in path for part in name.split("/") if part)


def _plain_node(group: h5g.GroupID, path: LeafPath) -> h5g.GroupID | h5d.DatasetID | None:
    """The node at ``path``; None if it is missing or behind a link that could lead out of the file."""
    node = group
    try:
        for name in path:
            encoded = name.encode()
            if node.links.get_info(encoded).type != h5l.TYPE_HARD:
                return None
            node = h5o.open(node, encoded)
    except _NOT_PLAIN:
        return None
    return node


def _read_plain(dataset: h5g.GroupID | h5d.DatasetID | None) -> Array | None:
    """The values of a plain, small dataset; None for all others, which ``hdf5.read`` checks."""
    if not isinstance(dataset, h5d.DatasetID):
        return None
    try:
        creation = dataset.get_create_plist()
        elsewhere = creation.get_layout() == h5d.VIRTUAL or creation.get_external_count()
        shape, dtype = dataset.shape, dataset.dtype
        if elsewhere or not shape or dtype.kind not in "fiub" or math.prod(shape) * dtype.itemsize > _SMALL:
            return None
        values: Array = np.empty(shape, dtype)
        dataset.read(h5s.ALL, h5s.ALL, values)
    except _NOT_PLAIN:
        return None
    return values


def _datasets(infos: h5g.GroupID, where: str) -> Iterator[tuple[LeafPath, h5d.DatasetID]]:
    stack: list[tuple[LeafPath, h5g.GroupID]] = [((), infos)]
    while stack:
        prefix, group = stack.pop()
        if len(prefix) > _DEEPEST:
            raise UserError(f"{where}: infos are nested deeper than {_DEEPEST} groups; flatten them")
        with translated(where):
            names = [name.decode() for name in group]
        for name in names:
            node = _plain_node(group, (name,))
            if isinstance(node, h5g.GroupID):
                stack.append(((*prefix, name), node))
            elif isinstance(node, h5d.DatasetID):
                yield (*prefix, name), node
            else:
                find(h5py.Group(group), name, where)  # refuses links; ignores named types


def _is_jpeg(dataset: h5d.DatasetID, shape: tuple[int, ...], dtype: np.dtype[Any], where: str) -> bool:
    """Whether a dataset holds encoded images: bytes of variable length, or rows if all have equal length."""
    if dtype.kind == "O":
        return bool(h5py.check_vlen_dtype(dtype) == np.uint8)
    if dtype != np.uint8 or not may_hold_images(dtype, shape) or not shape[0]:
        return False
    comfortable = h5py.Dataset(dataset)
    require_plain(comfortable, f"{where}: {comfortable.name!r}")
    return starts_as_image(comfortable[0, :SMALLEST_FILE].tobytes())


def _unfit(
    dataset: h5d.DatasetID, shape: tuple[int, ...], dtype: np.dtype[Any], *, jpeg: bool, rows: int
) -> str | None:
    if not shape:
        return "a single value, not one per step,"
    if not jpeg and dtype.kind not in "fiub":
        return f"{describe_dtype(h5py.Dataset(dataset))}, not numbers,"
    if 0 in shape[1:]:
        return "no numbers per row"
    if shape[0] != rows:
        return f"{shape[0]} rows instead of {rows}"
    return None
