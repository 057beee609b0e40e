"""Reads untrusted npz archives: unpickles nothing and checks sizes before allocation."""

import io
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from dreamset.core.errors import UserError
from dreamset.datasets.episode import Array
from dreamset.datasets.sources.encoded import PEEK, first_image, may_hold_images, starts_as_image

_SUFFIX = ".npy"
_LONGEST_HEADER = 1 << 14  # bytes; headers of plain arrays have 128
_DEFLATE_RATIO = 1100  # deflate compresses at most 1032 to 1: a larger claim means a damaged file
_DAMAGE = (OSError, ValueError, KeyError, EOFError, RuntimeError, TypeError, OverflowError, MemoryError)
_ZIP_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError)


@dataclass(frozen=True, slots=True)
class ArrayHeader:
    """Shape and dtype of an array, known before its values are read."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    image: tuple[int, ...] | None = None  # shape of the encoded image in the first row, () if damaged; None: no image

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of a row after decoding, in which files must agree; encoded images vary in length."""
        return self.shape[1:] if self.image is None else self.image

    @property
    def is_usable(self) -> bool:
        """Whether the values are numbers or encoded images."""
        return self.dtype.kind in "fiub" or self.image is not None


@dataclass(frozen=True, slots=True)
class NpzArchive:
    """The arrays of an open archive."""

    where: str  # for messages, such as "episode 12 of /data/12.npz"
    headers: Mapping[str, ArrayHeader]
    _archive: zipfile.ZipFile

    def read(self, name: str) -> Array:
        """All values of one array.

        Raises:
            UserError: if it is missing, damaged or holds pickled objects.
        """
        if name not in self.headers:
            raise UserError(f"{self.where}: {name!r} is missing; available: {sorted(self.headers)}")
        if self.headers[name].dtype.hasobject:
            raise UserError(f"{self.where}: {name!r} holds pickled objects, which is refused; store it as numbers")
        with _translated(self.where), self._archive.open(name + _SUFFIX) as stream:
            values: Array = np.lib.format.read_array(stream, allow_pickle=False, max_header_size=_LONGEST_HEADER)
        return values


@contextmanager
def opened_npz(path: Path, where: str) -> Iterator[NpzArchive]:
    """Opens the archive and reads only the headers of its arrays.

    Raises:
        UserError: if the file is missing, truncated, not npz, or claims impossible sizes; starts with ``where``.
    """
    if not path.is_file():
        raise UserError(f"{where}: no such file; check the path, or copy or download the dataset again")
    with _translated(where):
        archive = zipfile.ZipFile(path)
    with archive:
        yield NpzArchive(where, _read_headers(archive, path.stat().st_size, where), archive)


def _read_headers(archive: zipfile.ZipFile, stored: int, where: str) -> dict[str, ArrayHeader]:
    headers = {}
    for entry in archive.infolist():
        if not entry.filename.endswith(_SUFFIX):
            raise UserError(f"{where}: contains {entry.filename!r}, which is not an array; remove that entry")
        _require_possible(entry, stored, f"{where}: {entry.filename!r}")
        with _translated(where), archive.open(entry) as stream:
            headers[entry.filename.removesuffix(_SUFFIX)] = _parse_header(stream, entry, where)
    return headers


def _require_possible(entry: zipfile.ZipInfo, stored: int, place: str) -> None:
    """Checks that the claimed size is possible; only numpy's two compression methods are supported."""
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UserError(f"{place} uses an unknown compression method; write the file again with numpy")
    packed = min(entry.compress_size, stored)
    largest = packed if entry.compress_type == zipfile.ZIP_STORED else _DEFLATE_RATIO * packed
    if entry.file_size > largest:
        raise UserError(
            f"{place} claims {entry.file_size} bytes of which {packed} are stored; the file is damaged, copy it again"
        )


def _parse_header(stream: IO[bytes], entry: zipfile.ZipInfo, where: str) -> ArrayHeader:
    start = io.BytesIO(stream.read(_LONGEST_HEADER))
    version = np.lib.format.read_magic(start)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{entry.filename!r} has the unknown version {version}")
    parse = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = parse(start, max_header_size=_LONGEST_HEADER)
    header = ArrayHeader(tuple(map(int, shape)), dtype)
    _require_fitting(header, entry.file_size - start.tell(), f"{where}: {entry.filename!r}")
    if fortran_order or not may_hold_images(dtype, header.shape):
        return header
    return replace(header, image=_first_image(start, stream, math.prod(header.shape[1:]) * dtype.itemsize))


def _first_image(start: IO[bytes], stream: IO[bytes], row_bytes: int) -> tuple[int, ...] | None:
    """The shape of the image in the first row, which begins in ``start`` and continues in ``stream``."""
    row = start.read(row_bytes)
    if starts_as_image(row):
        row += stream.read(min(row_bytes, PEEK) - len(row)) if len(row) < min(row_bytes, PEEK) else b""
    return first_image(row)


def _require_fitting(header: ArrayHeader, content: int, place: str) -> None:
    if header.dtype.hasobject:
        return  # pickled: the size is unknown, but the array is never read
    claimed = math.prod(header.shape) * header.dtype.itemsize
    if min(header.shape, default=0) < 0 or claimed != content:
        shape = list(header.shape)
        raise UserError(
            f"{place} claims {header.dtype}{shape}, {claimed} bytes, but has {content}; it is damaged, copy it again"
        )


@contextmanager
def _translated(where: str) -> Iterator[None]:
    """Turns errors of zip, zlib and numpy about a damaged file into a ``UserError`` of one line."""
    try:
        yield
    except UserError:
        raise
    except (*_DAMAGE, *_ZIP_DAMAGE) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{where}: unreadable, truncated or not npz ({reason}); copy or download it again") from error
