"""Zarr groups as tables; needs the package ``zarr``, which the extra of that name installs."""

import json
import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from dreamset.core.errors import UserError
from dreamset.datasets.episode import Array
from dreamset.datasets.sources.folder import walk
from dreamset.datasets.sources.npz import ArrayHeader
from dreamset.datasets.sources.tables import ALL_ROWS, PathTable

ZARR_ENDING = ".zarr"

_MARKERS = (".zgroup", "zarr.json")
_METADATA = {".zarray", ".zattrs", "zarr.json"}
_BLOSC = {"Blosc", "BloscCodec"}
_DEEPEST = 16  # nested groups: more than this is a cycle of links
# Decoding by any other codec is refused: some execute code from the file, such as numcodecs' Pickle.
_CODECS = {
    *("Blosc", "Zstd", "LZ4", "Zlib", "GZip", "BZ2", "LZMA", "Delta", "Shuffle", "FixedScaleOffset"),
    *("BytesCodec", "BloscCodec", "ZstdCodec", "GzipCodec", "Crc32cCodec", "TransposeCodec", "ShardingCodec"),
}
_LARGEST_RATIO = 1100  # of claimed to stored bytes; chunks of zeros may be left out
_SMALL = 1 << 24  # bytes that are allocated without this check


@dataclass(frozen=True, slots=True)
class ZarrTable(PathTable):
    """The arrays of a zarr group, format 2 or 3, named by their path, such as ``data/action``."""

    def headers(self, where: str) -> Mapping[str, ArrayHeader]:
        """Shape and dtype of every array; object dtype for arrays that cannot be opened."""
        headers = {}
        for name in _arrays(self.path):
            try:
                with _opened(self.path / name, where) as array:
                    headers[name] = ArrayHeader(array.shape, array.dtype)
            except _UnreadableError:
                headers[name] = ArrayHeader((), np.dtype(object))
        return headers

    def read(self, columns: Collection[str], where: str, rows: slice = ALL_ROWS) -> dict[str, Array]:
        """Decodes the chunks that contain the rows."""
        names = _arrays(self.path)
        for column in columns:
            if column not in names:
                raise UserError(f"{where}: {column!r} is missing; available: {names}")
        return {column: _rows(self.path / column, rows, f"{where}: {column!r}") for column in columns}


class _UnreadableError(UserError):
    """An array that zarr cannot open or decode."""


def is_zarr(path: Path) -> bool:
    """Whether a folder is a zarr group."""
    return any((path / marker).is_file() for marker in _MARKERS)


def _arrays(path: Path) -> list[str]:
    """The paths of the arrays in a group, without looking into the folders of their chunks."""
    names = []
    for parent, folders, files in os.walk(path, followlinks=True):
        is_array = ".zarray" in files or ("zarr.json" in files and not _is_group(Path(parent) / "zarr.json"))
        if is_array:
            names.append(Path(parent).relative_to(path).as_posix())
        if is_array or len(Path(parent).relative_to(path).parts) >= _DEEPEST:
            folders.clear()
    return sorted(names)


def _is_group(metadata: Path) -> bool:
    try:
        return bool(json.loads(metadata.read_text(encoding="utf-8"))["node_type"] == "group")
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


@contextmanager
def _opened(path: Path, where: str) -> Iterator[Any]:
    try:
        import zarr
    except ModuleNotFoundError:
        raise UserError(f"{where}: zarr needs a package of this name; run pip install 'dreamset[zarr]'") from None
    try:
        yield zarr.open_array(path, mode="r")
    except UserError:
        raise
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, MemoryError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise _UnreadableError(f"{where}: unreadable or no zarr array ({reason}); copy it again, or omit it") from error


def _rows(path: Path, rows: slice, place: str) -> Array:
    with _opened(path, place) as array:
        _require_plain(array, place)
        stored = _stored_bytes(path, str(next(reversed(list(_codecs(array.metadata))), "")), place)
        wanted = len(range(*rows.indices(array.shape[0]))) * math.prod(array.shape[1:]) * array.dtype.itemsize
        if wanted > max(_SMALL, _LARGEST_RATIO * stored):
            raise UserError(f"{place} claims {wanted} bytes of which {stored} are stored; copy or download it again")
        return np.asarray(array[rows])


def _require_plain(array: Any, place: str) -> None:
    """Raises a ``UserError`` unless the array holds rows of numbers in known codecs."""
    if not array.shape:
        raise UserError(f"{place} is a single value, expected one row per step; omit it")
    if array.dtype.kind not in "fiub":
        raise UserError(f"{place} holds {array.dtype}, expected numbers; omit it")
    unknown = sorted(set(_codecs(array.metadata)) - _CODECS)
    if unknown:
        raise UserError(
            f"{place} is encoded by {unknown[0]}, which is refused; allowed: {', '.join(sorted(_CODECS))}; write the "
            f"array again with one of them"
        )


def _codecs(metadata: Any) -> Iterator[str]:
    """Names of the codecs of an array, and of those in its shards."""
    codecs: Sequence[Any] = (
        *(getattr(metadata, "codecs", None) or ()),
        *(getattr(metadata, "index_codecs", None) or ()),
        *(getattr(metadata, "filters", None) or ()),
        *filter(None, [getattr(metadata, "compressor", None)]),
    )
    for codec in codecs:
        yield type(codec).__name__
        yield from _codecs(codec)


@lru_cache(maxsize=64)
def _stored_bytes(path: Path, last_codec: str, place: str) -> int:
    """The bytes of all chunks.

    Raises:
        UserError: if a chunk of Blosc is truncated. Its decoder would read beyond the end and return chance values.
    """
    total = 0
    for chunk in walk(path):
        if chunk.name not in _METADATA:
            size = chunk.stat().st_size
            total += size
            if last_codec in _BLOSC and _blosc_bytes(chunk) != size:
                raise UserError(f"{place}: the chunk {chunk.name} is truncated; copy or download it again")
    return total


def _blosc_bytes(chunk: Path) -> int:
    """The size that the header of a Blosc chunk states."""
    with chunk.open("rb") as file:
        header = file.read(16)
    return int.from_bytes(header[12:16], "little") if len(header) == 16 else -1
