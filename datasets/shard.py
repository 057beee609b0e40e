"""One HDF5 file of a store: flat columns at its root, written once and read through a memory map.

Contiguous columns are memory-mapped; h5py reads compressed columns chunk by chunk.
"""

import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dreamset.core.disk import write_whole
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
_BLOCK_BYTES = 1 << 20  # written in one call
_GROWTH_BYTES = 8 << 20  # by which a file in memory grows
_BYTE_ALIGNMENT = 64  # of each column in the file, so that mapped arrays are aligned for every dtype


@dataclass(frozen=True, slots=True)
class Shard:
    """The columns of one file: read-only views, or h5py datasets if the file is compressed."""

    columns: Mapping[str, Any]  # name -> [rows, ...], supports slicing
    mapped: mmap.mmap
    large: Sequence[tuple[int, int]]  # offset in the file and bytes per row, of each column with large rows
    lengths: Array  # [episodes] rows of each episode
    offsets: Array  # [episodes] first row of each episode
    returns: Array  # [episodes] sum of rewards

    def will_need(self, first: int, last: int) -> None:
        """Asks the system to read these rows of large columns ahead; otherwise it reads page by page."""
        for offset, row in self.large:
            begin = (offset + first * row) // mmap.PAGESIZE * mmap.PAGESIZE
            self.mapped.madvise(mmap.MADV_WILLNEED, begin, offset + last * row - begin)


def write_shard(
    path: Path, specs: Mapping[str, ArraySpec], episodes: Sequence[Episode], *, compression: str | None = None
) -> None:
    """Writes the episodes in order; equal episodes give equal bytes.

    HDF5 builds the file in memory: where a disk is full, it crashes when it closes a compressed file.

    Raises:
        DiskError: if there is no room for the file.
    """
    options = compression_filter(compression)
    contents = [columns_of(episode) for episode in episodes]
    lengths = np.array([episode.rows for episode in episodes])
    ends = np.cumsum(lengths)
    figures = {
        EPISODE_ROWS: lengths,
        EPISODE_OFFSET: ends - lengths,
        EPISODE_RETURN: np.array([episode.reward.sum(dtype=np.float64) for episode in episodes]),
    }
    with h5py.File(
        path,
        "w",
        driver="core",
        backing_store=False,
        block_size=_GROWTH_BYTES,
        alignment_threshold=1,
        alignment_interval=_BYTE_ALIGNMENT,
    ) as file:
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
        file.flush()
        image = file.id.get_file_image()
    write_whole(path, image)


def open_shard(path: Path, specs: Mapping[str, ArraySpec], *, episodes: int, rows: int) -> Shard:
    """Checks a shard against ``dataset.json`` and maps it.

    Raises:
        UserError: if the file does not match; names the file and the problem.
    """
    expected = {name: ((rows, *spec.shape), np.dtype(spec.dtype)) for name, spec in specs.items()}
    expected |= {name: ((episodes,), np.dtype(dtype)) for name, dtype in EPISODE_COLUMNS.items()}
    with opened(path) as file, translated(str(path)):
        offsets = {
            name: _checked_offset(name, member, path, expected) for name, member in members(file, str(path)).items()
        }
    missing = sorted(expected.keys() - offsets.keys())
    if missing:
        raise UserError(f"{path}: columns {missing} are missing; run the ingest stage again")
    content = _map(path)
    columns: dict[str, Any] = {
        name: np.ndarray(shape, dtype, content, offset=offset)
        for name, (shape, dtype) in expected.items()
        if (offset := offsets[name]) is not None
    }
    figures = {name: columns.pop(name) for name in EPISODE_COLUMNS}
    packed = _compressed(path, sorted(expected.keys() - columns.keys() - figures.keys()))
    large = [(offsets[name] or 0, values[:1].nbytes) for name, values in columns.items() if _is_large(values)]
    columns |= packed
    shard = Shard(columns, content, large, figures[EPISODE_ROWS], figures[EPISODE_OFFSET], figures[EPISODE_RETURN])
    _check_episodes(shard, rows, path)
    return shard


def _is_large(values: Array) -> bool:
    """Whether read-ahead is useful and supported: a row is at least one page."""
    return hasattr(mmap, "MADV_WILLNEED") and values[:1].nbytes >= mmap.PAGESIZE


def _blocks(parts: Sequence[Array]) -> Iterator[Array]:
    """The parts in order, with small parts joined: each call of HDF5 costs 0.1 ms, and there are thousands."""
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
    """Rows of a chunk of about one MiB, so that a window of images lies in one or two chunks."""
    row = itemsize * int(np.prod(shape[1:], dtype=np.int64))
    return max(1, min(shape[0], _CHUNK_BYTES // row))


def _checked_offset(
    name: str,
    member: h5py.Group | h5py.Dataset,
    path: Path,
    expected: Mapping[str, tuple[tuple[int, ...], np.dtype[np.generic]]],
) -> int | None:
    """The offset of a contiguous column in the file; None if the column is chunked."""
    place = f"{path}: {name!r}"
    if not isinstance(member, h5py.Dataset):
        raise UserError(f"{place} is a group, but a shard has only plain columns; run the ingest stage again")
    require_plain(member, place)
    shape, dtype = expected.get(name, (member.shape, member.dtype))
    if (member.shape, member.dtype) != (shape, dtype) or member.dtype.kind == "O":
        got = f"{member.dtype}{list(member.shape)}"
        raise UserError(f"{place} is {got}, dataset.json says {dtype}{list(shape)}; run the ingest stage again")
    offset = member.id.get_offset()
    size = path.stat().st_size
    if member.chunks is not None and name not in EPISODE_COLUMNS:
        return None
    if (offset or 0) + member.size * member.dtype.itemsize > size:
        raise UserError(f"{place} extends beyond the file of {size} bytes; the file is truncated, copy it again")
    return offset or 0


def _compressed(path: Path, names: Sequence[str]) -> dict[str, h5py.Dataset]:
    """Compressed columns; their datasets keep the file open."""
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
