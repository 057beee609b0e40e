"""Reads columns of parquet files as numpy arrays."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from dreamset.core.errors import UserError
from dreamset.datasets.episode import Array
from dreamset.datasets.sources.encoded import opened_image, plain, shape_of


def read_columns(file: Path, columns: Sequence[str], where: str, *, episode: int | None = None) -> pa.Table:
    """The columns of a file; if ``episode`` is given, only rows with that ``episode_index``.

    Raises:
        UserError: if the file or a column is missing or damaged; starts with ``where``.
    """
    if not file.is_file():
        raise UserError(f"{where}: {file.name} is missing in {file.parent}; download it, or drop the episode")
    filters = None if episode is None else [("episode_index", "=", episode)]
    with _translated(f"{where}: {file.name}"):
        table = pq.read_table(file, columns=list(columns), filters=filters, partitioning=None)
        missing = sorted(set(columns) - set(table.column_names))
        if missing:
            raise UserError(f"{where}: {missing[0]!r} is missing in {file.name}; copy or download the dataset again")
    return table


def extremes(file: Path, column: str) -> tuple[int, int] | None:
    """The smallest and the largest value of a column by the statistics of a file; None if it has none."""
    try:
        metadata = pq.read_metadata(file)
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        parts = [group.column(leaf) for group in groups for leaf in range(group.num_columns)]
    except (pa.ArrowException, OSError):  # reading the file reports it
        return None
    known = [part.statistics for part in parts if part.path_in_schema == column]
    if not known or not all(statistics is not None and statistics.has_min_max for statistics in known):
        return None
    return min(statistics.min for statistics in known), max(statistics.max for statistics in known)


def numbers(table: pa.Table, column: str, shape: Sequence[int], where: str) -> Array:
    """[rows, size] of a column of numbers or of lists of shape ``shape``; missing numbers become NaN.

    Raises:
        UserError: if rows have another shape or different shapes.
    """
    values, rows, size = table.column(column).combine_chunks(), len(table), math.prod(shape)
    while _is_list(values.type):
        if values.null_count or len(set(pc.list_value_length(values).to_pylist())) > 1:
            raise UserError(f"{where}: {column!r} holds lists of different lengths; drop or fix the episode")
        values = values.flatten()
    if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type) or pa.types.is_boolean(values.type)):
        raise UserError(f"{where}: {column!r} holds {values.type}, expected numbers; omit the column")
    if len(values) != rows * size:
        raise UserError(
            f"{where}: {column!r} holds {len(values) / max(rows, 1):g} numbers per row, info.json says {list(shape)}; "
            f"copy or download the dataset again"
        )
    array: Array = values.to_numpy(zero_copy_only=False)
    return array.reshape(rows, size)


def images(
    table: pa.Table, column: str, shape: tuple[int, int, int], size: tuple[int, int] | None, where: str
) -> NDArray[np.uint8]:
    """[rows, height, width, channels] of a column of PNG or JPEG files, shrunk to ``size`` if given.

    Raises:
        UserError: if an image is missing, damaged or of another shape.
    """
    height, width = size or shape[:2]
    frames = np.empty((len(table), height, width, shape[2]), np.uint8)
    step = 0
    for chunk in table.column(column).chunks:
        for value in chunk:
            encoded, place = value.as_py(), f"{where}: {column!r} at step {step}"
            frames[step] = _image(encoded, shape, (height, width), place).reshape(frames.shape[1:])
            step += 1
    return frames


def _image(value: Any, shape: tuple[int, int, int], size: tuple[int, int], place: str) -> NDArray[np.uint8]:
    encoded = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(encoded, bytes):
        raise UserError(f"{place} is stored outside of the table, which is refused; write the images into the table")
    with opened_image(encoded, place) as image:
        image_shape = (*shape_of(image), 1)[:3]
        if image_shape != shape:  # checked before the pixels are decoded
            raise UserError(
                f"{place} is an image of {list(image_shape)} in mode {image.mode}, info.json says {list(shape)}"
            )
        pixels = plain(image)
        resized = pixels.resize((size[1], size[0]), Image.Resampling.BOX) if size != shape[:2] else pixels
        return np.asarray(resized, np.uint8)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


@contextmanager
def _translated(where: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except (pa.ArrowException, OSError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{where}: unreadable, truncated or incomplete ({reason}); download it again") from error
