"""Which of a Minari dataset's ``infos`` are columns: numbers, one row per observation, in every episode."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import h5py

from dreamset.core.errors import UserError
from dreamset.datasets.hdf5 import descend, describe_dtype, find, members, translated

Path = tuple[str, ...]  # of an info below the group "infos"

_DEEPEST = 16  # groups within groups: more is a cycle


@dataclass(frozen=True, slots=True)
class InfoScan:
    """The infos of all episodes, sorted out."""

    shapes: Mapping[Path, tuple[int, ...]]  # shape of a row, () or (size,)
    ignored: Mapping[str, str]  # name -> why it is no column


def scan_infos(file: h5py.File, episodes: Sequence[str], where: str) -> InfoScan:
    """Looks at the shapes and dtypes, not at the values, of every episode's infos."""
    shapes: dict[Path, tuple[int, ...]] = {}
    ignored: dict[str, str] = {}
    for count, episode in enumerate(episodes):
        place = f"{episode} of {where}"
        found = _row_shapes(file, episode, place)
        for path, (shape, reason) in found.items():
            reason = reason or _changed(shape, shapes.get(path), first=count == 0)
            shapes[path] = shape
            if reason:
                ignored.setdefault(info_name(path), f"{reason} in {episode}")
        for path in shapes.keys() - found.keys():
            ignored.setdefault(info_name(path), f"missing in {episode}")
    kept = {path: shape for path, shape in sorted(shapes.items()) if info_name(path) not in ignored}
    return InfoScan(kept, dict(sorted(ignored.items())))


def info_name(path: Sequence[str]) -> str:
    """The name of an info, or of an observation, by its path: groups joined with dots."""
    return ".".join(path).replace("/", ".")


def _row_shapes(file: h5py.File, episode: str, where: str) -> dict[Path, tuple[tuple[int, ...], str | None]]:
    """The shape of a row of every info of an episode, and why it cannot be a column if so."""
    infos = find(file[episode], "infos", where)
    if infos is None:
        return {}
    if not isinstance(infos, h5py.Group):
        raise UserError(f"{where}: 'infos' is an array, a group of arrays is needed; copy or download it again")
    with translated(where):
        rows = len(descend(file[episode], ("rewards",), where)) + 1
        return {path: (info.shape[1:], _unfit(info, rows)) for path, info in _datasets(infos, where)}


def _datasets(infos: h5py.Group, where: str) -> Iterator[tuple[Path, Any]]:
    stack: list[tuple[Path, h5py.Group]] = [((), infos)]
    while stack:
        prefix, node = stack.pop()
        if len(prefix) > _DEEPEST:
            raise UserError(
                f"{where}: infos are nested deeper than {_DEEPEST} groups, at {info_name(prefix)!r}; flatten"
            )
        for name, child in members(node, where).items():
            if isinstance(child, h5py.Dataset):
                yield (*prefix, name), child
            else:
                stack.append(((*prefix, name), child))


def _unfit(dataset: h5py.Dataset, rows: int) -> str | None:
    if dataset.dtype.kind not in "fiub":
        return f"{describe_dtype(dataset)}, not numbers,"
    if dataset.ndim not in (1, 2):
        return f"{dataset.ndim} axes instead of 1 or 2"
    if 0 in dataset.shape[1:]:
        return "no numbers per row"
    if len(dataset) != rows:
        return f"{len(dataset)} rows instead of {rows}"
    return None


def _changed(shape: tuple[int, ...], before: tuple[int, ...] | None, *, first: bool) -> str | None:
    if before is None:
        return None if first else "missing in earlier episodes, first seen"
    return None if before == shape else f"shape {shape} instead of {before}"
