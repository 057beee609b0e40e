"""Finds the tables at a path, and opens each by its ending."""

from collections.abc import Callable, Mapping
from pathlib import Path

from dreamset.core.errors import UserError
from dreamset.datasets.sources.array_folder import NPY_ENDING, FolderTable, NpyTable
from dreamset.datasets.sources.columnar import CSV_ENDING, PARQUET_ENDING, CSVTable, ParquetTable
from dreamset.datasets.sources.folder import list_files, walk
from dreamset.datasets.sources.image_files import IMAGE_ENDINGS, ImageFiles
from dreamset.datasets.sources.tables import HDF5_ENDINGS, NPZ_ENDING, HDF5Table, NpzTable, Table
from dreamset.datasets.sources.zarr_table import ZARR_ENDING, ZarrTable, is_zarr

_READERS: Mapping[str, Callable[[Path], Table]] = {
    NPZ_ENDING: NpzTable,
    **dict.fromkeys(HDF5_ENDINGS, HDF5Table),
    PARQUET_ENDING: ParquetTable,
    CSV_ENDING: CSVTable,
    NPY_ENDING: NpyTable,
}
# Of a folder, only files of the first kind that exists are read: a table beside the episodes may describe them.
_KINDS = ((NPZ_ENDING, *HDF5_ENDINGS), (PARQUET_ENDING,), (CSV_ENDING,), (ZARR_ENDING,))
IMAGES = "image"  # the column of image files that lie beside the other columns
_VIDEOS = {".mp4", ".mkv", ".avi", ".webm", ".mov"}
_ENDINGS = tuple(ending for kind in _KINDS for ending in kind)


def open_table(path: Path) -> Table:
    """The table of a file, of a zarr group, or of a folder whose files hold the columns.

    Raises:
        UserError: if the ending of the file is unknown.
    """
    if path.is_dir():
        return ZarrTable(path) if is_zarr(path) else _open_folder(path)
    if path.suffix in _READERS:
        return _READERS[path.suffix](path)
    raise UserError(f"{path}: the name ends in {path.suffix!r}; supported: {', '.join(_ENDINGS)}")


def tables_at(path: Path) -> list[Path]:
    """What to open at ``path``: itself if it is a file, a zarr group or holds one column per file, else what is in it.

    Raises:
        UserError: if there is none.
    """
    if not path.is_dir() or is_zarr(path):
        return [path]
    present = {entry.suffix for entry in path.iterdir()}
    if not present.isdisjoint((NPY_ENDING, *IMAGE_ENDINGS)) and present.isdisjoint(_KINDS[0]):
        return [path]
    kind = next((kind for kind in _KINDS if not present.isdisjoint(kind)), None)
    if kind is None:
        wanted = ", ".join(f"*{ending}" for ending in _ENDINGS)
        raise UserError(
            f"{path}: contains no files {wanted}; choose the folder that directly contains them{video_hint(path)}"
        )
    return list_files(path, kind)


def video_hint(path: Path) -> str:
    """For messages: what to do about videos directly in a folder; nothing if there are none."""
    if not path.is_dir() or all(entry.suffix.lower() not in _VIDEOS for entry in path.iterdir()):
        return ""
    return "; videos are read only in the layout of LeRobot (dataset=lerobot): convert them, or store images as arrays"


def _open_folder(path: Path) -> FolderTable:
    visible = [file for file in walk(path) if not file.name.startswith(".")]
    tables = {file: _READERS[file.suffix](file) for file in visible if file.suffix in _READERS}
    columns = [(file.relative_to(path).with_suffix("").as_posix(), table) for file, table in tables.items()]
    folders = dict.fromkeys(file.parent for file in visible if file.suffix in IMAGE_ENDINGS)
    images = [(IMAGES if at == path else at.relative_to(path).as_posix(), ImageFiles(at)) for at in folders]
    taken = {name for name, _ in columns}  # images beside an array of the same name are previews of it
    return FolderTable(path, (*columns, *(named for named in images if named[0] not in taken)))
