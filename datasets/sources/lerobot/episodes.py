"""Finds the files of LeRobot episodes: one layout before version 3, another from version 3."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from string import Formatter
from typing import Any

from dreamset.core.errors import UserError
from dreamset.datasets.sources.lerobot.meta import INFO, Info
from dreamset.datasets.sources.lerobot.parquet import extremes, read_columns

_LINES = "meta/episodes.jsonl"
_TABLES = "meta/episodes/*/*.parquet"
_DATA = "data/*/*.parquet"
_DIGITS = re.compile(r"(0?\d{1,2}d?)?")  # allowed formats of numbers in file names; large widths would exhaust memory
_HELP = "copy or download the dataset again"


@dataclass(frozen=True, slots=True)
class VideoPart:
    """The images of one camera for one episode."""

    file: Path
    start: float  # seconds from the beginning of the file to the episode's first frame


@dataclass(frozen=True, slots=True)
class Entry:
    """One episode."""

    index: int
    length: int  # frames
    data: Path
    videos: Mapping[str, VideoPart]  # by feature


@dataclass(frozen=True, slots=True)
class Listing:
    """All episodes by index, and the files that list them."""

    entries: Sequence[Entry]
    files: Sequence[Path]
    moved: int = 0  # episodes that another data file holds than the listed one


def list_episodes(root: Path, info: Info, videos: Sequence[str]) -> Listing:
    """Reads the list of episodes (version 2.0, 2.1 or 3.0), with the files of the features ``videos``.

    Raises:
        UserError: if the version is not supported, or the list is damaged or incomplete.
    """
    where = str(root / INFO)
    if info.version not in _LAYOUTS:
        supported = ", ".join(_LAYOUTS)
        raise UserError(f"{where}: codebase_version is {info.version}; supported: {supported}; convert the dataset")
    try:
        listing = _LAYOUTS[info.version](root, info, videos)
    except (ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{root / 'meta'}: the list of episodes is damaged ({error!r}); {_HELP}") from error
    listed = {entry.index for entry in listing.entries}
    if not len(listed) == len(listing.entries) == info.episodes > 0:
        raise UserError(
            f"{where}: total_episodes is {info.episodes}, but meta lists {len(listed)} distinct episodes; {_HELP}"
        )
    return listing


def _from_lines(root: Path, info: Info, videos: Sequence[str]) -> Listing:
    """Before version 3: one data file and one video file per episode."""
    file = root / _LINES
    if not file.is_file():
        raise UserError(f"{file}: no such file; {_HELP}")
    values = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]

    def entry(value: Mapping[str, Any]) -> Entry:
        index = int(value["episode_index"])
        numbers = {"episode_index": index, "episode_chunk": index // info.chunk_size}
        parts = {name: VideoPart(_path(root, info.video_path, numbers, name), 0.0) for name in videos}
        return Entry(index, int(value["length"]), _path(root, info.data_path, numbers), parts)

    return Listing(sorted(map(entry, values), key=lambda entry: entry.index), [file])


def _from_tables(root: Path, info: Info, videos: Sequence[str]) -> Listing:
    """From version 3: many episodes per file."""
    files = sorted(root.glob(_TABLES))
    if not files:
        raise UserError(f"{root / _TABLES}: no such files; {_HELP}")

    def entry(value: Mapping[str, Any]) -> Entry:
        parts = {name: _video_part(root, info, value, name) for name in videos}
        data = _path(root, info.data_path, _numbers(value, "data"))
        return Entry(int(value["episode_index"]), int(value["length"]), data, parts)

    listed = sorted(map(entry, _rows(files, videos)), key=lambda entry: entry.index)
    entries = _located(root, listed)
    return Listing(entries, files, sum(old.data != new.data for old, new in zip(listed, entries, strict=True)))


def _located(root: Path, entries: Sequence[Entry]) -> list[Entry]:
    """The entries with the data file that holds them; some writers list the file before it."""
    held = {file: extremes(file, "episode_index") for file in {entry.data for entry in entries}}
    if all(_holds(held[entry.data], entry.index, unknown=True) for entry in entries):
        return list(entries)
    held |= {file: extremes(file, "episode_index") for file in sorted(root.glob(_DATA)) if file not in held}

    def file_of(entry: Entry) -> Path:
        if _holds(held[entry.data], entry.index, unknown=True):
            return entry.data
        holders = [file for file, bounds in held.items() if _holds(bounds, entry.index, unknown=False)]
        return holders[0] if len(holders) == 1 else entry.data

    return [replace(entry, data=file_of(entry)) for entry in entries]


def _holds(bounds: tuple[int, int] | None, index: int, *, unknown: bool) -> bool:
    return unknown if bounds is None else bounds[0] <= index <= bounds[1]


def _rows(files: Sequence[Path], videos: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    columns = ["episode_index", "length", "data/chunk_index", "data/file_index"]
    for name in videos:
        columns += [f"videos/{name}/{part}" for part in ("chunk_index", "file_index", "from_timestamp")]
    for file in files:
        yield from read_columns(file, columns, str(file)).to_pylist()


def _video_part(root: Path, info: Info, value: Mapping[str, Any], name: str) -> VideoPart:
    place = f"videos/{name}"
    return VideoPart(
        _path(root, info.video_path, _numbers(value, place), name), float(value[f"{place}/from_timestamp"])
    )


def _numbers(value: Mapping[str, Any], place: str) -> dict[str, int]:
    return {part: int(value[f"{place}/{part}"]) for part in ("chunk_index", "file_index")}


def _path(root: Path, template: str, numbers: Mapping[str, int], video: str = "") -> Path:
    """Fills in a template of ``info.json``; refuses unknown fields and paths out of the dataset."""
    known = {**numbers, "video_key": video}
    fields = [part[1:] for part in Formatter().parse(template) if part[1] is not None]
    for field, written, conversion in fields:
        if field not in known or conversion or not _DIGITS.fullmatch(written or ""):
            raise UserError(f"{root / INFO}: {template!r} is not a template of {', '.join(known)}; {_HELP}")
    path = PurePosixPath(template.format(**known))
    if path.is_absolute() or ".." in path.parts:
        raise UserError(f"{root / INFO}: {str(path)!r} leads out of the dataset, which is refused")
    return root / path


_LAYOUTS: Mapping[str, Callable[[Path, Info, Sequence[str]], Listing]] = {
    "v2.0": _from_lines,
    "v2.1": _from_lines,
    "v3.0": _from_tables,
}
