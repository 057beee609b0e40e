"""Reads untrusted HDF5 files: follows no links out of the file and checks sizes before allocation."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from dreamset.core.errors import UserError
from dreamset.datasets.compression import available
from dreamset.datasets.episode import Array

_DEFLATE_RATIO = 1100  # deflate compresses at most 1032 to 1
_MODEST = 256 << 20  # bytes that values may take in memory although fewer are stored: fill values, constant columns
_EXPLAINED = {  # part of HDF5's message -> finding and remedy; {} is the file
    "unable to lock file": "is being written by another process; close it there, then try again",
    "already open for": (
        "is being written by another process, or was when that process ended; close it there, or if no process has it "
        "open, run `h5clear -s {}` (of the hdf5-tools)"
    ),
    "Permission denied": "this user may not read it; change its permissions",
}


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """The file, open for reading only.

    Raises:
        UserError: if it is missing, truncated or not HDF5.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path, or copy or download the dataset again")
    with translated(str(path)):
        file = h5py.File(path, "r", locking="best-effort")
    with file:
        yield file


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Turns HDF5's errors about a damaged file into a ``UserError`` of one line."""
    try:
        yield
    except UserError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise UserError(f"{where}: {_explained(error, where)}") from error


def _explained(error: Exception, where: str) -> str:
    """Finding and remedy for an error of HDF5."""
    reason = " ".join(str(error).split())
    for part, text in _EXPLAINED.items():
        if part in reason:
            return text.format(where)
    return f"unreadable, truncated or not HDF5 ({reason}); copy or download it again"


def members(group: h5py.Group, where: str) -> dict[str, h5py.Group | h5py.Dataset]:
    """Every member of a group by name.

    Raises:
        UserError: if one is a link that could lead out of the file.
    """
    with translated(where):
        return {name: _hard_member(group, name, where) for name in group}


def find(node: h5py.Group | h5py.Dataset, name: str, where: str) -> h5py.Group | h5py.Dataset | None:
    """The member ``name`` of a group; None if it does not exist.

    Raises:
        UserError: if it is a link that could lead out of the file.
    """
    with translated(where):
        if not isinstance(node, h5py.Group) or name not in node:
            return None
        return _hard_member(node, name, where)


def descend(group: h5py.Group, path: Sequence[str], where: str) -> h5py.Dataset:
    """The dataset at ``path`` below ``group``.

    Raises:
        UserError: if it is missing, not a dataset or behind a link.
    """
    node: h5py.Group | h5py.Dataset | None = group
    for depth, name in enumerate(path):
        node = find(node, name, where)
        if node is None:
            place = "/".join(path[: depth + 1])
            raise UserError(f"{where}: {place!r} is missing; the file is incomplete, copy or download it again")
    if not isinstance(node, h5py.Dataset):
        raise UserError(f"{where}: {'/'.join(path)!r} is a group, expected an array; it does not match the metadata")
    return node


def read(dataset: h5py.Dataset, where: str, *, rows: int | None = None) -> Array:
    """All values of a dataset; if ``rows`` is given, the dataset must have that many rows.

    Raises:
        UserError: if the values are in other files, need a missing filter, are objects other than byte strings, or
            claim far more memory than they have bytes.
    """
    with translated(where):
        place = f"{where}: {dataset.name!r}"
        require_plain(dataset, place)
        _require_readable(dataset, place)
        _require_rows(dataset, place, rows)
        values: Array = dataset[()]
    return values


def _require_readable(dataset: h5py.Dataset, place: str) -> None:
    if not dataset.shape:
        raise UserError(f"{place} is a single value, expected one row per step; the file is damaged, copy it again")
    if dataset.dtype.kind == "O" and h5py.check_vlen_dtype(dataset.dtype) != np.uint8:
        raise UserError(f"{place} holds {describe_dtype(dataset)}; allowed: numbers and encoded images")
    require_possible(dataset, dataset.size * dataset.dtype.itemsize, place)


def _require_rows(dataset: h5py.Dataset, place: str, rows: int | None) -> None:
    if rows is not None and len(dataset) != rows:
        raise UserError(
            f"{place} has {len(dataset)} rows, expected {rows} to match the rewards; fix or drop the episode"
        )


def require_possible(dataset: h5py.Dataset, size: int, place: str) -> None:
    """Checks the memory that values would take before it is allocated.

    Values of up to 256 MiB may be fill values that were never written, or constants under any filter. Larger ones may
    take what deflate can unpack from the stored bytes.

    Raises:
        UserError: if ``size``, in bytes, is larger.
    """
    stored = min(dataset.id.get_storage_size(), Path(dataset.file.filename).stat().st_size)
    if size > max(_MODEST, _DEFLATE_RATIO * stored):
        raise UserError(
            f"{place} claims {size} bytes of which {stored} are stored; the file is damaged or was never filled: copy "
            f"it again, or omit the column"
        )


def require_plain(dataset: h5py.Dataset, place: str) -> None:
    """Checks that the values of a dataset are in this file, and that its filters are available.

    Raises:
        UserError: if the values are in other files, or a filter is missing.
    """
    if dataset.is_virtual or dataset.external:
        raise UserError(f"{place} stores its values in other files, which is refused; write them into this file")
    creation = dataset.id.get_create_plist()
    for number in range(creation.get_nfilters()):
        code, _, _, name = creation.get_filter(number)
        if not available(code):
            filter_name = name.decode(errors="replace").partition(";")[0] or f"number {code}"
            raise UserError(
                f"{place} is compressed with the filter {filter_name!r}, which HDF5 does not contain; run "
                f"pip install 'dreamset[archive]' (the package hdf5plugin), or write the file again with gzip"
            )


def describe_dtype(dataset: h5py.Dataset) -> str:
    """The element type, for messages."""
    return "text" if h5py.check_string_dtype(dataset.dtype) else f"{dataset.dtype} elements"


def _hard_member(group: h5py.Group, name: str, where: str) -> h5py.Group | h5py.Dataset:
    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        kind = "an external" if isinstance(link, h5py.ExternalLink) else "a soft"
        raise UserError(f"{where}: {name!r} is {kind} link, which is refused; copy its values into the file")
    return group[name]
