"""Converts Arrow's nested columns to numpy arrays with one row per step."""

import math
import re
from itertools import pairwise

import numpy as np
import pyarrow as pa

from dreamset.core.errors import UserError
from dreamset.datasets.episode import Array
from dreamset.datasets.sources.minari.storage import Layout, LeafPath

_TUPLE_ENTRY = re.compile(r"_index_([0-9]+)")


def leaf_field(schema: pa.Schema, path: LeafPath, where: str) -> tuple[LeafPath, pa.Field]:
    """The names of a leaf in Arrow, and its field.

    Raises:
        UserError: if it is missing or not a leaf.
    """
    names: list[str] = []
    node: pa.Schema | pa.StructType = schema
    for depth, name in enumerate(path):
        stored = _stored_name(node, name)
        if stored is None:
            place = "/".join(path[: depth + 1])
            raise UserError(f"{where}: {place!r} is missing; the file is incomplete, copy or download it again")
        names.append(stored)
        field = node.field(stored)
        node = field.type
    if pa.types.is_struct(node):
        raise UserError(f"{where}: {'/'.join(path)!r} is a group, expected an array; it does not match the metadata")
    return tuple(names), field


def field_layout(field: pa.Field, declared: tuple[int, ...] | None) -> Layout:
    """The layout of a leaf; ``declared`` is the shape of a row in the metadata, if any."""
    kind: pa.DataType = field.type
    shape: tuple[int, ...] = ()
    if pa.types.is_fixed_size_list(kind):
        shape = _row_shape(field, declared)
        kind = kind.value_type
    jpeg = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    if jpeg or not _is_number(kind):
        return Layout(shape, np.dtype(object), jpeg, None if jpeg else f"{_words(kind)}, not numbers,")
    return Layout(shape, np.dtype(kind.to_pandas_dtype()), False, "no numbers per row" if 0 in shape else None)


def leaf_values(table: pa.Table, names: LeafPath, place: str) -> Array:
    """The rows of a leaf: [rows], [rows, size] for arrays (stored flat), or objects for encoded images.

    Raises:
        UserError: if values are missing, or neither numbers nor bytes.
    """
    column = table.column(names[0]).combine_chunks()
    for outer, name in pairwise(names):
        _require_all(column, f"{place} (within {outer!r})")
        column = column.field(name)
    return _to_numpy(column, place)


def _to_numpy(column: pa.Array, place: str) -> Array:
    _require_all(column, place)
    kind = column.type
    if pa.types.is_fixed_size_list(kind):
        return _to_numpy(column.flatten(), place).reshape(len(column), kind.list_size)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return _encoded(column)
    if not _is_number(kind):
        raise UserError(f"{place} holds {_words(kind)}; allowed: numbers and encoded images; omit it")
    values: Array = column.to_numpy(zero_copy_only=False)
    return values


def _encoded(column: pa.Array) -> Array:
    images = np.empty(len(column), object)
    for row, image in enumerate(column):
        images[row] = np.frombuffer(image.as_buffer(), np.uint8)
    return images


def _require_all(column: pa.Array, place: str) -> None:
    if column.null_count:
        raise UserError(f"{place} lacks {column.null_count} of {len(column)} values; fix or drop the episode")


def _stored_name(node: pa.Schema | pa.StructType, name: str) -> str | None:
    """The stored name of an entry; Arrow names entries of a Tuple by their number."""
    if not isinstance(node, pa.Schema | pa.StructType):
        return None
    match = _TUPLE_ENTRY.fullmatch(name)
    candidates = [name, match[1]] if match else [name]
    return next((candidate for candidate in candidates if node.get_field_index(candidate) >= 0), None)


def _row_shape(field: pa.Field, declared: tuple[int, ...] | None) -> tuple[int, ...]:
    """The declared or recorded shape if it matches the number of values, else the flat shape."""
    size = field.type.list_size
    shape = _recorded_shape(field) if declared is None else declared
    return shape if shape is not None and math.prod(shape) == size else (size,)


def _recorded_shape(field: pa.Field) -> tuple[int, ...] | None:
    """The shape that is stored with infos, as "2,3", or "" for a single number."""
    text = (field.metadata or {}).get(b"shape")
    if text is None or not re.fullmatch(rb"([0-9]{1,9}(,[0-9]{1,9})*)?", text):
        return None
    return tuple(int(size) for size in text.split(b",") if size)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _words(kind: pa.DataType) -> str:
    return "text" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else f"{kind} elements"
