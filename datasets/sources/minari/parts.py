"""The files of Minari's Arrow and Parquet layouts, from strangers: nothing is believed before it is checked."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from dreamset.core.errors import UserError
from dreamset.datasets.sources.minari.storage import LeafPath

_UNSUSPICIOUS = 1 << 30  # bytes; a long episode of black frames shrinks to almost nothing
_LARGEST_RATIO = 1100  # beyond that size, no more than this times the stored bytes is believed
_DAMAGE = (pa.ArrowException, OSError, ValueError, KeyError, IndexError, TypeError, OverflowError, MemoryError)


class Part(Protocol):
    """An open file of columns."""

    @property
    def schema(self) -> pa.Schema:
        """Its columns."""

    def load(self, leaves: Collection[LeafPath]) -> pa.Table:
        """At least these leaves."""


class _Ipc:
    """Arrow's own format, of which top-level columns can be read alone."""

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
    """Parquet, of which nested leaves can be read alone."""

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
    """The file, by the ending of its name.

    Raises:
        UserError: starting with ``where``, if it is missing, cut short or damaged.
    """
    try:
        yield _PARTS[path.suffix](path)
    except UserError:
        raise
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{where}: unreadable or cut short ({reason}); copy or download it again") from error


def _row_bytes(kind: pa.DataType) -> int:
    """At least so many bytes does a row take in memory."""
    if pa.types.is_struct(kind):
        return sum(_row_bytes(field.type) for field in kind)
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size) * _row_bytes(kind.value_type)
    return max(1, kind.bit_width // 8) if pa.types.is_primitive(kind) else 1
