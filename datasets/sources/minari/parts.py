"""Reads untrusted files of Minari's Arrow and Parquet layouts; checks sizes before allocation."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from dreamset.core.errors import UserError
from dreamset.datasets.sources.minari.storage import LeafPath

_UNSUSPICIOUS = 1 << 30  # bytes that are always allowed; a long episode of black frames compresses to almost nothing
_LARGEST_RATIO = 1100  # largest plausible compression ratio beyond that size
_DAMAGE = (pa.ArrowException, OSError, ValueError, KeyError, IndexError, TypeError, OverflowError, MemoryError)


class Part(Protocol):
    """An open file of columns."""

    @property
    def schema(self) -> pa.Schema:
        """The columns of the file."""

    def load(self, leaves: Collection[LeafPath]) -> pa.Table:
        """A table with at least these leaves."""


class _Ipc:
    """Arrow's IPC format; reads only the needed top-level columns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
            self.schema = reader.schema

    def load(self, leaves: Collection[LeafPath]) -> pa.Table:
        wanted = sorted({self.schema.get_field_index(leaf[0]) for leaf in leaves})
        options = pa.ipc.IpcReadOptions(included_fields=wanted, use_threads=False)
        with pa.OSFile(str(self._path)) as file, pa.ipc.open_file(file, options=options) as reader:
            return reader.read_all()


class _Parquet:
    """Parquet; reads only the needed leaves."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with pa.parquet.ParquetFile(path) as file:
            self.schema = file.schema_arrow
            self._rows = file.metadata.num_rows

    def load(self, leaves: Collection[LeafPath]) -> pa.Table:
        claimed = self._rows * sum(_row_bytes(field.type) for field in self.schema)
        stored = self._path.stat().st_size
        if claimed > max(_UNSUSPICIOUS, _LARGEST_RATIO * stored):
            raise ValueError(f"it claims {claimed} bytes of which {stored} are stored")
        with pa.parquet.ParquetFile(self._path) as file:
            return file.read(columns=[".".join(leaf) for leaf in leaves], use_threads=False)


_PARTS: Mapping[str, Callable[[Path], Part]] = {".arrow": _Ipc, ".parquet": _Parquet}


@contextmanager
def opened_part(path: Path, where: str) -> Iterator[Part]:
    """Opens the file, by its ending.

    Raises:
        UserError: if it is missing, truncated or damaged; starts with ``where``.
    """
    try:
        yield _PARTS[path.suffix](path)
    except UserError:
        raise
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{where}: unreadable or truncated ({reason}); copy or download it again") from error


def _row_bytes(kind: pa.DataType) -> int:
    """A lower bound on a row's size in memory."""
    if pa.types.is_struct(kind):
        return sum(_row_bytes(field.type) for field in kind)
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size) * _row_bytes(kind.value_type)
    return max(1, kind.bit_width // 8) if pa.types.is_primitive(kind) else 1
