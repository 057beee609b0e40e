"""One HDF5 file of a store: flat columns at its root, written at once and read through a memory map.

Contiguous columns are mapped; compressed ones (lossless, for archives) are read by h5py, chunk by chunk.
"""

import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dreamset.core.errors import UserError
from dreamset.core.spec import ArraySpec
from dreamset.datasets.compression import compression_filter, load_filters
from dreamset.datasets.episode import Array, Episode
from dreamset.datasets.hdf5 import members, opened, require_plain, translated
from dreamset.datasets.layout import (
    ALIGNMENT,
    EPISODE_COLUMNS,
    EPISODE_OFFSET,
    EPISODE_RETURN,
    EPISODE_ROWS,
    FORMAT_VERSION,
    columns_of,
)

_CHUNK_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 20  # that are written at once
_BYTE_ALIGNMENT = 64  # of every column in the file, so that mapped arrays are aligned for any dtype


@dataclass(frozen=True, slots=True)
class Shard:
    """The columns of one file: read-only views into it, or h5py datasets where the file is compressed."""

    columns: Mapping[str, Any]  # name -> [rows, ...], to be sliced
    mapped: mmap.mmap
    large: Sequence[tuple[int, int]]  # where each column of large rows begins in the file, and bytes of its rows
    lengths: Array  # [episodes] rows of each episode
    offsets: Array  # [episodes] first row of each episode
    returns: Array  # [episodes] sum of rewards

    def will_need(self, first: int, last: int) -> None:
        """Has the system read these rows of large columns in one go; a map by itself is read page by page."""
        for offset, row in self.large:
            begin = (offset + first * row) // mmap.PAGESIZE * mmap.PAGESIZE
            self.mapped.madvise(mmap.MADV_WILLNEED, begin, offset + last * row - begin)


def write_shard(
    path: Path, specs: Mapping[str, ArraySpec], episodes: Sequence[Episode], *, compression: str | None = None
) -> None:
    """Writes the episodes one after another; equal episodes give equal bytes."""
    options = compression_filter(compression)
    contents = [columns_of(episode) for episode in episodes]
    lengths = np.array([episode.rows for episode in episodes])
    ends = np.cumsum(lengths)
    figures = {
        EPISODE_ROWS: lengths,
        EPISODE_OFFSET: ends - lengths,
        EPISODE_RETURN: np.array([episode.reward.sum(dtype=np.float64) for episode in episodes]),
    }
    with h5py.File(path, "w", alignment_threshold=1, alignment_interval=_BYTE_ALIGNMENT) as file:
        file.attrs["alignment"] = ALIGNMENT
        file.attrs["format_version"] = FORMAT_VERSION
        for name, spec in specs.items():
            column = _create(file, name, (int(ends[-1]), *spec.shape), spec.dtype, options)
            end = 0
            for rows in _blocks([content[name] for content in contents]):
                column.write_direct(rows, dest_sel=np.s_[end : end + len(rows)])
                end += len(rows)
        for name, dtype in EPISODE_COLUMNS.items():
            _create(file, name, lengths.shape, dtype, {})[:] = figures[name]


def open_shard(path: Path, specs: Mapping[str, ArraySpec], *, episodes: int, rows: int) -> Shard:
    """Maps a shard after checking that it is what ``dataset.json`` says.

    Raises:
        UserError: naming the file and what is wrong with it.
    """
    wanted = {name: ((rows, *spec.shape), np.dtype(spec.dtype)) for name, spec in specs.items()}
    wanted |= {name: ((episodes,), np.dtype(dtype)) for name, dtype in EPISODE_COLUMNS.items()}
    with opened(path) as file, translated(str(path)):
        offsets = {name: _checked_offset(name, found, path, wanted) for name, found in members(file, str(path)).items()}
    missing = sorted(wanted.keys() - offsets.keys())
    if missing:
        raise UserError(f"{path}: columns {missing} are missing; run the ingest stage again")
    content = _map(path)
    columns: dict[str, Any] = {
        name: np.ndarray(shape, dtype, content, offset=offset)
        for name, (shape, dtype) in wanted.items()
        if (offset := offsets[name]) is not None
    }
    figures = {name: columns.pop(name) for name in EPISODE_COLUMNS}
    packed = _compressed(path, sorted(wanted.keys() - columns.keys() - figures.keys()))
    large = [(offsets[name] or 0, values[:1].nbytes) for name, values in columns.items() if _is_large(values)]
    columns |= packed
    shard = Shard(columns, content, large, figures[EPISODE_ROWS], figures[EPISODE_OFFSET], figures[EPISODE_RETURN])
    _check_episodes(shard, rows, path)
    return shard


def _is_large(values: Array) -> bool:
    """Whether reading ahead pays: a row is a page or more. Not every system can be asked."""
    return hasattr(mmap, "MADV_WILLNEED") and values[:1].nbytes >= mmap.PAGESIZE


def _blocks(parts: Sequence[Array]) -> Iterator[Array]:
    """The parts in order, small ones joined: HDF5 takes 0.1 ms to be called, which counts for thousands of them."""
    small: list[Array] = []
    size = 0
    for part in parts:
        small.append(part)
        size += part.nbytes
        if size >= _BLOCK_BYTES:
            yield small[0] if len(small) == 1 else np.concatenate(small)
            small, size = [], 0
    if small:
        yield small[0] if len(small) == 1 else np.concatenate(small)


def _create(
    file: h5py.File, name: str, shape: tuple[int, ...], dtype: str, compression: Mapping[str, Any]
) -> h5py.Dataset:
    options = dict(compression)
    if options:
        options["chunks"] = (chunk_rows(shape, np.dtype(dtype).itemsize), *shape[1:])
    return file.create_dataset(name, shape, dtype, track_times=False, **options)  # a timestamp would change the bytes


def chunk_rows(shape: tuple[int, ...], itemsize: int) -> int:
    """Rows of a chunk of about one MiB: a window of images lies in one or two of them."""
    row = itemsize * int(np.prod(shape[1:], dtype=np.int64))
    return max(1, min(shape[0], _CHUNK_BYTES // row))


def _checked_offset(
    name: str,
    found: h5py.Group | h5py.Dataset,
    path: Path,
    wanted: Mapping[str, tuple[tuple[int, ...], np.dtype[np.generic]]],
) -> int | None:
    """Where a contiguous column begins in the file; None if it is in chunks."""
    place = f"{path}: {name!r}"
    if not isinstance(found, h5py.Dataset):
        raise UserError(f"{place} is a group, a shard holds plain columns only; run the ingest stage again")
    require_plain(found, place)
    shape, dtype = wanted.get(name, (found.shape, found.dtype))
    if (found.shape, found.dtype) != (shape, dtype) or found.dtype.kind == "O":
        got = f"{found.dtype}{list(found.shape)}"
        raise UserError(f"{place} is {got}, dataset.json says {dtype}{list(shape)}; run the ingest stage again")
    offset = found.id.get_offset()
    size = path.stat().st_size
    if found.chunks is not None and name not in EPISODE_COLUMNS:
        return None
    if (offset or 0) + found.size * found.dtype.itemsize > size:
        raise UserError(f"{place} ends behind the end of the file of {size} bytes; it was cut short, copy it again")
    return offset or 0


def _compressed(path: Path, names: Sequence[str]) -> dict[str, h5py.Dataset]:
    """Columns that need unpacking; their datasets keep the file open."""
    if not names:
        return {}
    load_filters()
    with translated(str(path)):
        file = h5py.File(path, "r", locking="best-effort")
        return {name: file[name] for name in names}


def _map(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be mapped ({error}); raise `ulimit -n` or ingest into larger shards"
        ) from error


def _check_episodes(shard: Shard, rows: int, path: Path) -> None:
    lengths = shard.lengths.astype(np.int64)
    if lengths.min(initial=2) < 2 or lengths.sum() != rows or (shard.offsets != np.cumsum(lengths) - lengths).any():
        raise UserError(f"{path}: episode lengths and offsets do not cover its {rows} rows; run the ingest stage again")
