"""One HDF5 file of a store: contiguous columns at its root, written at once and read through a memory map."""

import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from dreamset.core.errors import UserError
from dreamset.core.spec import ArraySpec
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

_BYTE_ALIGNMENT = 64  # of every column in the file, so that mapped arrays are aligned for any dtype


@dataclass(frozen=True, slots=True)
class Shard:
    """The mapped columns of one file; arrays are read-only views into it."""

    columns: Mapping[str, Array]  # name -> [rows, ...]
    lengths: Array  # [episodes] rows of each episode
    offsets: Array  # [episodes] first row of each episode
    returns: Array  # [episodes] sum of rewards


def write_shard(path: Path, specs: Mapping[str, ArraySpec], episodes: Sequence[Episode]) -> None:
    """Writes the episodes one after another; equal episodes give equal bytes."""
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
            column = _create(file, name, (int(ends[-1]), *spec.shape), spec.dtype)
            for episode, end in zip(episodes, ends, strict=True):
                column[end - episode.rows : end] = columns_of(episode)[name]
        for name, dtype in EPISODE_COLUMNS.items():
            _create(file, name, lengths.shape, dtype)[:] = figures[name]


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
    columns = {name: np.ndarray(shape, dtype, content, offset=offsets[name]) for name, (shape, dtype) in wanted.items()}
    figures = {name: columns.pop(name) for name in EPISODE_COLUMNS}
    shard = Shard(columns, figures[EPISODE_ROWS], figures[EPISODE_OFFSET], figures[EPISODE_RETURN])
    _check_episodes(shard, rows, path)
    return shard


def _create(file: h5py.File, name: str, shape: tuple[int, ...], dtype: str) -> h5py.Dataset:
    return file.create_dataset(name, shape, dtype, track_times=False)  # a timestamp would change the bytes


def _checked_offset(
    name: str,
    found: h5py.Group | h5py.Dataset,
    path: Path,
    wanted: Mapping[str, tuple[tuple[int, ...], np.dtype[np.generic]]],
) -> int:
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
    if offset is None and found.size:
        raise UserError(f"{place} is chunked or compressed, so it cannot be mapped; run the ingest stage again")
    if (offset or 0) + found.size * found.dtype.itemsize > size:
        raise UserError(f"{place} ends behind the end of the file of {size} bytes; it was cut short, copy it again")
    return offset or 0


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
