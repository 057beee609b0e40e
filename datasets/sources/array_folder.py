"""A folder whose files hold the columns: one ``.npy`` file for each, or files with several columns."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dreamset.core.errors import UserError
from dreamset.datasets.episode import Array
from dreamset.datasets.sources.npz import ArrayHeader
from dreamset.datasets.sources.tables import ALL_ROWS, PathTable, Table

NPY_ENDING = ".npy"


@dataclass(frozen=True, slots=True)
class NpyTable(PathTable):
    """One array in a ``.npy`` file; its column has the name "", because the file's name says what it is."""

    def headers(self, where: str) -> Mapping[str, ArrayHeader]:
        """Shape and dtype of the array."""
        with _mapped(self.path, where) as array:
            return {"": ArrayHeader(array.shape, array.dtype)}

    def read(self, columns: Collection[str], where: str, rows: slice = ALL_ROWS) -> dict[str, Array]:
        """Reads only the given rows."""
        with _mapped(self.path, where) as array:
            if not array.ndim:
                raise UserError(f"{where}: {self.name} is a single value, expected one row per step; omit it")
            return {column: np.array(array[rows]) for column in columns}


@dataclass(frozen=True, slots=True)
class FolderTable(PathTable):
    """The columns of all files in a folder.

    ``action.npy`` is ``action``, ``x`` in ``obs.npz`` is ``obs/x``, and the images ``front/*.png`` are ``front``.
    """

    files: tuple[tuple[str, Table], ...]  # path within the folder, without ending -> its table

    def headers(self, where: str) -> Mapping[str, ArrayHeader]:
        """Headers of the columns of every file."""
        names = [name for name, _ in self.files]
        twice = [name for name in names if names.count(name) > 1]
        if twice or not names:
            found = f"several files named {twice[0]!r}" if twice else "no files of arrays or images"
            raise UserError(f"{where}: contains {found}, expected one file for each name; fix or remove the folder")
        return {
            _joined(beginning, column): header
            for beginning, table in self.files
            for column, header in table.headers(f"{where}: {table.name}").items()
        }

    def read(self, columns: Collection[str], where: str, rows: slice = ALL_ROWS) -> dict[str, Array]:
        """Rows of the named columns, from the files that hold them."""
        within: dict[str, dict[str, str]] = {name: {} for name, _ in self.files}
        for column in columns:
            files = [name for name in within if column == name or column.startswith(f"{name}/")]
            if not files:
                raise UserError(f"{where}: {column!r} is missing; available: {sorted(self.headers(where))}")
            name = max(files, key=len)  # obs/x.npy rather than x in obs.npz
            within[name][column] = column.removeprefix(name).removeprefix("/")
        values: dict[str, Array] = {}
        for name, table in self.files:
            inner = within[name]
            if inner:
                arrays = table.read(list(inner.values()), f"{where}: {table.name}", rows)
                values |= {column: arrays[stored] for column, stored in inner.items()}
        return values


@contextmanager
def _mapped(path: Path, where: str) -> Iterator[Array]:
    """The array of a file, not yet in memory; its size is checked against the file's, and nothing is unpickled."""
    try:
        yield np.lib.format.open_memmap(path, mode="r")
    except UserError:
        raise
    except (OSError, ValueError, EOFError, TypeError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{where}: unreadable, truncated or no array of numbers ({reason}); copy it again") from error


def _joined(beginning: str, column: str) -> str:
    return f"{beginning}/{column}" if column else beginning
