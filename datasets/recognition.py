"""Recognises the format of files, and names the dataset configuration that reads them."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py

from dreamset.core.errors import UserError
from dreamset.core.images import image_axes
from dreamset.datasets.hdf5 import members, opened
from dreamset.datasets.layout import MANIFEST
from dreamset.datasets.sources.columnar import CSV_ENDING, PARQUET_ENDING
from dreamset.datasets.sources.files import open_table, tables_at
from dreamset.datasets.sources.folder import list_files
from dreamset.datasets.sources.image_files import IMAGE_ENDINGS
from dreamset.datasets.sources.npz import ArrayHeader
from dreamset.datasets.sources.tables import HDF5_ENDINGS, NPZ_ENDING, HDF5Table

Headers = Mapping[str, ArrayHeader]

# Columns by the last part of their names, as people call them
ACTION = re.compile(r"(?:^|[/_.])(?:act|actions?|cmds?|commands?|controls?|ctrl)(?:$|[/_.])", re.IGNORECASE)
_REWARD = re.compile(r"^(?:rew|rewards?)$", re.IGNORECASE)
_TERMINAL = re.compile(r"^(?:dones?|terminals?|terminated|terminations?|is_terminal)$", re.IGNORECASE)
_LIMIT = re.compile(r"^(?:truncated|truncations?|timeouts?|is_last)$", re.IGNORECASE)
_EPISODE = re.compile(r"^(?:episode|traj|trajectory|run)(?:_?(?:id|index|number))?$", re.IGNORECASE)
_OTHER = re.compile(
    r"^(?:unnamed.*|index|steps?|time.*|is_first|discounts?|next_.*|infos?|frame_index|mask)$", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Recognized:
    """A format, and how to read it."""

    name: str  # "a Minari dataset"
    dataset: str  # the file in configs/dataset
    settings: Mapping[str, Any] = field(default_factory=dict)  # key below `dataset` -> value
    guessed: bool = False  # whether columns were chosen by their names


def recognize(path: Path) -> Recognized | None:
    """The format of a file or of a folder of files; None if it is unknown, damaged or a part of a store."""
    if (path.parent / MANIFEST).is_file():
        return None
    for rule in RULES:
        with suppress(UserError, OSError):
            if (found := rule(path)) is not None:
                return found
    return None


def _minari(path: Path) -> Recognized | None:
    below = [found.parent.parent for at in ("*", "*/*") for found in sorted(path.glob(f"{at}/data/metadata.json"))]
    for folder in (path, path.parent, path.parent.parent, *below):
        if any((folder / "data" / name).is_file() for name in ("metadata.json", "main_data.hdf5")):
            settings = {"id": None, "name": _store_name(folder), "source.path": str(folder)}
            return Recognized("a Minari dataset", "minari", settings)
    return None


def _lerobot(path: Path) -> Recognized | None:
    if not (path / "meta" / "info.json").is_file():
        return None
    return Recognized("a LeRobot dataset", "lerobot", {"source.path": str(path)})


def _hdf5(path: Path) -> Recognized | None:
    """The formats of single HDF5 files."""
    if path.suffix not in HDF5_ENDINGS:
        return None
    with opened(path) as file:
        root = members(file, str(path))
        names, settings = set(root), {"source.path": str(path)}
        if {"num_episodes", "observations_0", "actions_0", "rewards_0", "terminated_0"} <= names:
            return Recognized("a buffer of d3rlpy 2", "d3rlpy", settings)
        if {"observations", "actions", "rewards", "terminals"} <= names:
            return Recognized("a D4RL dataset", "d4rl", {"id": None, "name": _store_name(path), **settings})
        demonstrations = root.get("data")
        if not isinstance(demonstrations, h5py.Group) or not any(name.startswith("demo_") for name in demonstrations):
            return None
        first = next(name for name in demonstrations if name.startswith("demo_"))
    headers = HDF5Table(path, f"data/{first}").headers(str(path))
    chosen = observations({name: header for name, header in headers.items() if name.startswith("obs/")})
    if not chosen:
        return None
    return Recognized("a robomimic file", "robomimic", {**settings, "source.observations": chosen}, guessed=True)


def _dreamer(path: Path) -> Recognized | None:
    """Folders of npz files from agents of the Dreamer family."""
    files = list_files(path, [NPZ_ENDING])
    names = set(open_table(files[0]).headers(str(files[0])))
    settings = {"source.path": str(path)}
    if {"stepid", "is_first", "is_last", "action"} <= names:
        return Recognized("a replay buffer of DreamerV3", "dreamer_v3_replay", settings)
    if {"image", "action", "reward"} <= names and names & {"discount", "is_first"}:
        return Recognized("episodes of a Dreamer agent, or of V-D4RL (dataset=vd4rl)", "dreamer_episodes", settings)
    return None


def _image_folders(path: Path) -> Recognized | None:
    if not path.is_dir():
        return None
    for folder in sorted(entry for entry in path.iterdir() if entry.is_dir()):
        table = open_table(folder)
        if not any(file.suffix in IMAGE_ENDINGS for file in folder.rglob("*")):
            return None
        settings = {"source.path": str(path)} | _roles(table.headers(str(folder)))
        return Recognized("folders of images, one for each episode", "image_folder", settings, guessed=True)
    return None


def _tables(path: Path) -> Recognized | None:
    """Files of one's own, whose columns are named by everyone as they like."""
    file = tables_at(path)[0]
    dataset = {PARQUET_ENDING: "table", CSV_ENDING: "table", NPZ_ENDING: "npz_folder"}.get(file.suffix, "hdf5_folder")
    if file.is_dir() and not file.suffix:
        dataset = "npz_folder"  # .npy files
    headers = open_table(file).headers(str(file))
    settings: dict[str, Any] = {"source.path": str(path)}
    if groups := sorted({name.split("/")[0] for name in headers if "/" in name}):
        if all("/" in name for name in headers) and file.suffix in HDF5_ENDINGS:
            settings["source.boundaries"] = {"groups": ""}
            headers = HDF5Table(file, groups[0]).headers(str(file))
    elif boundaries := _boundaries(headers):
        settings["source.boundaries"] = boundaries
    elif dataset == "table":
        settings["source.boundaries"] = None
    return Recognized("files of your own", dataset, settings | _roles(headers), guessed=True)


def _boundaries(headers: Headers) -> dict[str, Any] | None:
    """How consecutive episodes in one table are told apart, by the names of its columns."""
    if marks := _named(headers, _EPISODE):
        return {"changes": marks[0]}
    limits = _named(headers, _LIMIT)
    return {"ends": [*_named(headers, _TERMINAL), *limits]} if limits else None


def _roles(headers: Headers) -> dict[str, Any]:
    """The settings of observations, action, reward and terminal.

    Raises:
        UserError: if no column has the name of an action, or none is left for observations.
    """
    actions, rewards, ends = (_named(headers, pattern) for pattern in (ACTION, _REWARD, _TERMINAL))
    if not actions:
        raise UserError("no column looks like an action")
    rows = headers[actions[0]].shape[0]  # of each step; observations may have one more
    known = {*actions, *rewards, *ends, *_named(headers, _LIMIT), *_named(headers, _EPISODE)}
    observed = observations(
        {name: h for name, h in headers.items() if name not in known and h.shape[:1] in ((rows,), (rows + 1,))}
    )
    if not observed:
        raise UserError("no column looks like an observation")
    return {
        "source.observations": observed,
        "source.action": actions if len(actions) > 1 else actions[0],
        "source.reward": rewards[0] if rewards else None,
        "source.terminal": ends[0] if ends else None,
    }


def observations(headers: Headers) -> dict[str, str | list[str]]:
    """Each column of images by its own name, and all vectors side by side as ``state``."""
    usable = {name: h for name, h in headers.items() if h.is_usable and h.shape and not _OTHER.match(_last(name))}
    images = [name for name, h in usable.items() if h.image is not None or image_axes(h.dtype.name, h.shape[1:])]
    vectors = [name for name, h in usable.items() if name not in images and len(h.shape) <= 2]
    state = {"state": vectors if len(vectors) > 1 else vectors[0]} if vectors else {}
    return {**{_last(name): name for name in images}, **state}


def _named(headers: Headers, pattern: re.Pattern[str]) -> list[str]:
    return [name for name, header in headers.items() if header.shape and pattern.search(_last(name))]


def _store_name(path: Path) -> str:
    """A name for the store, from that of the file or folder."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", path.stem) or "data"


def _last(name: str) -> str:
    return name.rpartition("/")[2]


RULES: Sequence[Callable[[Path], Recognized | None]] = (_minari, _lerobot, _hdf5, _dreamer, _image_folders, _tables)
